"""Fusion of several branches with weights of its own at every position."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

KERNEL_SIZES = (1, 2, 3)


@keras.saving.register_keras_serializable("tfthesis")
class LocallyConnectedFusion(keras.layers.Layer):
    """Fuses S branches of one shape by a locally-connected layer: weights are not shared between positions.

    Position i of the fused output is `activation(sum_j W[i, j] g[i, j] + b[i])` over the branches j. With features
    `[B, K]` there are K positions (Eq 2.3), with maps `[B, H, W, C]` each pixel of each channel is one (Eq 2.7); maps
    therefore have to be of one fixed size. All weights start at 1/S, so that an untrained layer is the mean.

    Two extensions, which the thesis names as future work (section 2.5), are options:

    - `kernel_size` 2 or 3 lets a position see its neighbours along the last axis, with zeros beyond the ends; the
      weights of neighbours start at zero.
    - `conditioned` adds to each weight a linear function of the S branch values at that position, `W[i, j] + sum_l
      V[i, j, l] g[i, l]`, so that the weights depend on the input; V starts at zero. The form is our choice.

    Args:
        kernel_size: 1, 2 or 3 positions; wider than 1 only for features `[B, K]`.
        conditioned: make the weights depend on the input.
        use_bias: add a bias of each position.
        start: initial weight of every branch; None takes 1/S.
        activation: of the fused output.

    Call arguments:
        inputs: a list of S tensors of one shape.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: fewer than two branches, different or unknown shapes, or options that do not go together.

    Source: Liu 2018, sections 2.2.1, 2.3.1 and 2.5.
    """

    def __init__(
        self,
        kernel_size: int = 1,
        conditioned: bool = False,
        use_bias: bool = True,
        start: float | None = None,
        activation: Any = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kernel_size not in KERNEL_SIZES:
            raise ValueError(f"LocallyConnectedFusion: kernel_size must be one of {KERNEL_SIZES}, got {kernel_size}")
        if conditioned and kernel_size > 1:
            raise ValueError("LocallyConnectedFusion: conditioned weights look at one position, kernel_size must be 1")
        self.kernel_size = kernel_size
        self.conditioned = conditioned
        self.use_bias = use_bias
        self.start = start
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: list[tuple]) -> None:
        """Create the weights `[..., S]` (with a kernel of w positions `[K, w, S]`) and the bias `[...]`."""
        shapes = {tuple(shape[1:]) for shape in input_shape}
        if len(input_shape) < 2 or len(shapes) != 1:
            raise ValueError(
                f"LocallyConnectedFusion: expected two branches or more of one shape, got {list(input_shape)}"
            )
        positions = shapes.pop()
        if None in positions:
            raise ValueError(
                f"LocallyConnectedFusion: every position has weights of its own, so the shape must be known; got "
                f"{positions}. Give the network a fixed input size"
            )
        if self.kernel_size > 1 and len(positions) != 1:
            raise ValueError(f"LocallyConnectedFusion: kernel_size {self.kernel_size} needs features, got {positions}")
        count = len(input_shape)
        first = 1 / count if self.start is None else self.start
        if self.kernel_size == 1:
            self.kernel = self.add_weight(
                shape=(*positions, count), initializer=keras.initializers.Constant(first), name="kernel"
            )
        else:
            self.kernel = self.add_weight(
                shape=(*positions, self.kernel_size, count), initializer=_centred(first), name="kernel"
            )
        if self.conditioned:
            self.dynamic = self.add_weight(shape=(*positions, count, count), initializer="zeros", name="dynamic_kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=positions, initializer="zeros", name="bias")

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the fused branches."""
        kernel = tf.convert_to_tensor(self.kernel)
        if self.kernel_size == 1:
            fused = self._weighted(inputs, kernel)
        else:
            fused = tf.add_n(
                [
                    self._weighted([_shifted(branch, offset) for branch in inputs], kernel[:, place])
                    for place, offset in enumerate(self._offsets())
                ]
            )
        if self.use_bias:
            fused += self.bias
        return self.activation(fused)

    def _weighted(self, inputs: list[tf.Tensor], kernel: tf.Tensor) -> tf.Tensor:
        # A sum of products: stacking the branches first would copy them all, and their gradients.
        weights = tf.unstack(kernel, axis=-1)
        if self.conditioned:
            dynamic = [tf.unstack(row, axis=-1) for row in tf.unstack(tf.convert_to_tensor(self.dynamic), axis=-2)]
            weights = [
                weight + tf.add_n([part * branch for part, branch in zip(row, inputs, strict=True)])
                for weight, row in zip(weights, dynamic, strict=True)
            ]
        return tf.add_n([weight * branch for weight, branch in zip(weights, inputs, strict=True)])

    def _offsets(self) -> range:
        """Return which neighbours a position sees: itself and the next one, or one on either side."""
        before = (self.kernel_size - 1) // 2
        return range(-before, self.kernel_size - before)

    def branch_weights(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and standard deviation of each branch's weights over the positions, both `[S]` (Fig 2.8).

        The weights of a position's neighbours are summed.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        total = tf.reduce_sum(kernel, axis=-2) if self.kernel_size > 1 else kernel
        positions = list(range(len(total.shape) - 1))
        return tf.reduce_mean(total, axis=positions), tf.math.reduce_std(total, axis=positions)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return the shape of one branch."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "conditioned": self.conditioned,
            "use_bias": self.use_bias,
            "start": self.start,
            "activation": keras.activations.serialize(self.activation),
        }


def _shifted(branch: tf.Tensor, offset: int) -> tf.Tensor:
    """Return `[B, K]` whose position i holds position `i + offset` of `branch`, zeros beyond the ends."""
    if not offset:
        return branch
    pad = [[0, 0], [max(-offset, 0), max(offset, 0)]]
    padded = tf.pad(branch, pad)
    return padded[:, offset:] if offset > 0 else padded[:, :offset]


def _centred(value: float) -> Any:
    """Return an initializer of `[K, w, S]` kernels: `value` for the position itself, zero for its neighbours."""

    def initialise(shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        width = shape[-2]
        own = tf.one_hot((width - 1) // 2, width, dtype=dtype or tf.float32)
        return tf.broadcast_to(value * own[:, None], shape)

    return initialise


def fusion_parameters(positions: tuple[int, ...], branches: int, *, use_bias: bool = True) -> int:
    """Return the number of weights of a fusion with kernel size 1: `K (S + 1)` for features (section 2.2.1)."""
    return math.prod(positions) * (branches + use_bias)
