"""Inception score: how sure a classifier is of generated images, and how evenly it names its classes."""

from __future__ import annotations

import numpy as np
import scipy.special

from tfthesis.errors import UserError


def inception_score(probabilities: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """Return mean and standard deviation of the inception scores of equal parts of the images.

    The score of a part is exp(mean of KL(p(y|x) || p(y))), where p(y) is the mean of p(y|x) over the part: from 1,
    where every image gets the same probabilities, to K, where images get one class each and all classes as often (Liu
    2018, Eq 8.20, 8.21). The thesis does not say how many parts its deviations are of; the score's authors take 10, of
    consecutive images, and the deviation of all parts (not of a sample), as here. Scores of few images come out small:
    a part of n images has at most the score n.

    Args:
        probabilities: p(y|x), `[n, K]`.
        splits: parts; sizes differ by one at most.

    Raises:
        UserError: rows that are no probabilities, or fewer rows than parts.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise UserError(
            f"inception score: expected probabilities [n, K] and 1 to n parts, got {list(probabilities.shape)} and "
            f"{splits} parts"
        )
    if not (np.abs(probabilities.sum(axis=1) - 1) < 1e-3).all() or probabilities.min() < 0:
        raise UserError("inception score: expected rows that are positive and sum up to 1")
    scores = []
    for part in np.array_split(probabilities, splits):
        divergence = scipy.special.rel_entr(part, part.mean(axis=0)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))
