"""A training step of generators against discriminators: the library's, and what a bare one of TensorFlow needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec
from tfthesis.models.adversarial_model import AdversarialModel
from tfthesis.recipe import Recipe
from training.step import make_step
from training.strategy import make_strategy

SECOND_BETA = 0.999


def recipe_of(method: str, variant: str | None, side: int, **settings: Any) -> Recipe:
    """Return a method's recipe for images of `side` pixels; `settings` are fields of it."""
    return load_method(method).recipe("quick", variant, height=side, width=side, **settings)


def build(method: str, recipe: Recipe, data: dict[str, np.ndarray]) -> AdversarialModel:
    """Return a method's model, compiled for its one stage."""
    loaded = load_method(method)
    model = loaded.build(recipe, Spec({name: values.shape[1:] for name, values in data.items()}))
    (stage,) = loaded.stages(recipe)
    model.train_only(stage.trainable)
    loaded.compile(model, recipe, stage)
    return model


def taken(model: AdversarialModel, data: dict[str, np.ndarray]) -> Callable[[], None]:
    """Return a function that takes one step of a compiled model on `data` as the training loop does."""
    inputs = {name: tf.constant(values) for name, values in data.items()}
    batch = inputs, {"row": tf.range(len(next(iter(data.values()))), dtype=tf.int64)}
    # Open batch sizes, as the loop has them.
    spec = tf.nest.map_structure(lambda value: tf.TensorSpec([None, *value.shape[1:]], value.dtype), batch)
    train = make_step(model.train_step, make_strategy("one", None), spec, xla=False)

    def take() -> None:
        logs, _ = train(batch)
        logs["loss"].numpy()

    return take


class Bare(Protocol):
    """Losses and updates with TensorFlow operations alone."""

    def train(self, data: dict[str, tf.Tensor]) -> tf.Tensor:
        """Take one step; returns the sum of all losses before it."""


def bare_taken(bare: Bare, data: dict[str, np.ndarray]) -> Callable[[], None]:
    """Return a function that takes one step of `bare` on `data` in a `tf.function`."""
    tensors = {name: tf.constant(values) for name, values in data.items()}
    train = tf.function(lambda: bare.train(tensors))

    def take() -> None:
        train().numpy()

    return take


class Adam:
    """Adam for the weights of `networks`, an operation of TensorFlow for each."""

    def __init__(self, networks: Sequence[keras.Model], recipe: Recipe):
        self.recipe = recipe
        self.variables = [variable for network in networks for variable in network.trainable_variables]
        self.moments = [[tf.Variable(tf.zeros(v.shape)) for _ in "mv"] for v in self.variables]
        self.powers = [tf.Variable(beta) for beta in (recipe.beta, SECOND_BETA)]

    def move(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        """Take a step down a loss that `tape` has recorded."""
        first, second = self.powers
        gradients = tape.gradient(loss, self.variables)
        for variable, gradient, (m, v) in zip(self.variables, gradients, self.moments, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=first,
                beta2_power=second,
                lr=self.recipe.learning_rate,
                beta1=self.recipe.beta,
                beta2=SECOND_BETA,
                epsilon=self.recipe.epsilon,
                grad=gradient,
            )
        first.assign(first * self.recipe.beta)
        second.assign(second * SECOND_BETA)


def distance(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the mean absolute difference."""
    return tf.reduce_mean(tf.abs(first - second))
