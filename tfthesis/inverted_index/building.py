"""Indexes are built, appended to, removed from and merged, each in one pass over blocks of images.

Every change writes a new version from sorted lists: those of the index that is there, and those of the new images,
which are put aside run by run. So what is in memory does not grow with the lists, and an index that was appended to or
merged is, byte for byte, the one that is built at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index.cells import (
    Lists,
    Part,
    cell_keys,
    check_sizes,
    images_in_cells,
    joined,
    sorted_lists,
)
from tfthesis.inverted_index.checks import as_names, each, shapes_of
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.files import GrowingArray, mapped, new_version, newest, write_manifest
from tfthesis.inverted_index.index import Index, as_about, check_about, open_index
from tfthesis.inverted_index.options import MOST_IMAGES
from tfthesis.inverted_index.signatures import check_kind, encode

#: Postings that are held before they are sorted and put aside: 48 MiB.
RUN = 1 << 22

# Images that are copied at a time from one version to the next.
_COPIED = 1 << 16


class Images(NamedTuple):
    """A block of B images.

    Attributes:
        names: one an image, unique in the index and not empty.
        features: of the patches, `[B, P, D]` for each axis, as the codebooks were fitted to.
        signatures: features of the whole images, `[B, M]` for each axis; empty for an index without signatures.
    """

    names: Sequence[str]
    features: Sequence[np.ndarray]
    signatures: Sequence[np.ndarray] = ()


def build_index(
    folder: str | Path,
    codebooks: Sequence[Codebook],
    blocks: Iterable[Images],
    *,
    signature: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Index:
    """Write an index of images, in place of one that is in `folder`, and open it.

    Args:
        codebooks: one for each axis.
        blocks: read once; memory grows with the largest of them and the names, not with their number.
        signature: how signatures are kept, one of `signatures.KINDS`; None keeps none.
        about: what the features are, such as the encoder, its layers and their width after the projection; JSON values,
            which `open_index` compares.

    Raises:
        UserError: there are no images, two have the same name, arrays do not fit, there are signatures that would not
            be kept, or the disk is full. Then `folder` is as it was.
    """
    codebooks = list(each(codebooks, (Codebook,), "codebooks"))
    if signature is not None:
        check_kind(signature)
    check_sizes([len(codebook) for codebook in codebooks])
    folder, about = Path(folder), as_about(about or {})
    with new_version(folder) as draft, _Writer(draft, codebooks, signature, about) as writer:
        for block in each(blocks, (Images,), "blocks of images"):
            writer.add(block)
        writer.finish()
    return open_index(folder)


def append_images(folder: str | Path, blocks: Iterable[Images], about: Mapping[str, Any] | None = None) -> Index:
    """Add images behind those of the index in `folder`, and open it.

    Arguments and errors are those of `build_index` and `open_index`.
    """
    return _changed(Path(folder), blocks, (), about)


def remove_images(folder: str | Path, names: Iterable[str]) -> Index:
    """Remove images from the index in `folder`, and open it; the others move up in their order.

    Raises:
        UserError: a name is not in the index, no image would be left, or as `open_index`.
    """
    return _changed(Path(folder), (), as_names(names, "names of images to remove"))


def merge_indexes(folder: str | Path, sources: Sequence[str | Path]) -> Index:
    """Write the images of several indexes, one after the other, in place of an index in `folder`, and open it.

    Args:
        sources: folders of indexes with the same codebooks, patches and signatures.

    Raises:
        UserError: there are none, they differ, two images have the same name, or as `open_index`.
    """
    sources = list(each(sources, (str, os.PathLike), "sources"))
    if not sources:
        raise UserError("sources: expected at least one index to merge, got none")
    with new_version(Path(folder)) as draft:
        # Opened while the folder is locked: it may be one of them, and change until then.
        indexes = [open_index(source) for source in sources]
        with _writer_like(draft, indexes[0]) as writer:
            for index in indexes:
                writer.copy(index)
            writer.finish()
    return open_index(folder)


def _changed(
    folder: Path, blocks: Iterable[Images], removed: Iterable[str], about: Mapping[str, Any] | None = None
) -> Index:
    newest(folder)  # so that a folder without an index is named before it is written to
    with new_version(folder) as draft:
        index = open_index(folder, about)
        with _writer_like(draft, index) as writer:
            writer.copy(index, removed)
            for block in each(blocks, (Images,), "blocks of images"):
                writer.add(block)
            writer.finish()
    return open_index(folder)


def _writer_like(draft: Path, index: Index) -> _Writer:
    return _Writer(draft, index.codebooks, index.signatures.kind if index.signatures else None, index.about)


class _Writer:
    """Fills the folder of a version; a context manager that closes its files."""

    def __init__(self, draft: Path, codebooks: Sequence[Codebook], kind: str | None, about: Mapping[str, Any]):
        self._draft, self._codebooks, self._kind, self._about = draft, codebooks, kind, about
        self._sizes = [len(codebook) for codebook in codebooks]
        self._patches: int | None = None
        self._widths: list[int] | None = None
        self._names: set[str] = set()
        self._parts: list[Part] = []
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._held_rows = 0
        self._files = contextlib.ExitStack()
        self._arrays: dict[str, GrowingArray] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.__exit__(*exception)

    def add(self, block: Images) -> None:
        """Add a block of images."""
        block = block._replace(names=as_names(block.names, "names of images"))
        count = len(block.names)
        if not count:
            return
        first = len(self._names)
        words = self._words(block)
        self._add_names(block.names)
        if self._kind is None:
            self._check_no_signatures(block)
        else:
            self._add_signatures(*encode(self._checked_signatures(block), self._kind))
        rows = np.repeat(np.arange(first, first + count, dtype=np.int32), self._patches)
        self._held.append((cell_keys(words, self._sizes).reshape(-1), rows))
        self._held_rows += len(rows)
        if self._held_rows >= RUN:
            self._put_aside()

    def copy(self, index: Index, removed: Iterable[str] = ()) -> None:
        """Add the images of an index, which has the same codebooks, without those of the names `removed`."""
        self._check_alike(index)
        names, removed = index.names.all(), set(removed)
        unknown = removed.difference(names)
        if unknown:
            raise UserError(f"image {min(unknown)!r} is not in the index; nothing was removed")
        first = len(self._names)
        kept = np.array([name not in removed for name in names])
        rows = np.where(kept, first + np.cumsum(kept) - 1, -1).astype(np.int32)
        self._put_aside()
        self._parts.append(Part(index.lists, rows if removed else first))
        for start in range(0, len(index), _COPIED):
            chosen = start + np.flatnonzero(kept[start : start + _COPIED])
            self._add_names([names[row] for row in chosen])
            if index.signatures is not None:
                scales = index.signatures.scales
                self._add_signatures(index.signatures.values[chosen], None if scales is None else scales[chosen])

    def finish(self) -> None:
        """Join the lists and write the manifest."""
        if not self._names:
            raise UserError("images: expected at least one for an index, got none")
        self._put_aside()
        end = 0
        for lists in joined(self._parts):
            self._append("keys", "<i8", lists.keys)
            self._append("offsets", "<i8", end + lists.offsets[:-1])
            self._append("counts", "<i4", images_in_cells(lists))
            self._append("postings", "<i4", lists.postings)
            end += len(lists.postings)
        self._append("offsets", "<i8", np.array([end]))
        for axis, codebook in enumerate(self._codebooks):
            self._append(f"codebook_{axis}", "<f4", codebook.words)
        self._files.close()
        shutil.rmtree(self._draft / "runs", ignore_errors=True)
        signature = self._kind and {"kind": self._kind, "widths": self._widths}
        described = {"words": self._sizes, "patches": self._patches, "images": len(self._names)}
        described |= {"cells": self._arrays["keys"].rows, "postings": end, "signature": signature}
        described |= {"about": self._about}
        write_manifest(self._draft, described)

    def _words(self, block: Images) -> list[np.ndarray]:
        """Return the nearest word of each patch, int32 `[B, P]` for each axis."""
        shapes = shapes_of(block.features, "features of images")
        patches = self._patches or (shapes[0][1] if shapes and len(shapes[0]) == 3 else 0)
        expected = [(len(block.names), patches, codebook.words.shape[1]) for codebook in self._codebooks]
        if shapes != expected or not patches:
            wished, got = ([list(shape) for shape in part] for part in (expected, shapes))
            raise UserError(f"features of images: expected shapes {wished}, one for each codebook, got {got}")
        self._patches = patches
        return [
            codebook.nearest(np.reshape(part, (-1, np.shape(part)[2]))).reshape(np.shape(part)[:2])
            for codebook, part in zip(self._codebooks, block.features, strict=True)
        ]

    def _check_no_signatures(self, block: Images) -> None:
        shapes = shapes_of(block.signatures, "signatures of images")
        if shapes:
            raise UserError(
                "signatures of images: expected none, since the index keeps none; leave them out, or build it with a "
                f"kind of signature such as 'float32'; got shapes {[list(shape) for shape in shapes]}"
            )

    def _checked_signatures(self, block: Images) -> Sequence[np.ndarray]:
        shapes = shapes_of(block.signatures, "signatures of images")
        widths = self._widths or [shape[1] for shape in shapes if len(shape) == 2]
        expected = [(len(block.names), width) for width in widths]
        if shapes != expected or len(shapes) != len(self._codebooks):
            got = [list(shape) for shape in shapes]
            raise UserError(
                f"signatures of images: expected shape [{len(block.names)}, width] for each of {len(self._codebooks)} "
                f"axes, of widths {self._widths or 'alike in all blocks'}, got {got}"
            )
        if not all(np.isfinite(part).all() for part in block.signatures):
            raise UserError("signatures of images: expected finite numbers, got NaN or infinity")
        self._widths = widths
        return block.signatures

    def _check_alike(self, index: Index) -> None:
        check_about("indexes to merge", index.about, self._about)
        same = all(
            np.array_equal(mine.words, theirs.words)
            for mine, theirs in zip(self._codebooks, index.codebooks, strict=False)
        )
        if len(self._codebooks) != len(index.codebooks) or not same:
            raise UserError("indexes to merge: expected the same codebooks, got different ones")
        kind, widths = (index.signatures.kind, list(index.signatures.widths)) if index.signatures else (None, None)
        mine, theirs = (self._patches, self._kind, self._widths), (index.patches, kind, widths)
        if self._names and mine != theirs:
            raise UserError(f"indexes to merge: expected patches, kind and widths of signatures {mine}, got {theirs}")
        self._patches, self._kind, self._widths = theirs

    def _add_names(self, names: Sequence[str]) -> None:
        before = len(self._names)
        if before + len(names) > MOST_IMAGES:
            raise UserError(f"images: expected at most {MOST_IMAGES}, got more")
        texts = []
        for name in names:
            if name in self._names:
                raise UserError(f"names of images: expected unique names, got {name!r} twice")
            self._names.add(name)
            try:
                texts.append(name.encode())
            except UnicodeEncodeError as error:
                raise UserError(f"names of images: {name!r} is not valid Unicode text: {error}") from error
        if "names" not in self._arrays:
            self._append("name_offsets", "<i8", np.zeros(1, np.int64))
            self._append("names", "|u1", np.zeros(0, np.uint8))
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        self._append("name_offsets", "<i8", self._arrays["names"].rows + ends)
        self._append("names", "|u1", np.frombuffer(b"".join(texts), np.uint8))

    def _add_signatures(self, values: np.ndarray, scales: np.ndarray | None) -> None:
        self._append("signatures", values.dtype.str, values)
        if scales is not None:
            self._append("scales", "<f4", scales)

    def _put_aside(self) -> None:
        """Sort the postings that are held and write them to files of their own."""
        if not self._held:
            return
        keys, rows = map(np.concatenate, zip(*self._held, strict=True))
        self._held, self._held_rows = [], 0
        lists = sorted_lists(keys, rows)
        folder = self._draft / "runs"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{len(self._parts)}_{name}.npy" for name in ("keys", "offsets", "postings")]
        for path, array in zip(paths, (lists.keys, lists.offsets, lists.postings), strict=True):
            with GrowingArray(path, array.dtype.str) as file:
                file.append(array)
        self._parts.append(Part(Lists(*map(mapped, paths)), 0))

    def _append(self, name: str, dtype: str, rows: np.ndarray) -> None:
        if name not in self._arrays:
            file = GrowingArray(self._draft / f"{name}.npy", dtype, rows.shape[1:])
            self._arrays[name] = self._files.enter_context(file)
        self._arrays[name].append(rows)
