"""From the counts of all images to the figures of edge detection: ODS, OIS, AP and the curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfthesis.edges.counting import EdgeCounts

# Between two thresholds the best F is looked for at so many places, ends included.
_PLACES = 100


def f_measure(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of recall and precision of one shape; 0 where both are."""
    total = recall + precision
    return 2 * np.divide(recall * precision, total, out=np.zeros_like(total), where=total > 0)


@dataclasses.dataclass(frozen=True)
class Operating:
    """Recall, precision and F (0..1) at a threshold; None stands for the best one of each image."""

    threshold: float | None
    recall: float
    precision: float
    f: float


@dataclasses.dataclass(frozen=True)
class EdgeScores:
    """What the benchmark says of the maps of a dataset.

    Attributes:
        thresholds, recall, precision, f: the curve over all images, `[T]` each.
        ods: where the curve has its best F, looked for between the thresholds too.
        ois: each image at its own best threshold.
        average_precision: area under the curve.
        images: each image at its best threshold, in the order of the counts.
    """

    thresholds: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    f: np.ndarray
    ods: Operating
    ois: Operating
    average_precision: float
    images: tuple[Operating, ...]


def score_edges(counts: Sequence[EdgeCounts], thresholds: Sequence[float] | np.ndarray) -> EdgeScores:
    """Return the scores of images whose pixels were counted at `thresholds` `[T]`, in ascending order.

    Recall and precision are those of the summed pixels of all images. An image or a dataset without a predicted pixel
    has precision 0, one without a true pixel recall 0.

    Raises:
        ValueError: no image, no threshold, or thresholds that do not ascend.
    """
    thresholds = np.asarray(thresholds, np.float64)
    if not len(counts) or not len(thresholds) or (np.diff(thresholds) <= 0).any():
        raise ValueError(f"score_edges: expected images and ascending thresholds, got {len(counts)} and {thresholds}")
    table = np.array([[one.matched_truth, one.truth, one.matched_predicted, one.predicted] for one in counts])
    recall, precision, f = _rates(table)
    best = np.argmax(f, axis=1)
    images = tuple(
        Operating(*(float(values[at]) for values in (thresholds, *rates)))
        for rates, at in zip(zip(recall, precision, f, strict=True), best, strict=True)
    )
    own = np.take_along_axis(table, best[:, None, None], axis=2).sum(axis=0)
    ois = Operating(None, *(float(rate[0]) for rate in _rates(own)))
    curve = _rates(table.sum(axis=0))
    return EdgeScores(
        thresholds, *curve, best_operating(thresholds, *curve[:2]), ois, average_precision(*curve[:2]), images
    )


def _rates(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, precision and F `[..., T]` of counts `[..., 4, T]`."""
    matched_truth, truth, matched_predicted, predicted = np.moveaxis(table, -2, 0)
    recall = matched_truth / np.maximum(truth, 1)
    precision = matched_predicted / np.maximum(predicted, 1)
    return recall, precision, f_measure(recall, precision)


def best_operating(thresholds: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> Operating:
    """Return where a curve `[T]` has its best F; between thresholds it is taken as straight, at 100 places each.

    Of equal ones the first counts.
    """
    curve = np.stack([thresholds, recall, precision])
    share = np.linspace(0, 1, _PLACES)
    between = curve[:, :-1, None] * (1 - share) + curve[:, 1:, None] * share
    places = np.concatenate([curve[:, :1], between.reshape(3, -1)], axis=1)
    f = f_measure(places[1], places[2])
    at = int(np.argmax(f))
    return Operating(*(float(value) for value in places[:, at]), float(f[at]))


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area under a curve `[T]`: the mean step of .01 times precision at recalls 0, .01 ... 1.

    Precision is straight between the recalls that occur, at one that occurs twice it is the first's, and outside of
    them 0. A curve of one recall alone has no area.
    """
    recalls, first = np.unique(recall, return_index=True)
    if len(recalls) < 2:
        return 0.0
    grid = np.arange(101) / 100
    return float(np.interp(grid, recalls, precision[first], left=0.0, right=0.0).sum() / 100)
