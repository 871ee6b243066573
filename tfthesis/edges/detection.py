"""From an image of any size to its edge map."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfthesis.errors import UserError


class EdgeDetector:
    """Edge probabilities of images, as a function of tensors that can be served.

    A network of locally-connected fusion takes images of one size: others are stretched to it, and the map back.

    Args:
        model: gives `fuse` `[B, H, W, 1]` before the sigmoid, of `image` `[B, H, W, 3]`.
        scales: sizes at which an image is looked at, in shares of its own; the maps are averaged at its size.

    Raises:
        UserError: no scale, one that is not positive, or several for a network of one size.
    """

    def __init__(self, model: keras.Model, scales: Sequence[float] = (1.0,)):
        if not scales or min(scales) <= 0:
            raise UserError(f"recipe field 'test_scales': expected sizes above 0, got {tuple(scales)}")
        self.model, self.scales = model, tuple(scales)
        sides = model.input["image"].shape[1:3]
        self.fixed = None if None in sides else tuple(sides)
        if self.fixed and self.scales != (1.0,):
            raise UserError(f"recipe field 'test_scales': a network of {self.fixed} pixels takes one scale, 1.0")

    def probabilities(self, pixels: tf.Tensor) -> tf.Tensor:
        """Return the edge map float32 `[H, W]`, 0..1, of pixels `[H, W, 3]` in 0..255."""
        size = tf.shape(pixels)[:2]
        pixels = tf.cast(pixels, tf.float32)
        if self.fixed:
            return self._resized(self._map(tf.image.resize(pixels, self.fixed, antialias=True)), size)
        maps = []
        for scale in self.scales:
            if scale == 1:
                maps.append(self._map(pixels))
                continue
            scaled = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32), 1)
            maps.append(self._resized(self._map(tf.image.resize(pixels, scaled, antialias=True)), size))
        return tf.add_n(maps) / len(maps)

    def _map(self, pixels: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.model({"image": pixels[None]}, training=False)["fuse"][0, ..., 0])

    @staticmethod
    def _resized(edges: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.image.resize(edges[..., None], size, antialias=True)[..., 0], 0.0, 1.0)
