"""The recurrent residual fusion block."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfthesis.layers.layer_fusion import LayerFusion

FUSIONS = ("none", "sum", "convolution")


@keras.saving.register_keras_serializable("tfthesis")
class RecurrentResidualFusion(keras.layers.Layer):
    """A dense layer with an identity connection, applied to its own output, with its outputs fused.

    With T recurrences the layer is applied T + 1 times: `x(t) = relu(BN_t(W x(t-1) + b)) + x(t-1)`. W and b are
    shared over the recurrences, the normalisations are not. The T + 1 sums are fused by a `1 x 1 x (T + 1)`
    convolution or their sum, or the last one is the output. As in the released network a fused vector goes through a
    normalisation of one channel (one mean, variance, scale and shift for all its components) and a ReLU, which the text
    does not mention; the sum gets them too, so that both fusions differ in their weights only.

    The block stands for any dense layer whose output is as wide as its input.

    Args:
        recurrences: T, 0 or more.
        fusion: `none`, `sum` or `convolution`.
        kernel_initializer: of W.
        fusion_initializer: of the fusion's filter; None starts it as the mean.
        norm_momentum, norm_epsilon: of every BatchNormalization; statistics are those of the global batch.

    Call arguments:
        inputs: float `[B, D]`.
        training: whether the normalisations take the batch's statistics and update their own.

    Returns:
        `[B, D]`.

    Raises:
        ValueError: unknown fusion, or negative recurrences.

    Source: Liu 2018, section 5.2, Eq 5.1 to 5.6; the text's index t is off by one against its T + 1 layers.
    """

    def __init__(
        self,
        recurrences: int = 3,
        fusion: str = "convolution",
        kernel_initializer: Any = "glorot_uniform",
        fusion_initializer: Any = None,
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if fusion not in FUSIONS:
            raise ValueError(f"RecurrentResidualFusion: fusion must be one of {FUSIONS}, got {fusion!r}")
        if recurrences < 0:
            raise ValueError(f"RecurrentResidualFusion: recurrences must be 0 or more, got {recurrences}")
        self.recurrences, self.fusion = recurrences, fusion
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.fusion_initializer = keras.initializers.get(fusion_initializer)
        self.norm_momentum, self.norm_epsilon = norm_momentum, norm_epsilon
        self.norms = [self._norm(f"norm_{t}") for t in range(recurrences + 1)]
        if fusion != "none":
            self.fuse = LayerFusion(fusion, self.fusion_initializer, name="fusion", dtype=self.dtype_policy)
            self.fusion_norm = self._norm("fusion_norm")

    def _norm(self, name: str) -> keras.layers.Layer:
        return keras.layers.BatchNormalization(
            momentum=self.norm_momentum,
            epsilon=self.norm_epsilon,
            synchronized=True,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: tuple) -> None:
        """Create W, b, the normalisations and the fusion's filter."""
        width = input_shape[-1]
        self.kernel = self.add_weight(shape=(width, width), initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        for norm in self.norms:
            norm.build(input_shape)
        if self.fusion != "none":
            self.fuse.build([input_shape] * len(self.norms))
            self.fusion_norm.build((None, width, 1))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the fused, or the last, output `[B, D]`."""
        x, sums = inputs, []
        for norm in self.norms:
            hidden = tf.matmul(x, self.kernel) + self.bias
            x = keras.ops.relu(norm(hidden, training=training)) + x
            sums.append(x)
        if self.fusion == "none":
            return x
        fused = self.fuse(sums)[..., None]
        return keras.ops.relu(self.fusion_norm(fused, training=training))[..., 0]

    def held_numbers(self) -> int:
        """Return the numbers an example's forward pass keeps: product, normalised and sum of each application."""
        return (3 * len(self.norms) + (3 if self.fusion != "none" else 0)) * self.kernel.shape[0]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the inputs."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "recurrences": self.recurrences,
            "fusion": self.fusion,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "fusion_initializer": self.fusion_initializer and keras.initializers.serialize(self.fusion_initializer),
            "norm_momentum": self.norm_momentum,
            "norm_epsilon": self.norm_epsilon,
        }
