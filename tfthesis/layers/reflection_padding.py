"""Padding of feature maps by their mirror image."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class ReflectionPadding(keras.layers.Layer):
    """Puts `width` pixels around a map, mirrored at its outermost pixels, which are not repeated.

    Args:
        width: pixels on each side.

    Call arguments:
        inputs: `[B, H, W, C]`, with H and W above `width`.

    Returns:
        `[B, H + 2 * width, W + 2 * width, C]`.

    Raises:
        ValueError: a width below 1, or a map that is known to be too small for it.

    Source: the generator of CycleGAN, which Liu 2018, section 8.1.2, takes over.
    """

    def __init__(self, width: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"ReflectionPadding: width must be at least 1, got {width}")
        self.width = width

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the padded maps."""
        around = [self.width, self.width]
        return tf.pad(inputs, [[0, 0], around, around, [0, 0]], mode="REFLECT")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape with the padding."""
        batch, height, width, channels = input_shape
        for side in (height, width):
            if side is not None and side <= self.width:
                raise ValueError(
                    f"ReflectionPadding: cannot mirror {self.width} pixels of a map of {height} x {width} pixels"
                )
        sides = [None if side is None else side + 2 * self.width for side in (height, width)]
        return (batch, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "width": self.width}
