"""Error rates of a classifier."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tfthesis.classification.data import ImageClassData
from tfthesis.method import Evaluation
from tfthesis.metrics.classification import confusion_matrix, top_k_hits

CHUNK = 250


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of a split; images that do not decode are left out.

    Attributes:
        logits: `[N, C]`.
        features: `[N, K]`.
        labels: `[N]`, the true ones.
        rows: `[N]`, which images of the split these are.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def predict(model: keras.Model, data: ImageClassData, split: str) -> Predictions:
    """Return what `model` says of a whole split."""
    rows = np.arange(data.size(split))
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    parts = []
    for inputs, targets in data.batches(split, chunks, None):
        outputs = model(inputs, training=False)
        values = (outputs["logits"], outputs["feature"], targets["label"], targets["row"])
        parts.append([np.asarray(value) for value in values])
    logits, features, labels, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Predictions(logits.astype(np.float32), features.astype(np.float32), labels, rows)


def evaluate_classes(model: keras.Model, data: ImageClassData, split: str) -> Evaluation:
    """Measure the error rates on `split`, in percent.

    Returns:
        Scalars `error` (top 1) and, with more than five classes, `top5_error`; `accuracy` selects. Tables
        `per_class` and `confusion`; samples `correct` and `wrong`, one an image, and `row`, which image it is.
    """
    found, classes = predict(model, data, split), data.spec.classes
    logits, labels = found.logits, found.labels
    correct = top_k_hits(labels, logits, 1)
    accuracy = float(100 * correct.mean())
    scalars = {"error": 100 - accuracy, "accuracy": accuracy}
    if len(classes) > 5:
        scalars["top5_error"] = float(100 * (1 - top_k_hits(labels, logits, 5).mean()))
    matrix = confusion_matrix(labels, logits.argmax(axis=1), len(classes))
    per_class = [
        {"class": name, "images": int(row.sum()), "error": float(100 * (1 - row[number] / row.sum()))}
        for number, (name, row) in enumerate(zip(classes, matrix, strict=True))
        if row.sum()
    ]
    confusion = [
        {"class": name, **dict(zip(classes, map(int, row), strict=True))}
        for name, row in zip(classes, matrix, strict=True)
    ]
    return Evaluation(
        "error rate, one crop",
        scalars,
        accuracy,
        tables={"per_class": per_class, "confusion": confusion},
        samples={"correct": correct, "wrong": ~correct, "row": found.rows},
    )
