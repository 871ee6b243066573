"""Scores of any size as whole numbers that rank them.

A score exp(-alpha d) * s is soon too small for a floating-point number. Its rank is the bit pattern that it would have
as a float32 with an exponent without bounds, so that scores are compared with the 24 binary digits of a float32 however
small they are. What is equal but for the rounding of float64 has an equal rank.
"""

from __future__ import annotations

import math

import numpy as np

#: Ranks between a score and its double.
OCTAVE = 1 << 23
#: The rank of the score 0, below that of every other score.
NOTHING = -(1 << 62)
#: The exponent of 1 in the bit pattern of a float32.
BIAS = 127

# Ranks at most of which the largest stands for all.
_STRETCH = 64


def ranks(sums: np.ndarray, powers: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the rank of `sums * 2 ** -powers`, int64 in their shape.

    Args:
        sums: float64, not negative; those that are not 0 lie between the smallest normal float32 and half the largest.
        powers: from 0.
    """
    octaves = np.floor(powers)
    values = (sums * np.exp2(octaves - powers)).astype(np.float32)
    found = values.view(np.int32) - np.asarray(octaves, np.int64) * OCTAVE
    return np.where(values > 0, found, NOTHING)


def logs(ranked: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of scores given by rank, float64; that of the score 0 is minus infinity."""
    digits = ranked & (OCTAVE - 1)
    octaves = (ranked - digits) // OCTAVE - BIAS
    return np.where(ranked > NOTHING, octaves * np.log(2) + np.log1p(digits / OCTAVE), -np.inf)


def powers(distances: np.ndarray, alpha: float) -> np.ndarray:
    """Return -log2 of c = exp(-alpha d), which Eq 4.4 of Liu 2018 prints as exp(alpha d)."""
    return distances * (alpha / np.log(2))


def margin(error: float, alpha: float) -> int:
    """Return by how much a rank may be off where a distance is off by up to `error`."""
    # A rank rises fastest with the natural logarithm at the end of an octave: by 2 OCTAVE for 1.
    return math.ceil(2 * OCTAVE * alpha * error) + 2


def scores(logarithms: np.ndarray) -> np.ndarray:
    """Return scores given by their logarithms, float32; 0 below the smallest normal number, as TensorFlow has it."""
    found = np.exp(logarithms).astype(np.float32)
    return np.where(found < np.finfo(np.float32).tiny, np.float32(0), found)


def best_of_each(queries: np.ndarray, rows: np.ndarray, ranks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which items are the `n` best of their query, by query and best first, and their places among these.

    Args:
        queries: of the items, rising.
        rows: of the items, which decide between equal ranks.
        ranks: of the items, as of `ranks`.
    """
    items = np.flatnonzero(ranks >= bounds(ranks, queries, n))
    order = items[np.lexsort((rows[items], -ranks[items], queries[items]))]
    places = np.arange(len(order)) - np.searchsorted(queries[order], queries[order])
    return order[places < n], places[places < n]


def bound(sums: np.ndarray, n: int) -> float:
    """Return what the `n` largest sums of a query, and those of an equal rank, are not below, found as `bounds` does.

    Args:
        sums: float64 `[C]`, not negative.
    """
    stretch = min(max(1, len(sums) // (4 * n)), _STRETCH)
    # Without the last ones, which are fewer than a stretch has: the bound is no larger for it.
    peaks = sums[: len(sums) // stretch * stretch].reshape(stretch, -1).max(0)
    if len(peaks) <= n:
        return 0.0
    # Below all that a float32 rounds to the same.
    return float(np.nextafter(np.float32(np.partition(peaks, len(peaks) - n)[len(peaks) - n]), np.float32(0)))


def bounds(values: np.ndarray, queries: np.ndarray, n: int) -> np.ndarray:
    """Return what the `n` largest values of the same query are not below, and few of the others, for each value.

    Where `n` stretches of values have a peak of at least some number, as many values are not below it; peaks are found
    many times faster than a partition of all values.

    Args:
        values: `[C]`, above `NOTHING` or equal to it.
        queries: of the values, rising.
    """
    starts = np.flatnonzero(np.concatenate([[True], queries[1:] != queries[:-1]])[: len(queries)])
    lengths = np.diff(np.append(starts, len(queries)))
    longest = lengths.max(initial=0)
    if longest <= n:
        return np.full(len(values), NOTHING, values.dtype)
    stretch = min(max(1, longest // (4 * n)), _STRETCH)
    stretches = -(-longest // stretch)
    table = np.full((len(lengths), stretch * stretches), NOTHING, values.dtype)
    table[np.arange(table.shape[1]) < lengths[:, None]] = values
    peaks = table.reshape(len(lengths), stretch, stretches).max(1)
    return np.repeat(np.partition(peaks, stretches - n, axis=1)[:, stretches - n], lengths)
