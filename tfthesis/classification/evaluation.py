"""Error rates of a classifier."""

from __future__ import annotations

import keras
import numpy as np

from tfthesis.classification.data import ImageClassData
from tfthesis.method import Evaluation
from tfthesis.metrics.classification import confusion_matrix, top_k_hits

CHUNK = 250


def predict(model: keras.Model, data: ImageClassData, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return outputs `logits` `[N, C]` and `feature` `[N, K]` of a whole split, and the labels `[N]`."""
    rows = np.arange(data.size(split))
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    found: dict[str, list[np.ndarray]] = {"logits": [], "feature": []}
    labels = []
    for inputs, targets in data.batches(split, chunks, (0, 0)):
        outputs = model(inputs, training=False)
        for name, parts in found.items():
            parts.append(np.asarray(outputs[name], np.float32))
        labels.append(targets["label"].numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(labels)


def evaluate_classes(model: keras.Model, data: ImageClassData, split: str) -> Evaluation:
    """Measure the error rates on `split`, in percent.

    Returns:
        Scalars `error` (top 1) and, with more than five classes, `top5_error`; `accuracy` selects. Tables
        `per_class` and `confusion`; samples `correct` and `wrong`, one an image.
    """
    outputs, labels = predict(model, data, split)
    logits, classes = outputs["logits"], data.spec.classes
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
        samples={"correct": correct, "wrong": ~correct},
    )
