"""Evaluation of image-text models: recall at K both ways, and classification of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfthesis.matching.embedding import MODALITIES, has_branch, in_chunks
from tfthesis.matching.scores import Comparison, Measure
from tfthesis.method import Evaluation
from tfthesis.metrics.classification import (
    average_precisions,
    confusion_matrix,
    labels_in_top_k,
    top_1_multi_label_hits,
    top_k_hits,
)
from tfthesis.metrics.recall import image_to_text_ranks, recalls, text_to_image_ranks


def evaluate_matching(
    model: keras.Model, arrays: Any, measure: Measure | None = None, further: Mapping[str, Measure] | None = None
) -> Evaluation:
    """Measure R@1, R@5 and R@10 both ways over all images and captions of a split, in percent.

    Args:
        model: a matching model with both branches.
        arrays: the split's `PairArrays`.
        measure: how embeddings are compared; None averages all their parts.
        further: other ways by name; their figures and ranks get the name and a dot as prefix.

    Returns:
        Scalars `i2t_r1 ... t2i_r10` and their sum `r_sum`, which selects; samples `i2t_rank`, `t2i_rank`
        and `owner`, the image of each caption.
    """
    compared = Comparison.of(model, arrays)
    measures = {"": measure or compared.whole}
    measures |= {f"{name}.": way for name, way in (further or {}).items()}
    scalars: dict[str, float] = {}
    samples: dict[str, np.ndarray] = {}
    for prefix, way in measures.items():
        image_rank = image_to_text_ranks(compared.queries("image", way), compared.candidates("text", way), arrays.owner)
        text_rank = text_to_image_ranks(compared.queries("text", way), compared.candidates("image", way), arrays.owner)
        found = {**recalls(image_rank, "i2t_"), **recalls(text_rank, "t2i_")}
        scalars |= {prefix + name: value for name, value in found.items()}
        scalars[f"{prefix}r_sum"] = sum(found.values())
        samples |= {f"{prefix}i2t_rank": image_rank, f"{prefix}t2i_rank": text_rank}
    samples["owner"] = arrays.owner
    return Evaluation("R@K, several captions an image, best caption counts", scalars, scalars["r_sum"], samples=samples)


def balanced_shares(model: keras.Model, arrays: Any, low: float = 0.4, high: float = 0.6) -> dict[str, float]:
    """Return how many percent of the queries weigh two scores about alike: both weights between `low` and `high`.

    Returns:
        Scalars `i2t_balanced` and `t2i_balanced`, of the first two parts of the embeddings.

    Source: Liu 2018, Fig 6.7, whose text says that weights "are mostly gathered between 0.4 and 0.6".
    """
    compared, shares = Comparison.of(model, arrays), {}
    for modality, prefix in zip(MODALITIES, ("i2t", "t2i"), strict=True):
        weight = compared.weights(modality, Measure((0, 1), adaptive=True))[:, 0]
        shares[f"{prefix}_balanced"] = float(100 * np.mean((weight >= low) & (weight <= high)))
    return shares


def evaluate_classification(model: keras.Model, arrays: Any, classes: tuple[str, ...], multi_label: bool) -> Evaluation:
    """Measure the classifier on every image-caption pair of a split, in percent.

    Args:
        model: a model with a layer `logits`.
        arrays: the split's `PairArrays` with labels.
        classes: names of the classes.
        multi_label: mean average precision selects; else top-1 accuracy.

    Returns:
        Scalars `top1`, `top5` and `mean_ap`; `label_score` is the one that selects. With several labels an
        image `top1` says how often the best-scored class is one of them and `top5` which share of them is
        among the five best, and `precision` and `recall` are those of all labels predicted above one half.
        Tables `per_class` and, for single labels, the confusion matrix; samples `correct`, one an item, and
        `owner`, the image of each.
    """
    measured = evaluate_logits(pair_logits(model, arrays), arrays.label, classes, multi_label)
    measured.samples["owner"] = arrays.owner
    return measured


def evaluate_logits(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], multi_label: bool) -> Evaluation:
    """Measure logits `[M, C]` of pairs by the protocol of `evaluate_classification`."""
    measure = _multi_label if multi_label else _single_label
    return measure(logits, labels, classes)


def pair_logits(model: keras.Model, arrays: Any) -> np.ndarray:
    """Return the classifier's logits `[M, C]` of every image-caption pair."""
    inputs = {"image": lambda: arrays.image[arrays.owner], "text": lambda: arrays.text}
    names = [name for name in inputs if name in model.input]
    return in_chunks(
        lambda *rows: model(dict(zip(names, rows, strict=True)), training=False)["logits"],
        *(inputs[name]() for name in names),
    )


def _multi_label(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Evaluation:
    precisions = 100 * average_precisions(labels, logits)
    present = ~np.isnan(precisions)
    mean = float(precisions[present].mean()) if present.any() else 0.0
    hits = top_1_multi_label_hits(labels, logits)
    predicted = logits > 0  # a probability above one half
    right, found = (predicted & (labels > 0)).sum(0), predicted.sum(0)
    count = labels.sum(0)
    rows = [
        {
            "class": name,
            "positives": int(count[c]),
            "average_precision": float(precisions[c]) if present[c] else None,
            "precision": float(100 * right[c] / found[c]) if found[c] else None,
            "recall": float(100 * right[c] / count[c]) if count[c] else None,
        }
        for c, name in enumerate(classes)
    ]
    shares = labels_in_top_k(labels, logits, 5)
    scalars = {
        "top1": float(100 * hits.mean()),
        "top5": float(100 * np.nanmean(shares)) if count.any() else 0.0,
        "precision": float(100 * right.sum() / max(found.sum(), 1)),
        "recall": float(100 * right.sum() / max(count.sum(), 1)),
        "mean_ap": mean,
        "label_score": mean,
    }
    protocol = "mean average precision over the classes that occur; a label is predicted above one half"
    return Evaluation(protocol, scalars, mean, tables={"per_class": rows}, samples={"correct": hits})


def _single_label(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Evaluation:
    hits, hits_5 = top_k_hits(labels, logits, 1), top_k_hits(labels, logits, 5)
    one_hot = np.eye(len(classes))[labels]
    precisions = 100 * average_precisions(one_hot, logits)
    present = ~np.isnan(precisions)
    matrix = confusion_matrix(labels, logits.argmax(axis=1), len(classes))
    count = matrix.sum(axis=1)
    rows = [
        {
            "class": name,
            "positives": int(count[c]),
            "average_precision": float(precisions[c]) if present[c] else None,
            "recall": float(100 * matrix[c, c] / count[c]) if count[c] else None,
        }
        for c, name in enumerate(classes)
    ]
    top_1 = float(100 * hits.mean())
    scalars = {
        "top1": top_1,
        "top5": float(100 * hits_5.mean()),
        "mean_ap": float(precisions[present].mean()) if present.any() else 0.0,
        "label_score": top_1,
    }
    confusion = [
        {"true": classes[t], "predicted": classes[p], "count": int(matrix[t, p])} for t, p in np.argwhere(matrix)
    ]
    tables = {"per_class": rows, "confusion": confusion}
    return Evaluation("top-1 accuracy of image-caption pairs", scalars, top_1, tables=tables, samples={"correct": hits})


def evaluate_pairs(model: keras.Model, arrays: Any, classes: tuple[str, ...], multi_label: bool) -> Evaluation:
    """Measure whatever the model does: matching, classification or both.

    With both, `joint` is the mean of the mean recall and the label figure, and selects.
    """
    parts = []
    if all(has_branch(model, modality) for modality in ("image", "text")):
        parts.append(evaluate_matching(model, arrays))
    if "logits" in model.output:
        parts.append(evaluate_classification(model, arrays, classes, multi_label))
    whole = parts[0]
    for part in parts[1:]:
        whole.protocol += "; " + part.protocol
        whole.scalars.update(part.scalars)
        whole.tables.update(part.tables)
        whole.samples.update(part.samples)
        whole.selection = whole.scalars["joint"] = (whole.scalars["r_sum"] / 6 + part.selection) / 2
    return whole
