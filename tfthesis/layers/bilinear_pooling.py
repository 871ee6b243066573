"""Full bilinear pooling of two vectors."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class BilinearPooling(keras.layers.Layer):
    """Returns the outer product of two vectors as one vector.

    Call arguments:
        inputs: two tensors `[B, M1]` and `[B, M2]`.

    Returns:
        `[B, M1 * M2]`; component `i * M2 + j` is `x[i] * y[j]`.

    Source: Liu 2018, Eq 7.5 and Table 7.7.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the outer products `[B, M1 * M2]`."""
        left, right = inputs
        return tf.reshape(left[:, :, None] * right[:, None, :], [-1, left.shape[-1] * right.shape[-1]])

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return `[B, M1 * M2]`."""
        return (input_shape[0][0], input_shape[0][-1] * input_shape[1][-1])
