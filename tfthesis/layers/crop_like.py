"""Cropping of a map to the size of another one."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class CropLike(keras.layers.Layer):
    """Cuts a map to the height and width of another one, of whatever size they are when it is called.

    Args:
        offset: rows and columns that are left out above and to the left.

    Call arguments:
        inputs: the map `[B, h, w, C]` and the other one `[B, H, W, D]`, with `h >= offset + H` and `w >= offset + W`.

    Returns:
        `[B, H, W, C]`.

    Raises:
        ValueError: a negative offset, or sizes that are known and do not fit.
    """

    def __init__(self, offset: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if offset < 0:
            raise ValueError(f"CropLike: offset must not be negative, got {offset}")
        self.offset = offset

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the cropped map."""
        large, like = inputs
        size = tf.shape(like)
        cropped = large[:, self.offset : self.offset + size[1], self.offset : self.offset + size[2]]
        cropped.set_shape(self.compute_output_shape([large.shape, like.shape]))
        return cropped

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return batch and channels of the map, height and width of the other one."""
        large, like = input_shape
        for have, want in zip(large[1:3], like[1:3], strict=True):
            if have is not None and want is not None and have < self.offset + want:
                raise ValueError(f"CropLike: cannot cut {tuple(like)} out of {tuple(large)} at {self.offset}")
        return (large[0], like[1], like[2], large[3])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "offset": self.offset}
