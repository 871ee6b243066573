"""Rows of the tables that are no runs: a ridge map, a bag of words, counts of weights, and features elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.data.options import reader_options
from tfthesis.errors import UserError
from tfthesis.method import Evaluation, Spec
from tfthesis.metrics.ridge_retrieval import ridge_retrieval
from training.reproduction.comparison import OWNER
from training.request import Request

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What a baseline found, and the data it saw."""

    spec: Spec
    evaluation: Evaluation


def evaluate_ridge(request: Request, strengths: Sequence[float]) -> Baseline:
    """Map image features to the mean features of their captions by ridge regression, and measure R@K.

    See `tfthesis.metrics.ridge_retrieval`; the test split is measured once, by the protocol of the methods.

    Args:
        request: names the data and the encoders of its features.
        strengths: ridge penalties to choose from; see `tfthesis.metrics.ridge.fit_ridge`.

    Raises:
        UserError: the dataset is missing, or not one of images and captions.
    """
    data = request.open_data()
    if not hasattr(data, "arrays"):
        raise UserError(f"the ridge map needs images with captions; {request.short_name} opens other data")
    splits = [data.arrays(split) for split in ("train", "val", "test")]
    found = ridge_retrieval(*splits, strengths=strengths)
    scalars = {**found.scalars, "r_sum": sum(found.scalars.values())}
    samples = {"i2t_rank": found.image_ranks, "t2i_rank": found.text_ranks, OWNER: splits[-1].owner}
    protocol = f"R@K, several captions an image, best caption counts; strength {found.strength:.3g}, chosen on val"
    return Baseline(data.spec, Evaluation(protocol, scalars, scalars["r_sum"], samples=samples))


def evaluate_bag_of_words(request: Request, strengths: Sequence[float]) -> Baseline:
    """Classify captions by the counts of their words, and measure as the methods do.

    Args:
        request: names the data and its labels.
        strengths: see `tfthesis.metrics.bag_of_words.bag_of_words`.

    Raises:
        UserError: the dataset is missing, or has no captions or no labels.
    """
    from tfthesis.matching.evaluation import evaluate_logits
    from tfthesis.metrics.bag_of_words import bag_of_words

    data = request.open_data()
    if not hasattr(data, "arrays") or not data.spec.classes:
        raise UserError(f"the bag of words needs captions with labels; {request.short_name} opens other data")
    classes, several = data.spec.classes, data.spec.multi_label
    splits = [data.arrays(split) for split in ("train", "val", "test")]

    def score(labels: np.ndarray, logits: np.ndarray) -> float:
        return evaluate_logits(logits, labels, classes, several).selection

    found = bag_of_words(*splits, classes=len(classes), score=score, strengths=strengths)
    evaluation = evaluate_logits(found.logits, splits[-1].label, classes, several)
    evaluation.protocol += f"; strength {found.strength:.3g}, chosen on val"
    evaluation.samples[OWNER] = splits[-1].owner
    return Baseline(data.spec, evaluation)


def count_weights(request: Request, shapes: Mapping[str, Any], counted: Mapping[str, Mapping[str, Any]]) -> Baseline:
    """Build the recipe's model for data of the given shapes and count the trained weights of its layers.

    Args:
        request: names method and recipe.
        shapes: `inputs` (width, or shape, by name), `classes` (their number) and, if so, `multi_label`.
        counted: figure by name, each with `layers` (prefixes of layer names) and `exclude` (parts of
            names that do not count).
    """
    spec = Spec(
        inputs={
            name: tuple(shape) if isinstance(shape, list) else (shape,) for name, shape in shapes["inputs"].items()
        },
        classes=tuple(f"class {number}" for number in range(shapes["classes"])),
        multi_label=shapes.get("multi_label", False),
    )
    model = request.method.build(request.recipe, spec)
    scalars = {figure: float(_count(model, names["layers"], names["exclude"])) for figure, names in counted.items()}
    return Baseline(spec, Evaluation("weights of the built model", scalars, 0.0))


def check_targets(settings: Mapping[str, Any], root: Path | None) -> None:
    """Raise a `UserError` for the first folder or file that `settings` name and that is not below `root`."""
    folders = [target["folder"] for target in settings["targets"].values() if "folder" in target]
    for folder in folders:
        if not _below(root, folder).is_dir():
            raise UserError(f"no folder {_below(root, folder)}; name the one that holds it with --data-dir")
    if settings.get("weights") and not _below(root, settings["weights"]).is_file():
        raise UserError(f"no file {_below(root, settings['weights'])}; name the folder that holds it with --data-dir")


def evaluate_transfer(run: Path | None, settings: Mapping[str, Any], root: Path | None) -> Baseline:
    """Measure the features of a finished run, or of an encoder, on other datasets.

    See `tfthesis.transfer`. A scalar is what the benchmark of its target reports; of a classification there is the
    sample `<scalar>_correct`.

    Args:
        run: its directory; None takes the `encoder` of `settings`, with its `weights`.
        settings: `targets` (of `training.reproduction.table.Column`, by scalar), `cost` and `standardise`.
        root: folder that holds the targets' folders and the weights.

    Raises:
        UserError: the run, the encoder or a dataset does not open.
    """
    from tfthesis.encoders import open_encoder
    from tfthesis.transfer import transfer
    from training.run_encoder import RunEncoder

    if run is not None:
        encoder = RunEncoder(run)
    else:
        weights = settings["weights"]
        encoder = open_encoder(settings["encoder"], _below(root, weights) if weights else None)
    found = {
        scalar: transfer(
            encoder,
            target["dataset"],
            _below(root, target["folder"]) if "folder" in target else None,
            reader_options(target.get("options", ()), f"target of {scalar}: options"),
            cost=settings["cost"],
            standardise=settings["standardise"],
        )
        for scalar, target in settings["targets"].items()
    }
    scalars = {scalar: each.evaluation.selection for scalar, each in found.items()}
    samples = {
        f"{scalar}_correct": each.evaluation.samples["correct"]
        for scalar, each in found.items()
        if "correct" in each.evaluation.samples
    }
    fingerprints = [each.dataset["fingerprint"] for each in found.values()]
    spec = Spec(inputs={}, dataset={"fingerprint": hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()})
    protocol = "; ".join(dict.fromkeys(each.evaluation.protocol for each in found.values()))
    return Baseline(spec, Evaluation(protocol, scalars, 0.0, samples=samples))


def _below(root: Path | None, name: str) -> Path:
    return Path(name) if root is None else root / name


def _count(model: keras.Model, prefixes: Sequence[str], excluded: Sequence[str]) -> int:
    layers = [layer for layer in model.layers if layer.name.startswith(tuple(prefixes))]
    kept = [layer for layer in layers if not any(part in layer.name for part in excluded)]
    return sum(math.prod(weight.shape) for layer in kept for weight in layer.trainable_weights)
