"""The step of CycleGAN and Nest CycleGAN: a batch, and losses and pools in bare TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from benchmarks.steps.adversarial import Adam, distance
from tfthesis.models import CycleConsistentGAN
from tfthesis.recipe import Recipe

METHOD = "cycle_gan"
#: An image of each domain, section 8.1.3.
BATCH = 1
#: The recipe's fields for the maps of first convolutions.
FILTERS = ("filters", "discriminator_filters")


def batch(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return images of noise of each domain, float32 `[B, H, W, 3]` in -1..1."""
    shape = (2, recipe.batch_size, recipe.height, recipe.width, 3)
    a, b = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return {"a": a, "b": b}


class Bare:
    """Losses, pools of images and updates with TensorFlow operations alone; the networks are those of a model."""

    def __init__(self, model: CycleConsistentGAN, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.generators, self.discriminators = (
            Adam(model.networks(kind), recipe) for kind in ("generator", "discriminator")
        )
        shape = model.discriminator_a.input_shape[1:]
        self.pools = [(tf.Variable(tf.zeros([recipe.pool, *shape])), tf.Variable(0)) for _ in "ab"]

    def train(self, data: dict[str, tf.Tensor]) -> tf.Tensor:
        """Take one step on an image of each domain; returns the sum of all losses before it."""
        a, b = data["a"], data["b"]
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
        self.generators.move(tape, total)
        shown_a, shown_b = self.pooled(fake_a, 0), self.pooled(fake_b, 1)
        with tf.GradientTape() as tape:
            loss = tf.zeros([])
            for network, real, shown in ((d_a, a, shown_a), (d_b, b, shown_b)):
                true, false = tf.split(network(tf.concat([real, shown], axis=0)), 2)
                loss += tf.reduce_mean((true - 1) ** 2) + tf.reduce_mean(false**2)
        self.discriminators.move(tape, loss)
        return total + loss

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
