"""Fusion of the outputs of several layers of one shape."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

MODES = ("sum", "multiply", "convolution")


@keras.saving.register_keras_serializable("tfthesis")
class LayerFusion(keras.layers.Layer):
    """Fuses S layer outputs of one shape, vectors or maps.

    `convolution` stacks vectors to a `D x S` matrix and convolves it with a `1 x 1 x S` filter whose S
    weights and bias are shared over the D positions (Eq 5.6, 7.1, 7.2; for maps over places and channels, Fig 2.5b and
    HED); it starts as their mean unless an initializer is given. `sum` and `multiply` are element-wise and have no
    weights. The thesis gives the bias 512 elements and the module
    "only three parameters"; the released network has one bias, and so has this layer.

    Args:
        mode: `sum`, `multiply` or `convolution`.
        kernel_initializer: of the filter; None starts it as the mean.

    Call arguments:
        inputs: a list of S tensors `[B, D]` or `[B, H, W, C]`.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: unknown mode, or inputs of different shapes.

    Source: Liu 2018, sections 2.2.1, 5.2 and 7.2.2, and Table 7.6.
    """

    def __init__(self, mode: str = "convolution", kernel_initializer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"LayerFusion: mode must be one of {MODES}, got {mode!r}")
        self.mode = mode
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: list[tuple]) -> None:
        """Create the filter of the convolution."""
        shapes = {tuple(shape[1:]) for shape in input_shape}
        if len(shapes) != 1:
            raise ValueError(f"LayerFusion: expected inputs of one shape, got {list(input_shape)}")
        if self.mode == "convolution":
            start = self.kernel_initializer or keras.initializers.Constant(1 / len(input_shape))
            self.kernel = self.add_weight(shape=(len(input_shape),), initializer=start, name="kernel")
            self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the fused outputs."""
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
