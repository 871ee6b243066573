"""Global image signatures: one feature of the whole image that weighs every match (Liu 2018, section 4.3.3).

A signature is kept as its root feature, so that the Hellinger kernel of two is their inner product. An image has one
signature for each axis of the index; they stand side by side in a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfthesis.errors import closest

#: How numbers are kept: as float32, as float16, or as int8 with one scale for each signature.
KINDS = ("float32", "float16", "int8")

_LARGEST_INT8 = 127
# Signatures that are compared at a time.
_ROWS = 4096


def check_kind(kind: str) -> str:
    """Return `kind` if it is one of `KINDS`; a `UserError` names the nearest."""
    if kind not in KINDS:
        raise closest(kind, KINDS, "kind of signature")
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

    def distances(self, rows: np.ndarray, query: Sequence[np.ndarray]) -> np.ndarray:
        """Return the distance between images and a query, summed over the axes, float64 `[C]`.

        Args:
            rows: of the images, `[C]`.
            query: the root feature `[M]` of each axis.
        """
        found = np.zeros(len(rows))
        wide = [np.asarray(part, np.float64) for part in query]
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            # In float64, whose rounding is gone when the kernel is rounded to float32.
            values = self.values.take(rows[part], axis=0).astype(np.float64)
            left = 0
            for axis, width in enumerate(self.widths):
                similarity = values[:, left : left + width] @ wide[axis]
                if self.scales is not None:
                    similarity *= self.scales[rows[part], axis]
                found[part] += hellinger_distance(similarity)
                left += width
        return found

    def decoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the root features of images `[C]`, float32 `[C, M]` for each axis, rounded as `kind` does."""
        values = self.values[rows].astype(np.float32)
        parts = np.split(values, np.cumsum(self.widths)[:-1], axis=1)
        if self.scales is None:
            return parts
        return [part * self.scales[rows, axis, None] for axis, part in enumerate(parts)]


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
