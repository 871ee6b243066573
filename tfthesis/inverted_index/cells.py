"""Cells of an index and the images in them, as sorted arrays.

An index over D codebooks has as many cells as there are tuples of words, of which only those with images are kept. A
cell's key is the tuple read as a number, so that one sorted array of keys finds cells in any number of dimensions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from tfthesis.errors import UserError

#: Postings that are sorted at a time while lists are joined.
JOINED = 1 << 21

_LARGEST_KEY = np.iinfo(np.int64).max


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the codebooks if the keys of their cells fit 63 bits.

    Raises:
        UserError: there is no codebook, or their product is too large.
    """
    if not sizes:
        raise UserError("codebooks: expected at least one, got none")
    if math.prod(sizes) > _LARGEST_KEY:
        raise UserError(f"codebooks: expected at most 2^63 cells, got {' x '.join(map(str, sizes))}")
    return tuple(sizes)


def cell_keys(words: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Return the key of the cell of each tuple of words, int64 in the shape of one array of `words`."""
    keys = np.zeros(words[0].shape, np.int64)
    for numbers, size in zip(words, sizes, strict=True):
        keys *= size
        keys += numbers
    return keys


def cell_grid(words: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Return the keys of all cells that k words of each axis span, int64 `[N, k ** D]`.

    Args:
        words: int32 `[N, k]` of each axis.

    Source: multiple assignment of Liu 2018, section 4.4.2; in two dimensions each row word meets each column word.
    """
    keys = np.zeros((len(words[0]), 1), np.int64)
    for numbers, size in zip(words, sizes, strict=True):
        keys = (keys[:, :, None] * size + numbers[:, None, :]).reshape(len(keys), keys.shape[1] * numbers.shape[1])
    return keys


@dataclasses.dataclass(frozen=True)
class Lists:
    """The images of every cell that has some.

    Attributes:
        keys: int64 `[C]`, rising.
        offsets: int64 `[C + 1]`; the images of cell c are `postings[offsets[c]:offsets[c + 1]]`.
        postings: int32 `[T]`, rows of images, one for each patch, rising within a cell.
    """

    keys: np.ndarray
    offsets: np.ndarray
    postings: np.ndarray

    def places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places in `self.keys` of the cells `keys` that have images, and bool, which of `keys` they are."""
        places = np.searchsorted(self.keys, keys)
        known = places < len(self.keys)
        known[known] = self.keys[places[known]] == keys[known]
        return places[known], known

    def images(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the postings of cells, one list after the other, and the length of each list."""
        starts, ends = self.offsets[places], self.offsets[places + 1]
        lists = [self.postings[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(lists) if lists else self.postings[:0], ends - starts


def sorted_lists(keys: np.ndarray, rows: np.ndarray) -> Lists:
    """Return the lists of postings that are given by cell and image.

    Args:
        keys: int64 `[T]` in any order.
        rows: int32 `[T]`, rising.
    """
    # The sort is stable, so that rows go on rising within a cell.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    return Lists(keys[starts], np.append(starts, len(keys)), rows[order])


@dataclasses.dataclass(frozen=True)
class Part:
    """Lists that are joined with others.

    Attributes:
        lists: of the part.
        rows: the number that is added to a row, or the new row of each row, int32, -1 for those that are left out.
            Rows that rise go on rising, and those of a part lie above those of the parts before it.
    """

    lists: Lists
    rows: int | np.ndarray

    def between(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and new rows of the postings in cells from `low` up to but without `high`."""
        lists = self.lists
        first, last = np.searchsorted(lists.keys, [low, high])
        offsets = np.asarray(lists.offsets[first : last + 1])
        keys = np.repeat(lists.keys[first:last], np.diff(offsets))
        rows = lists.postings[offsets[0] : offsets[-1]]
        if not isinstance(self.rows, np.ndarray):
            return keys, rows + np.int32(self.rows)
        rows = self.rows[rows]
        return keys[rows >= 0], rows[rows >= 0]


def joined(parts: Sequence[Part], limit: int = JOINED) -> Iterator[Lists]:
    """Yield the lists of all parts together, in pieces of rising keys that hold whole cells.

    Little more than `limit` postings are in memory at a time, unless one cell has more.
    """
    for low, high in _ranges(parts, limit):
        keys, rows = zip(*(part.between(low, high) for part in parts), strict=True)
        lists = sorted_lists(np.concatenate(keys), np.concatenate(rows))
        if len(lists.keys):
            yield lists


def _ranges(parts: Sequence[Part], limit: int) -> Iterator[tuple[int, int]]:
    """Yield bounds of keys between which each part has its share of `limit` postings, beside one cell."""
    step = max(1, limit // max(1, len(parts)))
    marks = []
    for part in parts:
        lists = part.lists
        places = np.searchsorted(lists.offsets, np.arange(step, len(lists.postings), step), side="right") - 1
        marks.append(lists.keys[places])
    low = 0
    for high in [*np.unique(np.concatenate(marks)).tolist(), _LARGEST_KEY]:
        if high > low:
            yield low, high
        low = high


def images_in_cells(lists: Lists) -> np.ndarray:
    """Return the number of different images in each cell, int32 `[C]`: n_i of Eq 4.2."""
    postings = lists.postings
    fresh = np.concatenate([[True], postings[1:] != postings[:-1]]) if len(postings) else np.zeros(0, bool)
    fresh[lists.offsets[:-1]] = True
    return np.add.reduceat(fresh, lists.offsets[:-1], dtype=np.int32) if len(lists.keys) else np.zeros(0, np.int32)
