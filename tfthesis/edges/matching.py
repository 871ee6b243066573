"""One-to-one pairs of predicted and true edge pixels that lie close together, as the Berkeley benchmark counts them."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import maximum_flow, min_weight_full_bipartite_matching
from scipy.spatial import KDTree

#: Largest distance of a pair, in shares of the image's diagonal; .011 for the coarser annotations of NYUD.
MAX_DIST = 0.0075
MATCHINGS = ("cardinality", "cost")
# A pixel without a partner costs as much as so many pairs at the largest distance.
_LONELY = 100
# Distances enter as whole hundredths of a pixel.
_RESOLUTION = 100


class EdgePairs:
    """All pairs of a candidate for a predicted edge pixel and a true one that lie within reach of each other.

    It is made once for an image and an annotator, and asked for each binary map of that image. Both ways of matching
    are exact: "cardinality" finds as many pairs as there can be (maximum flow by Dinic's algorithm) and any of the sets
    that are so large; "cost" the set with the smallest sum of distances, to which each pixel without a partner adds
    a hundred times the reach, so that more pairs are always better short of chains of that length (shortest augmenting
    paths).

    The Berkeley code minimises that same cost but lets a pixel stay alone at few, randomly drawn places only, so that
    it finds slightly fewer pairs (of 9,000, up to 8) than there are.
    """

    def __init__(self, candidates: np.ndarray, truth: np.ndarray, max_dist: float = MAX_DIST) -> None:
        """Find the pairs.

        Args:
            candidates: bool `[H, W]`, every pixel that a binary map may have.
            truth: bool `[H, W]`, the edges of one annotator.
            max_dist: reach, in shares of the diagonal, above 0; a pair may be exactly so far apart.

        Raises:
            ValueError: the maps differ in size, or the reach is not above 0.
        """
        if candidates.shape != truth.shape or not max_dist > 0:
            raise ValueError(
                f"EdgePairs: expected maps of one size and a reach above 0, got {candidates.shape}, {truth.shape} and "
                f"{max_dist}"
            )
        self._places = np.flatnonzero(candidates)
        self._reach = max_dist * float(np.hypot(*candidates.shape))
        size = len(self._places), int(np.count_nonzero(truth))
        trees = [KDTree(np.argwhere(found)) for found in (candidates, truth)]
        pairs = trees[0].sparse_distance_matrix(trees[1], self._reach, output_type="ndarray")
        # One is added since sparse matrices take a weight of zero for none; every row of a matching has it once.
        weights = np.round(pairs["v"] * _RESOLUTION) + 1
        self._weights = scipy.sparse.csr_array((weights, (pairs["i"], pairs["j"])), shape=size)

    def match(self, edges: np.ndarray, matching: str = "cardinality") -> np.ndarray:
        """Return the pixels of a binary map that have a true one for a partner, as places in the flat map `[K]`.

        Args:
            edges: bool `[H, W]`; pixels that are no candidates have no partner.
            matching: one of `MATCHINGS`.

        Raises:
            ValueError: an unknown way of matching.
        """
        if matching not in MATCHINGS:
            raise ValueError(f"EdgePairs: matching: expected one of {MATCHINGS}, got {matching!r}")
        near = edges.ravel()[self._places] & (np.diff(self._weights.indptr) > 0)
        rows = np.flatnonzero(near)
        if not len(rows):
            return self._places[:0]
        weights = self._weights[rows]
        # True pixels that nothing is near to are left out, the others keep their order.
        used = np.zeros(weights.shape[1], bool)
        used[weights.indices] = True
        columns = (np.cumsum(used) - 1)[weights.indices]
        weights = scipy.sparse.csr_array(
            (weights.data, columns, weights.indptr), shape=(len(rows), int(np.count_nonzero(used)))
        )
        matched = _most_pairs(weights) if matching == "cardinality" else _cheapest_pairs(weights, self._reach)
        return self._places[rows[matched]]


def _most_pairs(weights: scipy.sparse.csr_array) -> np.ndarray:
    """Return the rows that a matching of most pairs has a column for; `weights` `[P, T]` has an entry for each pair."""
    rows, columns = weights.shape
    # From a source to every row, on to its columns, and from every column to the sink.
    sink = 1 + rows + columns
    starts = np.concatenate(
        [[0], rows + weights.indptr, rows + weights.nnz + np.arange(1, columns + 1), [rows + weights.nnz + columns]]
    )
    ends = np.concatenate([1 + np.arange(rows), 1 + rows + weights.indices, np.full(columns, sink)])
    graph = scipy.sparse.csr_array((np.ones(len(ends), np.int32), ends, starts), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, 0, sink, method="dinic").flow
    used = flow[[0]].toarray()[0] > 0
    return np.flatnonzero(used[1 : 1 + rows])


def _cheapest_pairs(weights: scipy.sparse.csr_array, reach: float) -> np.ndarray:
    """Return the rows that the matching of least cost has a column for; `weights` `[P, T]` are distances + 1.

    Only the smaller side has a column of its own for each row that stays alone, at the price of two lonely pixels: a
    pair takes one of either side.
    """
    swapped = weights.shape[0] > weights.shape[1]
    if swapped:
        weights = weights.T.tocsr()
    alone = 1 + 2 * _LONELY * np.ceil(reach * _RESOLUTION)
    rows, columns = weights.shape
    choices = scipy.sparse.hstack([weights, alone * scipy.sparse.eye_array(rows)], format="csr")
    row, column = min_weight_full_bipartite_matching(choices)
    return column[column < columns] if swapped else row[column < columns]
