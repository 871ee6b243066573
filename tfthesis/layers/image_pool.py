"""A pool of generated images that discriminators are shown again later."""

from __future__ import annotations

import random
from typing import Any

import keras
import tensorflow as tf

from tfthesis.models.replicas import Replicas


@keras.saving.register_keras_serializable("tfthesis")
class ImagePool(keras.layers.Layer):
    """Keeps `size` generated images and returns, for each new one, that one or an older one.

    The first `size` images are kept and returned. Of each later image a lot decides with equal chances: it is returned
    and forgotten, or it takes the place of a kept image, drawn by lot, which is returned. The images of a global batch
    come one after another in its order, so that one and many devices return the same. Lots depend on (seed, number of
    the image); images and their number are weights, so that a resumed run goes on as if it had not stopped.

    Args:
        size: images that are kept; with 0 every image is returned as it came.
        seed: integer; None draws one from Python's random state, which `keras.utils.set_random_seed` sets.

    Call arguments:
        inputs: this replica's images `[n, H, W, C]`, n may be 0.

    Returns:
        `[n, H, W, C]`, through which no gradient passes.

    Source: Shrivastava et al., Learning from simulated and unsupervised images, section 2.3, as CycleGAN uses it.
    """

    def __init__(self, size: int = 50, seed: int | None = None, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        if size < 0:
            raise ValueError(f"ImagePool: size must not be negative, got {size}")
        self.size = size
        self.seed = random.randint(1, 2**31 - 1) if seed is None else seed

    def build(self, input_shape: tuple) -> None:
        """Create the kept images and the number of those that came."""
        if self.size:
            shared = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
            self.images = self.add_weight(shape=(self.size, *input_shape[1:]), name="images", **shared)
            self.count = self.add_weight(shape=(), dtype="int64", name="count", **shared)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return an image for each of `inputs`."""
        mine = tf.stop_gradient(inputs)
        if not self.size:
            return mine
        replicas = Replicas.current()
        everyone = replicas.gather(mine)
        kept = tf.convert_to_tensor(self.images)
        returned, places = self._places(tf.shape(everyone)[0])
        known = tf.concat([kept, tf.cast(everyone, kept.dtype)], axis=0)
        self.images.assign(tf.gather(known, places))
        self.count.assign_add(tf.shape(everyone, out_type=tf.int64)[0])
        rows = tf.shape(mine)[0]
        offset = replicas.offset(rows)
        return tf.cast(tf.gather(known, returned[offset : offset + rows]), mine.dtype)

    def _places(self, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where, among the kept and then the new images, the returned `[N]` and the next kept `[size]` are."""
        before = tf.cast(tf.convert_to_tensor(self.count), tf.int64)

        def take(number: tf.Tensor, kept: tf.Tensor, returned: tf.TensorArray) -> tuple[tf.Tensor, ...]:
            new, place = self.size + number, before + tf.cast(number, tf.int64)
            lots = tf.random.stateless_uniform([2], tf.stack([tf.constant(self.seed, tf.int64), place]))
            fills = place < self.size
            drawn = tf.minimum(tf.cast(lots[1] * self.size, tf.int32), self.size - 1)
            slot = tf.where(fills, tf.cast(tf.minimum(place, self.size), tf.int32), drawn)
            swaps = fills | (lots[0] >= 0.5)
            answer = tf.where(swaps & ~fills, kept[tf.minimum(slot, self.size - 1)], new)
            kept = tf.where((tf.range(self.size) == slot) & swaps, new, kept)
            return number + 1, kept, returned.write(number, answer)

        start = (tf.constant(0), tf.range(self.size), tf.TensorArray(tf.int32, count, element_shape=[]))
        _, kept, returned = tf.while_loop(lambda number, *_: number < count, take, start, parallel_iterations=1)
        return returned.stack(), kept

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = {name: value for name, value in super().get_config().items() if name != "trainable"}
        return {**config, "size": self.size, "seed": self.seed}
