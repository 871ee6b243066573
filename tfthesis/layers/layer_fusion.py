"""Fusion of the outputs of several layers of one width."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

MODES = ("sum", "multiply", "convolution")


@keras.saving.register_keras_serializable("tfthesis")
class LayerFusion(keras.layers.Layer):
    """Fuses S layer outputs of width D into one vector.

    `convolution` stacks them to a `D x S` matrix and convolves it with a `1 x 1 x S` filter whose S
    weights and bias are shared over the D positions (Eq 5.6, 7.1, 7.2); it starts as their mean unless an
    initializer is given. `sum` and
    `multiply` are element-wise and have no weights. The thesis gives the bias 512 elements and the module
    "only three parameters"; the released network has one bias, and so has this layer.

    Args:
        mode: `sum`, `multiply` or `convolution`.
        kernel_initializer: of the filter; None starts it as the mean.

    Call arguments:
        inputs: a list of S tensors `[B, D]`.

    Returns:
        `[B, D]`.

    Raises:
        ValueError: unknown mode, or inputs of different widths.

    Source: Liu 2018, sections 5.2 and 7.2.2, and Table 7.6.
    """

    def __init__(self, mode: str = "convolution", kernel_initializer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"LayerFusion: mode must be one of {MODES}, got {mode!r}")
        self.mode = mode
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: list[tuple]) -> None:
        """Create the filter of the convolution."""
        widths = [shape[-1] for shape in input_shape]
        if len(set(widths)) != 1:
            raise ValueError(f"LayerFusion: expected inputs of one width, got widths {widths}")
        if self.mode == "convolution":
            start = self.kernel_initializer or keras.initializers.Constant(1 / len(widths))
            self.kernel = self.add_weight(shape=(len(widths),), initializer=start, name="kernel")
            self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the fused layer `[B, D]`."""
        if self.mode == "sum":
            return tf.add_n(inputs)
        if self.mode == "multiply":
            return keras.layers.multiply(inputs)
        weights = tf.unstack(tf.convert_to_tensor(self.kernel))
        return tf.add_n([weight * layer for weight, layer in zip(weights, inputs, strict=True)]) + self.bias

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return the shape of one input."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        initializer = self.kernel_initializer and keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "mode": self.mode, "kernel_initializer": initializer}
