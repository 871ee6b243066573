"""Fixed features on other datasets: a linear SVM's accuracy, and image retrieval (Liu 2018, section 2.4.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfthesis.data.grouped_images import GroupedImages, grouped_names, open_grouped
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, labelled_names, open_labelled
from tfthesis.errors import UserError, closest
from tfthesis.lazy import LazyModule
from tfthesis.method import Evaluation
from tfthesis.metrics.classification import confusion_matrix
from tfthesis.metrics.linear_svm import COST, linear_svm
from tfthesis.metrics.ranked_lists import group_average_precisions, ns_hits

if TYPE_CHECKING:
    from tfthesis.encoders.encoder import Encoder

cache = LazyModule("tfthesis.encoders.feature_cache")

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What features are worth on one dataset.

    Attributes:
        evaluation: its `selection` is the figure that the benchmark reports.
        dataset: name, fingerprint, counts, source and skipped images, as JSON values.
    """

    evaluation: Evaluation
    dataset: dict[str, Any]


def transfer(
    encoder: Encoder,
    name: str,
    directory: Path | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    cost: float = COST,
    standardise: bool = True,
    progress: Progress | None = None,
) -> Transfer:
    """Measure the features of `encoder` on a dataset, by classification or retrieval as the dataset is.

    Features are L2-normalised for both. Images that cannot be read are left out and listed.

    Args:
        encoder: of images.
        name: one of `transfer_names`.
        directory: where the dataset lies; None for one that is drawn.
        options: of its reader.
        cost, standardise: of `tfthesis.metrics.linear_svm.linear_svm`, for classification.
        progress: of `tfthesis.encoders.feature_cache.cached_features`.

    Raises:
        UserError: the dataset or an option is unknown, files are missing, or no usable image is left of a part.
    """
    if encoder.modality != "image":
        raise UserError(f"encoder {encoder.name!r}: expected one of images, got one of {encoder.modality}s")
    if name not in transfer_names():
        raise closest(name, sorted(transfer_names()), "dataset")
    if name in labelled_names():
        return _classification(encoder, open_labelled(name, directory, **options or {}), cost, standardise, progress)
    return _retrieval(encoder, open_grouped(name, directory, **options or {}), progress)


def transfer_names() -> dict[str, str]:
    """Return the datasets of classification and of retrieval, with what each reads in one sentence."""
    return {**labelled_names(), **grouped_names()}


def _classification(
    encoder: Encoder, data: LabelledImages, cost: float, standardise: bool, progress: Progress | None
) -> Transfer:
    """Train on the training and validation images together, since nothing is chosen by validation, and test once."""
    fingerprint, skipped = data.fingerprint(), list(data.skipped)
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for split in ("train", *(["val"] if "val" in data.splits else []), "test"):
        own = data.split(split)
        rows, ok = _features(encoder, _sources(own), own.ids, fingerprint, skipped, progress)
        found[split] = rows, own.labels[ok], np.flatnonzero(ok)
    train, labels = (np.concatenate([found[split][part] for split in found if split != "test"]) for part in (0, 1))
    test, true, places = found["test"]
    machine = linear_svm(train, labels, test, cost=cost, standardise=standardise)
    correct = machine.predicted == true
    matrix = confusion_matrix(true, machine.predicted, len(data.classes))
    seen = matrix.sum(axis=1) > 0
    accuracy = float(100 * correct.mean())
    by_class = np.diag(matrix)[seen] / matrix.sum(axis=1)[seen]
    scalars = {"accuracy": accuracy, "mean_class_accuracy": float(100 * by_class.mean())}
    scaling = "each element standardised on the training images" if standardise else "not standardised"
    protocol = f"accuracy of a linear SVM, one class against the rest, C {cost:g}, L2-normalised features, {scaling}"
    if not machine.converged:
        protocol += "; its solver stopped at the limit of iterations"
    samples = {"correct": correct, "row": places}
    return Transfer(Evaluation(protocol, scalars, accuracy, samples=samples), _about(data, fingerprint, skipped))


def _retrieval(encoder: Encoder, data: GroupedImages, progress: Progress | None) -> Transfer:
    fingerprint, skipped = data.fingerprint(), list(data.skipped)
    vectors, ok = _features(encoder, data.images, data.ids, fingerprint, skipped, progress)
    left = np.bincount(data.groups[ok], minlength=int(data.groups.max()) + 1)
    read = data.queries[ok[data.queries]]
    alone = left[data.groups[read]] < 2
    skipped += [f"query {data.ids[row]}: too few images of its group are left" for row in read[alone]]
    if alone.all():
        raise UserError(f"{data.name}: no query is left; the first skipped item: {skipped[0]}")
    # Places among the images that are left.
    queries, groups = np.cumsum(ok)[read[~alone]] - 1, data.groups[ok]
    if data.measure == "ns_score":
        hits = ns_hits(vectors, groups, queries)
        figure, samples = float(hits.mean()), {"hits": hits}
        protocol = "N-S score: images of the query's group, itself included, among the four nearest"
    else:
        precisions = group_average_precisions(vectors, groups, queries, data.rule)
        figure, samples = float(100 * precisions.mean()), {"average_precision": precisions}
        protocol = f"mean average precision by the {data.rule} rule, the query left out of its list"
    protocol += "; inner product of L2-normalised features"
    evaluation = Evaluation(protocol, {data.measure: figure}, figure, samples=samples)
    return Transfer(evaluation, _about(data, fingerprint, skipped))


def _features(
    encoder: Encoder,
    images: Sequence[Any],
    ids: Sequence[str],
    fingerprint: str,
    skipped: list[str],
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised features of the images that can be read, and which those are; lists the others in `skipped`."""
    found = cache.cached_features(encoder, images, dataset=fingerprint, progress=progress)
    skipped += [f"{ids[index]}: {reason}" for index, reason in found.bad]
    if not len(found.rows):
        raise UserError(f"none of {len(images)} images can be read; the first: {skipped[-len(found.bad)]}")
    return found.rows / np.maximum(np.linalg.norm(found.rows, axis=1, keepdims=True), 1e-12), found.ok


def _sources(split: LabelledSplit) -> Sequence[Any]:
    """Return the images as an encoder reads them; pixels in memory become files."""
    if not isinstance(split.images, np.ndarray):
        return split.images
    import tensorflow as tf

    return [tf.io.encode_png(image).numpy() for image in split.images]


def _about(data: LabelledImages | GroupedImages, fingerprint: str, skipped: list[str]) -> dict[str, Any]:
    return {
        "name": data.name,
        "fingerprint": fingerprint,
        "counts": data.counts(),
        "source": data.source,
        "skipped": {"count": len(skipped), "items": skipped},
    }
