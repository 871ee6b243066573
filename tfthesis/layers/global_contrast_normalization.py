"""Global contrast normalisation of images."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class GlobalContrastNormalization(keras.layers.Layer):
    """Takes the mean over all pixels and channels off each image and scales the rest to one length.

    Args:
        scale: Euclidean length of a result. With 55, the number of the networks whose preprocessing section 2.4.1
            takes over, the 3,072 values of a 32 x 32 image have a deviation of about one.
        epsilon: length below which an image has no contrast but rounding; it becomes zero.

    Call arguments:
        inputs: `[B, H, W, C]`.

    Returns:
        The same shape, float.

    Source: Liu 2018, section 2.4.1, which cites Maxout networks for it.
    """

    def __init__(self, scale: float = 55.0, epsilon: float = 1e-2, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = scale
        self.epsilon = epsilon

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the normalised images."""
        centred = inputs - tf.reduce_mean(inputs, axis=[1, 2, 3], keepdims=True)
        length = tf.sqrt(tf.reduce_sum(centred**2, axis=[1, 2, 3], keepdims=True))
        flat = length < self.epsilon
        return tf.where(
            flat, tf.zeros_like(centred), self.scale * centred / tf.where(flat, tf.ones_like(length), length)
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "scale": self.scale, "epsilon": self.epsilon}
