"""The library's step of CFN-A or, without fusion, of the plain CNN-A, as the training loop calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec


def build(data: dict[str, np.ndarray], classes: int, fused: bool, **settings: Any) -> tuple[keras.Model, Any]:
    """Return the model, compiled for its first stage, and its batch; `settings` are fields of the recipe."""
    method = load_method("cfn")
    recipe = method.recipe("thesis", None if fused else "plain", architecture="a", **settings)
    spec = Spec({"image": data["image"].shape[1:]}, classes=tuple(map(str, range(classes))))
    model = method.build(recipe, spec)
    stage = method.stages(recipe)[0]
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    return model, ({"image": tf.constant(data["image"])}, {"label": tf.constant(data["label"])})


def step(data: dict[str, np.ndarray], classes: int, fused: bool) -> Callable[[], None]:
    """Return a function that takes one step on `data`."""
    model, batch = build(data, classes, fused)
    train = tf.function(model.train_step)

    def take() -> None:
        train(batch)["loss"].numpy()

    return take
