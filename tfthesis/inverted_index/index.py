"""An index of images that is opened from its folder: arrays that stay on the disk until they are used."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
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
        if not 0 <= row < len(self):
            raise IndexError(f"row: expected from 0 to {len(self) - 1}, got {row}; in answers, -1 stands for no image")
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the names of images by row, objects in the shape of `rows`; the empty text where the row is -1."""
        rows = np.asarray(rows)
        names = [self[row] if row != -1 else "" for row in rows.reshape(-1).tolist()]
        return np.array(names, object).reshape(rows.shape)

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
        about: what `build_index` was told about the features, JSON values.
    """

    codebooks: tuple[Codebook, ...]
    patches: int
    lists: Lists
    counts: np.ndarray
    names: Names
    signatures: Signatures | None
    bytes: dict[str, int]
    about: dict[str, Any]

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
        return {**described, "signatures": kind, "bytes_an_image": self.bytes_an_image(), "about": self.about}


def open_index(folder: str | Path, about: Mapping[str, Any] | None = None) -> Index:
    """Return the newest version of the index in `folder`, after every file was compared with its manifest.

    Another process may write a newer version meanwhile: this one goes on giving its own answers.

    Args:
        about: what the features are expected to be, as `build_index` was told; None does not look.

    Raises:
        UserError: there is no index, a file is missing or damaged, or the index is of other features.
    """
    folder = Path(folder)
    version = newest(folder)
    try:
        index = _open_version(version)
    except (UserError, FileNotFoundError):
        # A newer version takes the place of the one that was being opened.
        if newest(folder) == version:
            raise
        return open_index(folder, about)
    if about is not None:
        check_about(folder, index.about, about)
    return index


def as_about(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of features as a manifest gives it back; a `UserError` says that it is not JSON."""
    try:
        found = json.loads(json.dumps(about, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"about: expected a mapping of JSON values, got {about!r}: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"about: expected a mapping of JSON values, got {about!r}")
    return found


def check_about(what: object, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a `UserError` that names where the features of an index, as it was told, are not those expected."""
    expected = as_about(expected)
    differing = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    if differing:
        mine, theirs = ({name: part.get(name) for name in differing} for part in (expected, found))
        raise UserError(f"{what}: expected an index of features with {mine}, found one with {theirs}")


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
        about=manifest["about"],
    )


def thesis_bytes(widths: Sequence[int], patches: int = patches_an_image()) -> int:
    """Return the bytes an image in the layout of the thesis: 4 a patch for the image, 4 a number of each signature.

    With signatures of 512 numbers and 14 patches, 2,104 bytes in one dimension and 4,152 in two. What the thesis leaves
    out, and `Index.bytes_an_image` counts, are the cells themselves and the names.

    Source: Liu 2018, Table 4.4.
    """
    return 4 * patches + sum(4 * width for width in widths)
