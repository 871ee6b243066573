"""The library's step, as the training loop calls it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfthesis.method import Spec, load_method


def step(data: dict[str, np.ndarray], classes: int) -> Callable[[], None]:
    """Return a function that takes one joint step on `data`."""
    method = load_method("mmc_net")
    recipe = method.recipe("thesis")
    inputs = {"image": (data["image"].shape[1],), "text": (data["text"].shape[1],)}
    model = method.build(recipe, Spec(inputs, classes=tuple(map(str, range(classes)))))
    stage = method.stages(recipe)[2]
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    tensors = {name: tf.constant(value) for name, value in data.items()}
    batch = {name: tensors[name] for name in inputs}, {name: tensors[name] for name in ("image_id", "label")}
    train = tf.function(model.train_step)

    def take() -> None:
        train(batch)["loss"].numpy()

    return take
