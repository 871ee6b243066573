"""A convolution whose kernel has the spectral norm 1."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class SpectralConvolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that divides its kernel, as a matrix `[h * w * in, out]`, by an estimate of its largest
    singular value.

    The estimate comes from one step of power iteration a call in training, which a vector that is saved with the
    weights goes on from. The kernel itself is left as the optimizer made it, and the gradient passes through the
    division; Keras' own wrapper overwrites the kernel in the call, which replicas of a strategy cannot do.

    Args:
        args, kwargs: of `keras.layers.Conv2D`.

    Call arguments:
        inputs: `[B, H, W, C]`.
        training: only then the estimate is improved.

    Source: Miyato et al., Spectral normalization for GANs; an option beside the thesis's instance normalisation.
    """

    def build(self, input_shape: tuple) -> None:
        """Create kernel, bias and the vector of the power iteration."""
        super().build(input_shape)
        self.vector = self.add_weight(
            shape=(1, self.filters),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            trainable=False,
            aggregation="only_first_replica",
            name="vector",
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the convolved maps."""
        kernel = tf.convert_to_tensor(self.kernel)
        matrix = tf.reshape(tf.stop_gradient(kernel), [-1, self.filters])
        right = tf.cast(tf.convert_to_tensor(self.vector), matrix.dtype)
        left = tf.math.l2_normalize(tf.matmul(right, matrix, transpose_b=True))
        if training:
            right = tf.math.l2_normalize(tf.matmul(left, matrix))
            self.vector.assign(right)
        else:
            right = tf.math.l2_normalize(right)
        value = tf.reduce_sum(tf.matmul(left, tf.reshape(kernel, [-1, self.filters])) * right)
        outputs = self.convolution_op(inputs, tf.math.divide_no_nan(kernel, value))
        if self.use_bias:
            outputs += tf.cast(tf.convert_to_tensor(self.bias), outputs.dtype)
        return self.activation(outputs)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Store kernel, bias and vector; Keras' convolution knows of the first two only."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take kernel, bias and vector back."""
        keras.layers.Layer.load_own_variables(self, store)
