"""The matched pixels of one image at every threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfthesis.edges.matching import MAX_DIST, EdgePairs
from tfthesis.edges.thinning import thin

# Raised whenever equal maps give other counts: kept counts of different versions do not mix.
VERSION = 1


def even_thresholds(count: int = 99) -> np.ndarray:
    """Return `count` thresholds `[T]` that divide 0 to 1 evenly, such as .01 to .99.

    To the last bit, those of the Berkeley code: probabilities of eight bits can be equal to one.
    """
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


@dataclasses.dataclass(frozen=True)
class EdgeCounts:
    """Pixels of one image at each threshold, int64 `[T]` each.

    Attributes:
        matched_truth: edge pixels of all annotators with a predicted one for a partner, summed over annotators.
        truth: edge pixels of all annotators; the same at each threshold.
        matched_predicted: predicted edge pixels that any annotator has a partner for.
        predicted: predicted edge pixels.
    """

    matched_truth: np.ndarray
    truth: np.ndarray
    matched_predicted: np.ndarray
    predicted: np.ndarray


def count_edges(
    edges: np.ndarray,
    annotators: Sequence[np.ndarray],
    thresholds: Sequence[float] | np.ndarray,
    *,
    max_dist: float = MAX_DIST,
    thinned: bool = True,
    matching: str = "cardinality",
) -> EdgeCounts:
    """Return the counts of a soft edge map against each annotator (Liu 2018, section 2.4.5).

    At each threshold t the pixels with `edges >= t` are predicted. Thresholds with equal binary maps are counted
    once, and the distances to an annotator's pixels are measured once for all thresholds.

    Args:
        edges: probabilities `[H, W]`.
        annotators: bool `[H, W]` each.
        thresholds: `[T]`, in any order.
        max_dist: see `EdgePairs`.
        thinned: whether the binary maps are thinned before they are matched.
        matching: see `EdgePairs`.

    Raises:
        ValueError: no annotator, maps of different sizes, or an argument that `EdgePairs` refuses.
    """
    if not len(annotators):
        raise ValueError("count_edges: expected the edges of one annotator or more")
    # Maps of fewer pixels lie within those of more, so that equal numbers mean equal maps.
    sizes = [int(np.count_nonzero(edges >= threshold)) for threshold in thresholds]
    maps: dict[int, np.ndarray] = {}
    for size, threshold in zip(sizes, thresholds, strict=True):
        if size not in maps:
            binary = edges >= threshold
            maps[size] = thin(binary) if thinned else binary
    candidates = np.any(list(maps.values()), axis=0)
    pairs = [EdgePairs(candidates, truth, max_dist) for truth in annotators]
    counted: dict[int, tuple[int, int, int]] = {}
    for size, binary in maps.items():
        matched = [near.match(binary, matching) for near in pairs]
        any_annotator = np.unique(np.concatenate(matched))
        counted[size] = sum(map(len, matched)), len(any_annotator), int(np.count_nonzero(binary))
    matched_truth, matched_predicted, predicted = np.array([counted[size] for size in sizes], np.int64).reshape(-1, 3).T
    truth = np.full(len(sizes), sum(int(np.count_nonzero(found)) for found in annotators), np.int64)
    return EdgeCounts(matched_truth, truth, matched_predicted, predicted)
