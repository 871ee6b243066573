"""Segmentation measured by FCN's protocol: one confusion matrix over the pixels of all images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Evaluation
from tfthesis.metrics.segmentation import intersection_over_union, pixel_confusion, segmentation_scores
from tfthesis.segmentation.data import SegmentationData

_PIXELS = 500_000


class Predicted(NamedTuple):
    """Some images: pixels float32 `[b, H, W, 3]`, true and predicted labels uint8 `[b, H, W]`, and rows `[b]`."""

    images: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    rows: np.ndarray


def predictions(
    model: keras.Model, data: SegmentationData, split: str, rows: np.ndarray | None = None
) -> Iterator[Predicted]:
    """Yield what `model` says of the images `rows` of `split` (None: all), a few at a time."""
    chosen = np.arange(data.size(split)) if rows is None else np.asarray(rows)
    count = max(1, _PIXELS // (data.field.height * data.field.width))
    chunks = [chosen[start : start + count] for start in range(0, len(chosen), count)]
    for inputs, targets in data.batches(split, chunks, None):
        if not len(targets["row"]):
            continue
        scores = model(inputs, training=False)["scores"]
        predicted = keras.ops.argmax(scores, axis=-1)
        yield Predicted(
            *(np.asarray(value) for value in (inputs["image"], targets["labels"])),
            np.asarray(predicted).astype(np.uint8),
            np.asarray(targets["row"]),
        )


def evaluate_segmentation(model: keras.Model, data: SegmentationData, split: str) -> Evaluation:
    """Measure `model` on `split`, in percent, over the pixels that have a class, at each image's own size.

    Returns:
        Scalars of `segmentation_scores`, and `object_iou`, the mean IoU without the background where the dataset has
        one (Table 2.7's FCN-8s row is such a mean), and `iou_NAME` of each class that occurs. `mean_iou` selects.
        Tables `per_class` and `confusion`; samples `wrong_pixels`, the share of each image's pixels, and `row`, which
        image it is.

    Raises:
        UserError: no pixel of the split has a class.
    """
    classes = data.spec.classes
    total = np.zeros((len(classes), len(classes)), np.int64)
    wrong, rows = [], []
    for found in predictions(model, data, split):
        for predicted, row in zip(found.predicted, found.rows.tolist(), strict=True):
            labels = data.map(split, row)
            matrix = pixel_confusion(labels, data.field.take_back(predicted, labels.shape).numpy(), len(classes))
            total += matrix
            wrong.append(1 - np.diag(matrix).sum() / max(matrix.sum(), 1))
            rows.append(row)
    if not total.any():
        raise UserError(f"{data.dataset.name}: no pixel of split {split!r} has a class")
    overlap = intersection_over_union(total)
    scalars = segmentation_scores(total)
    if data.spec.extra["background"] and np.isfinite(overlap[1:]).any():
        scalars["object_iou"] = float(100 * np.nanmean(overlap[1:]))
    # Only of classes that occur: which ones have a figure does not depend on the predictions.
    scalars |= {f"iou_{name}": float(100 * overlap[n]) for n, name in enumerate(classes) if total[n].any()}
    per_class = [
        {"class": name, "pixels": int(total[number].sum()), "iou": float(100 * overlap[number])}
        for number, name in enumerate(classes)
        if np.isfinite(overlap[number])
    ]
    confusion = [
        {"class": name, **dict(zip(classes, map(int, row), strict=True))}
        for name, row in zip(classes, total, strict=True)
    ]
    return Evaluation(
        "IoU over the pixels of all images",
        scalars,
        scalars["mean_iou"],
        tables={"per_class": per_class, "confusion": confusion},
        samples={"wrong_pixels": np.array(wrong), "row": np.array(rows)},
    )
