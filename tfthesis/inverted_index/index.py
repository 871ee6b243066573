"""An index of images that is opened from its folder: arrays that stay on the disk until they are used."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index.cells import Lists
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.files import mapped, newest, read_manifest
from tfthesis.inverted_index.pyramid import patches_an_image
from tfthesis.inverted_index.signatures import Signatures


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of N images as one array of UTF-8 bytes.

    Attributes:
        text: uint8, all names without a gap.
        offsets: int64 `[N + 1]`; name i is `text[offsets[i]:offsets[i + 1]]`.
    """

    text: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def all(self) -> list[str]:
        """Return every name, in the order of the rows."""
        text, offsets = self.text.tobytes(), self.offsets.tolist()
        return [text[start:end].decode() for start, end in itertools.pairwise(offsets)]


@dataclasses.dataclass(frozen=True)
class Index:
    """An inverted index over one codebook or several; `search.search` asks it.

    Attributes:
        codebooks: one for each axis.
        patches: of an image.
        lists: the images of every cell.
        counts: int32 `[C]`, the different images of every cell: n_i of Eq 4.2.
        names: of the images, by row.
        signatures: of the images, None where it was built without.
        bytes: size of each file of the index.
    """

    codebooks: tuple[Codebook, ...]
    patches: int
    lists: Lists
    counts: np.ndarray
    names: Names
    signatures: Signatures | None
    bytes: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Words of each codebook."""
        return tuple(map(len, self.codebooks))

    def bytes_an_image(self) -> dict[str, float]:
        """Return what each file beside the codebooks takes for an image, in bytes, and "total"."""
        parts = {name: size / len(self) for name, size in self.bytes.items() if not name.startswith("codebook")}
        return {**parts, "total": sum(parts.values())}

    def describe(self) -> dict[str, Any]:
        """Return counts and sizes as JSON values."""
        described = {"images": len(self), "patches": self.patches, "words": list(self.sizes)}
        described |= {"cells": len(self.lists.keys), "postings": len(self.lists.postings)}
        kind = self.signatures.kind if self.signatures else None
        return {**described, "signatures": kind, "bytes_an_image": self.bytes_an_image()}


def open_index(folder: str | Path) -> Index:
    """Return the newest version of the index in `folder`, after every file was compared with its manifest.

    Another process may write a newer version meanwhile: this one goes on giving its own answers.

    Raises:
        UserError: there is no index, or a file is missing or damaged.
    """
    folder = Path(folder)
    version = newest(folder)
    try:
        return _open_version(version)
    except (UserError, FileNotFoundError):
        # A newer version takes the place of the one that was being opened.
        if newest(folder) == version:
            raise
        return open_index(folder)


def _open_version(folder: Path) -> Index:
    manifest = read_manifest(folder)
    arrays = {name.removesuffix(".npy"): mapped(folder / name) for name in manifest["files"]}
    signature = manifest["signature"]
    return Index(
        codebooks=tuple(Codebook(arrays[f"codebook_{axis}"]) for axis in range(len(manifest["words"]))),
        patches=manifest["patches"],
        lists=Lists(arrays["keys"], arrays["offsets"], arrays["postings"]),
        counts=arrays["counts"],
        names=Names(arrays["names"], arrays["name_offsets"]),
        signatures=signature
        and Signatures(signature["kind"], tuple(signature["widths"]), arrays["signatures"], arrays.get("scales")),
        bytes={name.removesuffix(".npy"): described["bytes"] for name, described in manifest["files"].items()},
    )


def thesis_bytes(widths: Sequence[int], patches: int = patches_an_image()) -> int:
    """Return the bytes an image in the layout of the thesis: 4 a patch for the image, 4 a number of each signature.

    With signatures of 512 numbers and 14 patches, 2,104 bytes in one dimension and 4,152 in two. What the thesis leaves
    out, and `Index.bytes_an_image` counts, are the cells themselves and the names.

    Source: Liu 2018, Table 4.4.
    """
    return 4 * patches + sum(4 * width for width in widths)
