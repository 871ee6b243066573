"""Vectors of words, given as row numbers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class WordEmbedding(keras.layers.Layer):
    """Looks up the vectors of words that are given as row numbers, in floating point as features are.

    Unlike those of `keras.layers.Embedding`, vectors that do not train stay so when the layer is made trainable, as
    `ObjectiveModel.train_only` does with every layer of a stage.

    Args:
        rows: number of vectors, that of row 0 included, which stands for no word.
        dimension: of a vector.
        train_vectors: whether they train.

    Call arguments:
        inputs: row numbers `[B, L]`, integer or float.

    Returns:
        `[B, L, dimension]`.

    Raises:
        tf.errors.InvalidArgumentError: on a CPU, a row number below 0 or beyond the last row.
    """

    def __init__(self, rows: int, dimension: int, train_vectors: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.rows = rows
        self.dimension = dimension
        self.train_vectors = train_vectors
        # Row numbers must not be rounded to half precision.
        self.autocast = False

    def build(self, input_shape: tuple) -> None:
        """Create the vectors, all zero: they are always set to given ones."""
        self.vectors = self.add_weight(
            shape=(self.rows, self.dimension), initializer="zeros", trainable=self.train_vectors, name="vectors"
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the vectors `[B, L, dimension]`."""
        found = tf.gather(tf.convert_to_tensor(self.vectors), tf.cast(inputs, tf.int32))
        return tf.cast(found, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return `[B, L, dimension]`."""
        return (*input_shape, self.dimension)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        own = {"rows": self.rows, "dimension": self.dimension, "train_vectors": self.train_vectors}
        return {**super().get_config(), **own}
