"""Adaptive late fusion: weights of a query's scores from the areas below their sorted curves."""

from __future__ import annotations

import numpy as np

#: Numbers of a block of similarities: 64 MiB of float32, whatever the gallery's size.
BLOCK = 1 << 24
#: Added to an area, so that a query without any positive score weighs all scores alike.
EPSILON = 1e-12


def positive_areas(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the summed positive similarities of each query to all candidates (Eq 6.9): float64 `[Q]`.

    The area below a sorted score curve is the sum of its scores, so nothing is sorted. Similarities are inner
    products, computed in blocks: memory does not grow with the gallery.

    Args:
        queries: `[Q, D]`, candidates: `[N, D]`; L2-normalised for the cosine.
    """
    areas = np.zeros(len(queries), np.float64)
    rows = max(1, min(len(queries), 1024))
    columns = max(1, BLOCK // rows)
    for i in range(0, len(queries), rows):
        for j in range(0, len(candidates), columns):
            scores = queries[i : i + rows] @ candidates[j : j + columns].T
            areas[i : i + rows] += np.maximum(scores, 0, out=scores).sum(axis=1, dtype=np.float64)
    return areas


def adaptive_weights(areas: np.ndarray) -> np.ndarray:
    """Return each query's weights `[Q, S]` of its S scores: one over the areas `[Q, S]`, with the sum 1 (Eq 6.10)."""
    inverse = 1.0 / (areas + EPSILON)
    return inverse / inverse.sum(axis=1, keepdims=True)
