"""Signed square root of a vector."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class SignedSquareRoot(keras.layers.Layer):
    """Returns `sign(x) * sqrt(|x| + epsilon)`, whose gradient is finite everywhere and zero at zero.

    Args:
        epsilon: bounds the gradient by `1 / (2 sqrt(epsilon))`.

    Source: Liu 2018, section 7.2.3 (the layer after the bilinear vector).
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the signed root of each component."""
        return tf.sign(inputs) * tf.sqrt(tf.abs(inputs) + self.epsilon)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
