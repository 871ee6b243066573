"""Global image signatures: one feature of the whole image that weighs every match (Liu 2018, section 4.3.3).

A signature is kept as its root feature, so that the Hellinger kernel of two is their inner product. An image has one
signature for each axis of the index; they stand side by side in a row.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from tfthesis.errors import closest
from tfthesis.inverted_index.options import KINDS

_LARGEST_INT8 = 127
# Numbers of signatures that are compared at a time: few enough for the processor's cache.
_NUMBERS = 1 << 17


def check_kind(kind: str) -> str:
    """Return `kind` if it is one of `KINDS`; a `UserError` names the nearest."""
    if kind not in KINDS:
        raise closest(str(kind), KINDS, "kind of signature")
    return kind


def rooted(vectors: np.ndarray) -> np.ndarray:
    """Return the root features of vectors `[..., M]`: L1-normalised, then the square root of every number, float32.

    Features after a principal component analysis have negative numbers: their roots keep the sign of the number, and
    the sum of absolute values is what they are divided by (the thesis does not say; our choice). Zero vectors stay
    zero.

    Source: Liu 2018, section 4.3.3.
    """
    vectors = np.asarray(vectors, np.float64)
    sums = np.abs(vectors).sum(-1, keepdims=True)
    roots = np.sqrt(np.abs(vectors) / np.where(sums > 0, sums, 1))
    return np.copysign(roots, vectors).astype(np.float32)


def hellinger_distance(similarity: np.ndarray) -> np.ndarray:
    """Return d = 2 - 2 S of Hellinger kernels S, float64, from 0 to 4; from 0 to 2 without negative numbers.

    S is rounded to float32 first, so that equal signatures have equal distances wherever they stand, and what rounding
    puts below 0 is 0, so that a match never weighs more than without signatures.

    Source: Liu 2018, section 4.3.3.
    """
    return np.maximum(2.0 - 2.0 * np.asarray(similarity, np.float32).astype(np.float64), 0.0)


@dataclasses.dataclass(frozen=True)
class Signatures:
    """The signatures of N images.

    Attributes:
        kind: one of `KINDS`.
        widths: M of each axis.
        values: `[N, sum of M]`, root features as `kind` keeps them.
        scales: `[N, axes]` float32, what int8 numbers are multiplied with; None for the other kinds.
    """

    kind: str
    widths: tuple[int, ...]
    values: np.ndarray
    scales: np.ndarray | None

    @property
    def error(self) -> float:
        """How far from each other `distances` by float32 and by float64 may be."""
        # Each product is off by 2^-24 of itself, and each sum; lengths of roots are 1, and below 2 after rounding.
        return sum(4 * (width + 8) * 2.0**-24 for width in self.widths)

    def distances(
        self, queries: np.ndarray, rows: np.ndarray, roots: Sequence[np.ndarray], dtype: type = np.float64
    ) -> np.ndarray:
        """Return the distances between queries and images, summed over the axes, float64 `[C]`.

        Args:
            queries: the query of each pair, rising, `[C]`.
            rows: the image of each pair, `[C]`.
            roots: root features of the queries, `[B, M]` for each axis.
            dtype: of the products. What float64 rounds is gone when the kernel is rounded to float32.
        """
        wide = [np.asarray(part, dtype) for part in roots]
        similarity = np.empty((len(self.widths), len(rows)), dtype)
        step = max(1, _NUMBERS // sum(self.widths))
        # Filled again and again: fresh memory would take more time than the products.
        kept = np.empty((min(step, len(rows)), sum(self.widths)), self.values.dtype)
        numbers = np.empty(kept.shape, dtype)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            count = len(rows[part])
            # Rows are known to be good; unlike "raise", "clip" needs no copy.
            np.take(self.values, rows[part], axis=0, out=kept[:count], mode="clip")
            values = numbers[:count]
            values[...] = kept[:count]
            left = 0
            for axis, width in enumerate(self.widths):
                _products(values[:, left : left + width], queries[part], wide[axis], similarity[axis, part])
                left += width
        found = np.zeros(len(rows))
        for axis, part in enumerate(similarity):
            if self.scales is not None:
                part *= self.scales[:, axis].take(rows)
            found += hellinger_distance(part)
        return found

    def decoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the root features of images `[C]`, float32 `[C, M]` for each axis, rounded as `kind` does."""
        values = self.values[rows].astype(np.float32)
        parts = np.split(values, np.cumsum(self.widths)[:-1], axis=1)
        if self.scales is None:
            return parts
        return [part * self.scales[rows, axis, None] for axis, part in enumerate(parts)]


def _products(values: np.ndarray, queries: np.ndarray, roots: np.ndarray, out: np.ndarray) -> None:
    """Write inner products of `values` `[C, M]` with the root feature of their query to `out`; queries rise."""
    bounds = [0, len(queries)]
    if queries[0] != queries[-1]:
        bounds[1:1] = (np.flatnonzero(np.diff(queries)) + 1).tolist()
    for start, stop in itertools.pairwise(bounds):
        np.matmul(values[start:stop], roots[queries[start]], out=out[start:stop])


def encode(vectors: Sequence[np.ndarray], kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return `values` and `scales` of `Signatures` for features `[N, M]` of each axis, which are rooted here.

    Raises:
        UserError: the kind is unknown.
    """
    parts = [rooted(part) for part in vectors]
    if check_kind(kind) != "int8":
        return np.concatenate(parts, axis=1).astype(kind), None
    scales = np.stack([np.abs(part).max(1) for part in parts], axis=1) / np.float32(_LARGEST_INT8)
    quotients = [part / np.where(scale > 0, scale, 1)[:, None] for part, scale in zip(parts, scales.T, strict=True)]
    return np.rint(np.concatenate(quotients, axis=1)).astype(np.int8), scales
