"""CycleGAN's training step: the library's, as the training loop calls it, and its networks in a bare `tf.function`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec
from tfthesis.models import CycleConsistentGAN
from tfthesis.recipe import Recipe
from training.step import make_step
from training.strategy import make_strategy

SECOND_BETA = 0.999


def recipe_of(data: dict[str, np.ndarray], variant: str | None, **settings: Any) -> Recipe:
    """Return the recipe for images of the size of `data`; `settings` are fields of it."""
    height, width = data["a"].shape[1:3]
    return load_method("cycle_gan").recipe("quick", variant, height=height, width=width, **settings)


def build(data: dict[str, np.ndarray], variant: str | None, **settings: Any) -> tuple[CycleConsistentGAN, Recipe]:
    """Return the model, compiled for its stage, and its recipe."""
    method, recipe = load_method("cycle_gan"), recipe_of(data, variant, **settings)
    model = method.build(recipe, Spec({name: images.shape[1:] for name, images in data.items()}))
    (stage,) = method.stages(recipe)
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    return model, recipe


def step(data: dict[str, np.ndarray], variant: str | None, **settings: Any) -> Callable[[], None]:
    """Return a function that takes one step on `data` as the training loop does."""
    return taken(build(data, variant, **settings)[0], data)


def taken(model: CycleConsistentGAN, data: dict[str, np.ndarray]) -> Callable[[], None]:
    """Return a function that takes one step of a compiled model on `data`, one image of each domain."""
    batch = {name: tf.constant(images) for name, images in data.items()}, {"row": tf.range(1, dtype=tf.int64)}
    # Open batch sizes, as the loop has them.
    spec = tf.nest.map_structure(lambda value: tf.TensorSpec([None, *value.shape[1:]], value.dtype), batch)
    train = make_step(model.train_step, make_strategy("one", None), spec, xla=False)

    def take() -> None:
        logs, _ = train(batch)
        logs["loss"].numpy()

    return take


class Bare:
    """Losses, pools of images and updates with TensorFlow operations alone; the networks are those of a model."""

    def __init__(self, model: CycleConsistentGAN, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.trained = [
            [v for network in model.networks(kind) for v in network.trainable_variables]
            for kind in ("generator", "discriminator")
        ]
        self.moments = [[[tf.Variable(tf.zeros(v.shape)) for _ in "mv"] for v in chosen] for chosen in self.trained]
        self.powers = [[tf.Variable(beta) for beta in (recipe.beta, SECOND_BETA)] for _ in self.trained]
        shape = model.discriminator_a.input_shape[1:]
        self.pools = [(tf.Variable(tf.zeros([recipe.pool, *shape])), tf.Variable(0)) for _ in "ab"]

    def train(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Take one step on an image of each domain; returns the sum of all losses before it."""
        recipe, to_b, to_a = self.recipe, self.model.chain("b"), self.model.chain("a")
        d_a, d_b = self.model.discriminator_a, self.model.discriminator_b
        with tf.GradientTape() as tape:
            fakes_b, fakes_a = passed(a, to_b), passed(b, to_a)
            fake_b, fake_a = fakes_b[-1], fakes_a[-1]
            total = tf.reduce_mean((d_b(fake_b) - 1) ** 2) + tf.reduce_mean((d_a(fake_a) - 1) ** 2)
            cycles = distance(passed(fake_b, to_a)[-1], a) + distance(passed(fake_a, to_b)[-1], b)
            if recipe.inner_cycles:
                for m in range(1, len(to_b)):
                    cycles += distance(passed(fakes_b[m - 1], to_a[-m:])[-1], a)
                    cycles += distance(passed(fakes_a[m - 1], to_b[-m:])[-1], b)
            total += recipe.cycle_weight * cycles
            if recipe.similarity_weight:
                total += recipe.similarity_weight * distance(fakes_b[0], fakes_a[0])
        self.update(0, tape.gradient(total, self.trained[0]))
        shown_a, shown_b = self.pooled(fake_a, 0), self.pooled(fake_b, 1)
        with tf.GradientTape() as tape:
            loss = tf.zeros([])
            for network, real, shown in ((d_a, a, shown_a), (d_b, b, shown_b)):
                true, false = tf.split(network(tf.concat([real, shown], axis=0)), 2)
                loss += tf.reduce_mean((true - 1) ** 2) + tf.reduce_mean(false**2)
        self.update(1, tape.gradient(loss, self.trained[1]))
        return total + loss

    def update(self, which: int, gradients: Sequence[tf.Tensor]) -> None:
        """Apply Adam to the generators (0) or the discriminators (1)."""
        first, second = self.powers[which]
        for variable, gradient, (m, v) in zip(self.trained[which], gradients, self.moments[which], strict=True):
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

    def pooled(self, image: tf.Tensor, which: int) -> tf.Tensor:
        """Return one generated image, or an earlier one whose place it takes."""
        kept, count = self.pools[which]

        def filled() -> tf.Tensor:
            kept[count].assign(image[0])
            count.assign_add(1)
            return image

        def swapped() -> tf.Tensor:
            slot = tf.random.uniform([], maxval=self.recipe.pool, dtype=tf.int32)
            old = tf.identity(kept[slot])
            kept[slot].assign(image[0])
            return old[None]

        def later() -> tf.Tensor:
            return tf.cond(tf.random.uniform([]) < 0.5, swapped, lambda: image)

        return tf.stop_gradient(tf.cond(count < self.recipe.pool, filled, later))


def passed(image: tf.Tensor, networks: Sequence[keras.Model]) -> list[tf.Tensor]:
    """Return what each of a chain of networks makes of an image."""
    images = []
    for network in networks:
        image = network(image, training=True)
        images.append(image)
    return images


def distance(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the mean absolute difference."""
    return tf.reduce_mean(tf.abs(first - second))


def bare_step(data: dict[str, np.ndarray], variant: str | None, **settings: Any) -> Callable[[], None]:
    """Return a function that takes one step on `data`, whose batch is one image of each domain."""
    bare = Bare(*build(data, variant, **settings))
    a, b = (tf.constant(data[name]) for name in "ab")
    train = tf.function(lambda: bare.train(a, b))

    def take() -> None:
        train().numpy()

    return take
