"""Classification of captions by their words alone: the baseline of models that classify with text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
# Logit of a class that all training captions have; of one that none has it is the negative.
SURE = 30.0


class Captions(Protocol):
    """Captions of one split with their labels: 0/1 `[M, C]`, or integers `[M]`."""

    captions: list[str]
    label: np.ndarray


@dataclasses.dataclass(frozen=True)
class BagOfWords:
    """The strength that validation chose, and the logits of the test captions `[M, C]`."""

    strength: float
    logits: np.ndarray


def bag_of_words(
    train: Captions,
    val: Captions,
    test: Captions,
    classes: int,
    score: Callable[[np.ndarray, np.ndarray], float],
    strengths: Sequence[float] = STRENGTHS,
) -> BagOfWords:
    """Fit a logistic regression for each class on the counts of a caption's words.

    Args:
        train: fits the words and the regressions.
        val: chooses among `strengths`, by `score`.
        test: is only measured.
        classes: C.
        score: figure of (labels, logits), larger is better.
        strengths: inverse penalties on squared weights.
    """
    # Imported here, because the tables ask this module for its strengths only.
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer()
    counts = words.fit_transform(train.captions)
    targets = train.label if train.label.ndim == 2 else np.eye(classes)[train.label]
    held_out = words.transform(val.captions)
    fitted = {strength: [_fit(counts, column, strength) for column in targets.T > 0] for strength in strengths}
    best = max(strengths, key=lambda strength: score(val.label, _logits(fitted[strength], held_out)))
    return BagOfWords(best, _logits(fitted[best], words.transform(test.captions)))


def _fit(counts: Any, target: np.ndarray, strength: float) -> LogisticRegression | float:
    """Return the regression of one class, or its logit where all training captions agree."""
    from sklearn.linear_model import LogisticRegression

    if target.all() or not target.any():
        return SURE if target.all() else -SURE
    return LogisticRegression(C=strength, solver="liblinear").fit(counts, target)


def _logits(models: Sequence[LogisticRegression | float], counts: Any) -> np.ndarray:
    columns = [
        np.full(counts.shape[0], model) if isinstance(model, float) else model.decision_function(counts)
        for model in models
    ]
    return np.stack(columns, axis=1)
