"""The segmentation network of the FCN-score, trained once for a dataset and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import keras
import numpy as np

from tfthesis.adversarial.data import TranslationData
from tfthesis.data.image_text import image_identity
from tfthesis.discovery import load_method
from tfthesis.encoders.cache_folder import default_cache
from tfthesis.encoders.kept_weights import load_or_train
from tfthesis.errors import UserError
from tfthesis.method import Method, Preparation, Spec
from tfthesis.recipe import Recipe
from tfthesis.trunks import vgg

# Raise it when the same options and data give another network.
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ScorerOptions:
    """What the network is and how it is trained; see the recipe of `fcfn_segmentation`, whose FCN-8s it is.

    Attributes:
        trunk: of the network.
        weights: to start from; empty starts by lot.
        epochs: over the training photos.
        batch_size: photos.
        learning_rate: of all epochs.
    """

    trunk: str = "narrow"
    weights: str = ""
    epochs: int = 40
    batch_size: int = 8
    learning_rate: float = 0.05


def open_scorer(data: TranslationData, options: ScorerOptions, cache: Path | None = None) -> keras.Model:
    """Return an FCN-8s trained on the training photos of `data` and their labels, from the cache where it is there.

    Runs that differ in their generators, or in their seed, are measured by the same network: its first weights and the
    order of its photos do not depend on the run.

    Args:
        data: of a segmentation dataset.
        options: of the network.
        cache: parent of the folder in which its weights are kept, under a key of data and options; None takes
            `tfthesis.encoders.cache_folder.default_cache`.

    Raises:
        UserError: a dataset without labels, or a cache that cannot be written.
    """
    if not data.labelled:
        raise UserError(f"the FCN-score needs photos with labels, which {data.dataset.name} does not have")
    if options not in data.scorers:
        data.scorers[options] = _read_or_train(data, options, cache or default_cache())
    return data.scorers[options]


def check_scorer_weights(data: TranslationData, options: ScorerOptions, cache: Path | None = None) -> None:
    """Read the weights of VGG-16 that the network would start from, or download them, unless it is kept already.

    Args:
        data, options, cache: as for `open_scorer`.

    Raises:
        UserError: they are missing, cannot be downloaded or belong to another network.
    """
    if options.weights and not _kept(data, options, cache or default_cache()).is_file():
        # An FCN's fc6 and fc7 are those of the classifier.
        vgg.open_vgg16(options.weights, has_head=True)


def _kept(data: TranslationData, options: ScorerOptions, cache: Path) -> Path:
    return cache / f"fcn-score-{_key(data, options)[:20]}" / "weights.npz"


def _read_or_train(data: TranslationData, options: ScorerOptions, cache: Path) -> keras.Model:
    method, recipe = _fcn(data, options)
    model = _build(method, recipe, data)
    path = _kept(data, options, cache)
    what = f"the network of the FCN-score on {data.size('train')} photos"
    load_or_train(model, path, lambda: _train(model, method, recipe, data, options), what)
    return model


def _fcn(data: TranslationData, options: ScorerOptions) -> tuple[Method, Recipe]:
    method = load_method("fcfn_segmentation")
    fields = {**dataclasses.asdict(options), "epochs": (options.epochs,)}
    preset = "thesis" if options.trunk == "vgg16" else "quick"
    # Without dropout nothing of its training is drawn by lot but what is drawn here.
    return method, method.recipe(preset, "fcn8s", height=data.height, width=data.width, dropout=0.0, **fields)


def _build(method: Method, recipe: Recipe, data: TranslationData) -> keras.Model:
    spec = Spec({"image": (data.height, data.width, 3)}, data.spec.classes, extra={"colours": data.dataset.colours})
    model = method.build(recipe, spec)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        # Predictions start at zero and stay there; the other kernels get He's normal distribution.
        if variable.name == "kernel" and np.any(variable):
            deviation = math.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(scale=deviation, size=variable.shape))
    return model


def _train(model: keras.Model, method: Method, recipe: Recipe, data: TranslationData, options: ScorerOptions) -> None:
    *first, stage = method.stages(recipe)
    for preparation in first:
        if isinstance(preparation, Preparation):
            preparation.run(model, data, recipe)
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    count = len(data.opened("train").labels)
    for epoch in range(options.epochs):
        order = np.random.default_rng((0, epoch)).permutation(count)
        batches = [order[start : start + options.batch_size] for start in range(0, count, options.batch_size)]
        model.fit(data.labelled_batches("train", batches), epochs=1, verbose=0, shuffle=False)


def _key(data: TranslationData, options: ScorerOptions) -> str:
    photos = [data.spec.dataset["fingerprint"], data.height, data.width]
    start = image_identity(Path(options.weights)) if options.weights else []
    parts = [_VERSION, photos, dataclasses.asdict(options), start]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
