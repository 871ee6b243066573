"""Several embeddings of one item as one vector."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class JoinedEmbeddings(keras.layers.Layer):
    """Joins S embeddings so that the inner product of two joined vectors is the average of S cosines.

    Each part is L2-normalised and divided by the root of S. The average fusion of scores (Eq 6.8) and an ensemble of
    models (Eq 5.11) thereby become one search by inner product.

    Call arguments:
        inputs: a list of S tensors `[B, D_s]`.

    Returns:
        `[B, D_1 + ... + D_S]`, float32 or wider, of length one unless a part is zero.

    Source: Liu 2018, Eq 5.11 and 6.8.
    """

    def build(self, input_shape: list[tuple]) -> None:
        """Remember the widths of the parts."""
        self.widths = tuple(shape[-1] for shape in input_shape)

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the joined vectors."""
        # Halves of the precision would be lost on scores that differ in the third digit.
        wide = [tf.cast(part, tf.float32) if part.dtype.size < 4 else part for part in inputs]
        scale = len(inputs) ** -0.5
        return tf.concat([tf.math.l2_normalize(part, axis=1) * scale for part in wide], axis=1)

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        """Return shape and dtype of the joined vectors."""
        dtype = inputs[0].dtype if tf.as_dtype(inputs[0].dtype).size >= 4 else "float32"
        return keras.KerasTensor((inputs[0].shape[0], sum(part.shape[-1] for part in inputs)), dtype=dtype)
