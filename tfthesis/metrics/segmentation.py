"""Figures of merit of a segmentation, from one confusion matrix over all pixels."""

from __future__ import annotations

import numpy as np

from tfthesis.metrics.classification import confusion_matrix


def pixel_confusion(labels: np.ndarray, predicted: np.ndarray, classes: int, ignored: int = 255) -> np.ndarray:
    """Return pixel counts int64 `[C, C]`: rows are true classes, columns predicted ones.

    Args:
        labels: integers of any shape; those equal to `ignored` do not count.
        predicted: integers of that shape, below `classes`.
        classes: C.
        ignored: label of pixels without a class.
    """
    counts = labels != ignored
    return confusion_matrix(labels[counts].astype(np.int64), predicted[counts].astype(np.int64), classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """Return TP / (TP + FP + FN) of each class `[C]` (Eq 2.14); NaN for one that neither occurs nor is predicted."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def segmentation_scores(confusion: np.ndarray) -> dict[str, float]:
    """Return the four figures of FCN's protocol in percent; classes that a mean has no value of are left out of it.

    `mean_iou`: mean of `intersection_over_union`; `pixel_accuracy`: share of right pixels; `mean_accuracy`: mean over
    classes of the share of their pixels that are right; `frequency_weighted_iou`: IoU weighted by true pixels.

    Raises:
        ValueError: no pixel counts.
    """
    true = confusion.sum(axis=1)
    total = true.sum()
    if not total:
        raise ValueError("segmentation_scores: no pixel has a class")
    overlap, present = intersection_over_union(confusion), true > 0
    right = np.diag(confusion)
    return {
        "mean_iou": float(100 * np.nanmean(overlap)),
        "pixel_accuracy": float(100 * right.sum() / total),
        "mean_accuracy": float(100 * np.mean(right[present] / true[present])),
        "frequency_weighted_iou": float(100 * np.sum(true[present] / total * overlap[present])),
    }
