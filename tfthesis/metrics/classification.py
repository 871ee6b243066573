"""Figures of merit of a classifier."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score


def top_k_hits(labels: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Return bool `[N]`: whether the true class of integer `labels` `[N]` is among the k best of `scores` `[N, C]`.

    A class that scores exactly as high as the true one counts as before it.
    """
    true = scores[np.arange(len(labels)), labels]
    return (scores >= true[:, None]).sum(axis=1) <= k


def top_1_multi_label_hits(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return bool `[N]`: whether the best-scored class is one of the labels (0/1 `[N, C]`)."""
    return np.asarray(labels)[np.arange(len(labels)), np.argmax(scores, axis=1)] > 0


def labels_in_top_k(labels: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Return `[N]`: the share of each example's labels (0/1 `[N, C]`) among its k best-scored classes.

    Of an example with more than k labels, k found are all; one without labels has NaN.
    """
    labels = np.asarray(labels) > 0
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    wanted = np.minimum(labels.sum(axis=1), k)
    found = np.take_along_axis(labels, best, axis=1).sum(axis=1)
    return np.divide(found, wanted, out=np.full(len(labels), np.nan), where=wanted > 0)


def average_precisions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the average precision of each class `[C]`, NaN for classes without a positive.

    Args:
        labels: 0/1 `[N, C]`.
        scores: `[N, C]`, larger is surer.
    """
    labels = np.asarray(labels)
    return np.array(
        [
            average_precision_score(labels[:, c], scores[:, c]) if labels[:, c].any() else np.nan
            for c in range(labels.shape[1])
        ]
    )


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts `[C, C]`: rows are true classes, columns predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
