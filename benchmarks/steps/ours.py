"""The library's step, as the training loop calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec


def build(data: dict[str, np.ndarray], classes: int, **settings: Any) -> tuple[keras.Model, Any]:
    """Return the model, compiled for the joint stage, and its batch; `settings` are fields of the recipe."""
    method = load_method("mmc_net")
    recipe = method.recipe("thesis", **settings)
    inputs = {"image": (data["image"].shape[1],), "text": (data["text"].shape[1],)}
    model = method.build(recipe, Spec(inputs, classes=tuple(map(str, range(classes)))))
    stage = method.stages(recipe)[2]
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    tensors = {name: tf.constant(value) for name, value in data.items()}
    return model, ({name: tensors[name] for name in inputs}, {name: tensors[name] for name in ("image_id", "label")})


def step(data: dict[str, np.ndarray], classes: int) -> Callable[[], None]:
    """Return a function that takes one joint step on `data`."""
    model, batch = build(data, classes)
    train = tf.function(model.train_step)

    def take() -> None:
        train(batch)["loss"].numpy()

    return take
