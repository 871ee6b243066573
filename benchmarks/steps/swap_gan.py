"""SwapGAN's step: a batch, and losses in bare TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.steps.adversarial import Adam, distance
from tfthesis.data.person_images import BODY
from tfthesis.models import SwapGAN
from tfthesis.recipe import Recipe
from tfthesis.swapping.data import INPUTS
from tfthesis.swapping.representations import body_mask

METHOD = "swap_gan"
#: Pairs of images, section 8.2.3.
BATCH = 8
#: The recipe's fields for the maps of first convolutions.
FILTERS = ("filters", "mask_filters", "discriminator_filters")


def batch(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return images and poses of noise, float32 `[B, H, W, 3]` in -1..1, segmentations and masks by lot."""
    rng, size = np.random.default_rng(0), (recipe.batch_size, recipe.height, recipe.width)
    images = rng.uniform(-1, 1, (3, *size, 3)).astype(np.float32)
    of_condition, of_reference = rng.integers(len(BODY), size=(2, *size))
    segments = np.eye(len(BODY), dtype=np.float32)[of_condition]
    masks = (body_mask(labels)[..., None].astype(np.float32) for labels in (of_reference, of_condition))
    return dict(zip(INPUTS, (*images, segments, *masks), strict=True))


class Bare:
    """Losses and updates with TensorFlow operations alone; the networks are those of a model."""

    def __init__(self, model: SwapGAN, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.generators, self.discriminator = (
            Adam(model.networks(kind), recipe) for kind in ("generator", "discriminator")
        )

    def train(self, data: dict[str, tf.Tensor]) -> tf.Tensor:
        """Take one step on pairs of images; returns the sum of all losses before it (Eq 8.18, 8.19)."""
        reference, condition, model = data["reference"], data["condition"], self.model
        with tf.GradientTape() as tape:
            generated = model.generator_1(joined(condition, data["pose"]), training=True)
            restored = model.generator_2(joined(generated, data["segments"]), training=True)
            false, other = joined(generated, condition), joined(reference, restored)
            total = sum(tf.reduce_mean((model.discriminator(pair) - 1) ** 2) for pair in (false, other))
            masks = distance(model.generator_3(generated, training=True), data["reference_mask"])
            masks += distance(model.generator_3(restored, training=True), data["condition_mask"])
            total += self.recipe.mask_weight * masks
        self.generators.move(tape, total)
        pairs = tf.concat([joined(reference, condition), false, other], axis=0)
        with tf.GradientTape() as tape:
            true, false, other = tf.split(model.discriminator(pairs, training=True), 3)
            loss = tf.reduce_mean((true - 1) ** 2) + tf.reduce_mean(false**2) + tf.reduce_mean(other**2)
        self.discriminator.move(tape, loss)
        return total + loss


def joined(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return images with the channels of others behind their own."""
    return tf.concat([first, second], axis=-1)
