"""How an image of any size enters a network whose input has one size, and how its labels come back."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfthesis.data.segmented_images import IGNORED
from tfthesis.trunks.vgg import MEAN


@dataclasses.dataclass(frozen=True)
class Field:
    """The input of a network, `height` x `width` pixels.

    Locally-connected fusion has weights of its own for every pixel, so that its network takes one size only. A smaller
    image lies in the upper left corner of the field, the rest has the mean colour, which is zero inside the network; a
    larger one is scaled down, its sides alike, until it fits.
    """

    height: int
    width: int

    def inner(self, size: tf.Tensor) -> tf.Tensor:
        """Return height and width int32 `[2]` that an image of `size` `[2]` has inside the field."""
        size = tf.cast(size, tf.float32)
        scale = tf.minimum(tf.reduce_min(tf.constant([self.height, self.width], tf.float32) / size), 1.0)
        return tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)

    def place_image(self, pixels: tf.Tensor) -> tf.Tensor:
        """Return pixels `[h, w, 3]` as float32 `[height, width, 3]`."""
        inner = self.inner(tf.shape(pixels)[:2])
        scaled = tf.image.resize(pixels, inner, antialias=True) - tf.constant(MEAN)
        return self._padded(scaled, inner) + tf.constant(MEAN)

    def place_labels(self, labels: tf.Tensor) -> tf.Tensor:
        """Return labels uint8 `[h, w]` as `[height, width]`; where there is no image they are `IGNORED`."""
        inner = self.inner(tf.shape(labels)[:2])
        scaled = tf.image.resize(labels[..., None], inner, method="nearest")
        return self._padded(scaled, inner, IGNORED)[..., 0]

    def take_back(self, labels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Return labels `[height, width]` of the field as those `[h, w]` of an image of `size` `[2]`."""
        size = tf.convert_to_tensor(size, tf.int32)
        inner = self.inner(size)
        return tf.image.resize(labels[: inner[0], : inner[1], None], size, method="nearest")[..., 0]

    def mirror(self, values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Return `[height, width, ...]` whose part that an image of `size` `[2]` takes is flipped left to right."""
        width = self.inner(size)[1]
        return tf.concat([tf.reverse(values[:, :width], [1]), values[:, width:]], axis=1)

    def _padded(self, values: tf.Tensor, inner: tf.Tensor, constant: int = 0) -> tf.Tensor:
        below, right = self.height - inner[0], self.width - inner[1]
        padded = tf.pad(values, [[0, below], [0, right], [0, 0]], constant_values=tf.cast(constant, values.dtype))
        padded.set_shape([self.height, self.width, values.shape[-1]])
        return padded
