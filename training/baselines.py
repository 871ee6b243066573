"""Rows of the tables that are not trained: a closed-form ridge map, and counts of weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfthesis.method import Evaluation, Spec, UserError
from tfthesis.metrics.recall import recalls, retrieval_ranks
from tfthesis.metrics.ridge import fit_ridge
from training.reproduction.comparison import OWNER
from training.request import Request

if TYPE_CHECKING:
    import keras

    from tfthesis.data.paired import PairArrays


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What a baseline found, and the data it saw."""

    spec: Spec
    evaluation: Evaluation


def evaluate_ridge(request: Request, strengths: Sequence[float]) -> Baseline:
    """Map image features to the mean features of their captions by ridge regression, and measure R@K.

    The map is fitted on the training split. Predictions and caption features are compared by the cosine of their
    differences from the training captions' mean, which is much the stronger than their own cosine. Of `strengths`
    the one with the largest sum of recalls on the validation split is taken; the test split is measured once, by the
    protocol of the methods.

    Args:
        request: names the data and the encoders of its features.
        strengths: ridge penalties to choose from; see `tfthesis.metrics.ridge.fit_ridge`.

    Raises:
        UserError: the dataset is missing, or not one of images and captions.
    """
    data = request.open_data()
    if not hasattr(data, "arrays"):
        raise UserError(f"the ridge map needs images with captions; {request.short_name} opens other data")
    train, validation, test = (data.arrays(split) for split in ("train", "val", "test"))
    centre = caption_means(train).mean(axis=0)
    ridge = fit_ridge(
        train.image,
        caption_means(train),
        (validation.image, caption_means(validation)),
        strengths,
        lambda predicted: _recalls(predicted, validation, centre)[0]["r_sum"],
    )
    scalars, samples = _recalls(ridge.predict(test.image), test, centre)
    protocol = f"R@K, several captions an image, best caption counts; strength {ridge.strength:.3g}, chosen on val"
    return Baseline(data.spec, Evaluation(protocol, scalars, scalars["r_sum"], samples=samples))


def caption_means(arrays: PairArrays) -> np.ndarray:
    """Return the mean caption feature of every image, `[N, Dt]`."""
    sums = np.zeros((len(arrays.image), arrays.text.shape[1]))
    np.add.at(sums, arrays.owner, arrays.text)
    return sums / np.bincount(arrays.owner, minlength=len(sums))[:, None]


def _recalls(
    predicted: np.ndarray, arrays: PairArrays, centre: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the recalls both ways of predictions `[N, Dt]`, and the ranks they come from."""
    image_rank, text_rank = retrieval_ranks(_unit(predicted - centre), _unit(arrays.text - centre), arrays.owner)
    scalars = {**recalls(image_rank, "i2t_"), **recalls(text_rank, "t2i_")}
    scalars["r_sum"] = sum(scalars.values())
    return scalars, {"i2t_rank": image_rank, "t2i_rank": text_rank, OWNER: arrays.owner}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def count_weights(request: Request, shapes: Mapping[str, Any], counted: Mapping[str, Mapping[str, Any]]) -> Baseline:
    """Build the recipe's model for data of the given shapes and count the trained weights of its layers.

    Args:
        request: names method and recipe.
        shapes: `inputs` (width by name), `classes` (their number) and, if so, `multi_label`.
        counted: figure by name, each with `layers` (prefixes of layer names) and `exclude` (parts of
            names that do not count).
    """
    spec = Spec(
        inputs={name: (width,) for name, width in shapes["inputs"].items()},
        classes=tuple(f"class {number}" for number in range(shapes["classes"])),
        multi_label=shapes.get("multi_label", False),
    )
    model = request.method.build(request.recipe, spec)
    scalars = {figure: float(_count(model, names["layers"], names["exclude"])) for figure, names in counted.items()}
    return Baseline(spec, Evaluation("weights of the built model", scalars, 0.0))


def _count(model: keras.Model, prefixes: Sequence[str], excluded: Sequence[str]) -> int:
    layers = [layer for layer in model.layers if layer.name.startswith(tuple(prefixes))]
    kept = [layer for layer in layers if not any(part in layer.name for part in excluded)]
    return sum(math.prod(weight.shape) for layer in kept for weight in layer.trainable_weights)
