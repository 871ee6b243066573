"""Upsampling of maps by a transposed convolution that starts as bilinear interpolation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

PADDINGS = ("valid", "same")


@keras.saving.register_keras_serializable("tfthesis")
class BilinearUpsampling(keras.layers.Layer):
    """Enlarges each channel of a map by a transposed convolution of its own, which starts as bilinear interpolation.

    Its kernel is `2 factor - factor % 2` pixels wide, as in the released networks of FCN and HED.

    Args:
        factor: by which height and width grow; 2 or more.
        padding: "valid" keeps all that the transposed convolution gives, `(h - 1) factor + kernel` pixels; "same" the
            `h factor` pixels in the middle.
        train: whether the kernels train; otherwise they stay bilinear.

    Call arguments:
        inputs: `[B, h, w, C]`.

    Returns:
        `[B, H, W, C]`.

    Raises:
        ValueError: a factor below 2 or an unknown padding.

    Source: Liu 2018, sections 2.3.1 and 2.3.2, where upsampling is named only; the kernel is that of the networks that
    they start from.
    """

    def __init__(self, factor: int, padding: str = "valid", train: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if factor < 2:
            raise ValueError(f"BilinearUpsampling: factor must be 2 or more, got {factor}")
        if padding not in PADDINGS:
            raise ValueError(f"BilinearUpsampling: padding must be one of {PADDINGS}, got {padding!r}")
        self.factor = factor
        self.padding = padding
        self.train = train
        self.width = 2 * factor - factor % 2

    def build(self, input_shape: tuple) -> None:
        """Create the kernels `[k, k, C, 1]`."""
        channels = input_shape[-1]
        start = np.broadcast_to(bilinear_kernel(self.width)[:, :, None, None], (self.width, self.width, channels, 1))
        self.kernel = self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(start, dtype),
            trainable=self.train,
            name="kernel",
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the enlarged maps."""
        batch, height, width, channels = tf.unstack(tf.shape(inputs))
        size = tf.stack([batch, self._enlarged(height), self._enlarged(width), channels])
        strides = [1, self.factor, self.factor, 1]
        # The transpose of a convolution is its gradient; that of a depth-wise one keeps channels apart.
        kernel = tf.convert_to_tensor(self.kernel)
        enlarged = tf.nn.depthwise_conv2d_backprop_input(size, kernel, inputs, strides, self.padding.upper())
        enlarged.set_shape(self.compute_output_shape(inputs.shape))
        return enlarged

    def _enlarged(self, pixels: Any) -> Any:
        return pixels * self.factor if self.padding == "same" else (pixels - 1) * self.factor + self.width

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the enlarged maps."""
        batch, height, width, channels = input_shape
        sides = (None if side is None else self._enlarged(side) for side in (height, width))
        return (batch, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "factor": self.factor, "padding": self.padding, "train": self.train}


def bilinear_kernel(width: int) -> np.ndarray:
    """Return the weights float32 `[width, width]` of bilinear interpolation by half the width, rounded up."""
    factor = (width + 1) // 2
    middle = factor - 1 if width % 2 else factor - 0.5
    line = 1 - np.abs(np.arange(width) - middle) / factor
    return np.outer(line, line).astype(np.float32)
