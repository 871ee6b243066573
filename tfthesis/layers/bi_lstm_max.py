"""Sentences as the maximum over time of a bidirectional LSTM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError


class LSTMWeights(NamedTuple):
    """Weights of one direction; the four gates stand in the order input, forget, cell, output.

    Attributes:
        kernel: `[D, 4 * units]`, of the words.
        recurrent: `[units, 4 * units]`, of the previous output.
        bias: `[4 * units]`.
    """

    kernel: Any
    recurrent: Any
    bias: Any


class _State(NamedTuple):
    """One direction after some words: its output and cell, and the largest outputs so far, each `[B, units]`."""

    output: tf.Tensor
    cell: tf.Tensor
    largest: tf.Tensor


def bi_lstm_max(words: tf.Tensor, present: tf.Tensor, forward: LSTMWeights, backward: LSTMWeights) -> tf.Tensor:
    """Return the maximum over the words of both directions of an LSTM.

    Where no word is present neither direction moves, so that the backward one starts at the last word of each
    sentence, and padding has no part in the maximum: the result is that of a packed sequence of PyTorch.

    Args:
        words: `[B, L, D]`; what stands where no word is present does not matter, as long as it is finite.
        present: `[B, L]` bool.
        forward, backward: tensors of the dtype of `words`.

    Returns:
        `[B, 2 * units]` of the dtype of `words`: forward, then backward; zeros for a sentence of no words.
    """
    # Sums over many words keep their digits in half precision only if the cell does.
    wide = tf.float64 if words.dtype == tf.float64 else tf.float32
    length = tf.shape(present)[1]
    last = tf.reduce_max(tf.where(present, tf.range(1, length + 1), 0))
    # Both directions read every step.
    steps = tf.TensorArray(words.dtype, length, clear_after_read=False).unstack(tf.transpose(words, [1, 0, 2]))
    active = tf.TensorArray(tf.bool, length, clear_after_read=False).unstack(tf.transpose(present)[:, :, None])

    def advance(at: tf.Tensor, state: _State, weights: LSTMWeights) -> _State:
        gates = tf.matmul(steps.read(at), weights.kernel) + tf.matmul(state.output, weights.recurrent) + weights.bias
        admit, keep, new, show = tf.split(tf.cast(gates, wide), 4, axis=1)
        cell = tf.sigmoid(keep) * state.cell + tf.sigmoid(admit) * tf.tanh(new)
        output = tf.sigmoid(show) * tf.tanh(cell)
        moved = _State(tf.cast(output, words.dtype), cell, tf.maximum(state.largest, output))
        here = active.read(at)
        return _State(*(tf.where(here, after, before) for after, before in zip(moved, state, strict=True)))

    def step(count: tf.Tensor, one: _State, other: _State) -> tuple[tf.Tensor, _State, _State]:
        return count + 1, advance(count, one, forward), advance(last - 1 - count, other, backward)

    shape = [tf.shape(words)[0], forward.recurrent.shape[0]]
    start = _State(tf.zeros(shape, words.dtype), tf.zeros(shape, wide), tf.fill(shape, wide.min))
    _, one, other = tf.while_loop(
        lambda count, *_: count < last,
        step,
        (0, start, start),
        # XLA needs to know how long the lists can get that the gradient reads.
        maximum_iterations=words.shape[1],
    )
    largest = tf.concat([one.largest, other.largest], axis=1)
    some = tf.reduce_any(present, axis=1, keepdims=True)
    return tf.cast(tf.where(some, largest, tf.zeros([], wide)), words.dtype)


@keras.saving.register_keras_serializable("tfthesis")
class BiLSTMMax(keras.layers.Layer):
    """Returns the maximum over the words of a bidirectional LSTM, "BiLSTM-max".

    A sentence of no words gives zeros. Weights start as those of the source do, uniformly within
    `1 / sqrt(units)`; PyTorch's two biases, which are only ever added, are one here.

    Args:
        units: of each direction.

    Call arguments:
        inputs: words `[B, L, D]`, and `[B, L]`, zero where there is no word (bool, integer or float).

    Returns:
        `[B, 2 * units]`.

    Source: the RNN encoder of Liu 2018, section 6.4.1, from Conneau et al. 2017, "Supervised Learning of Universal
    Sentence Representations from Natural Language Inference Data".
    """

    def __init__(self, units: int = 2048, **kwargs: Any):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"BiLSTMMax: units must be positive, got {units}")
        self.units = units

    def build(self, input_shape: list[tuple]) -> None:
        """Create the weights of both directions."""
        if len(input_shape) != 2:
            raise ValueError(f"BiLSTMMax: expected words and where they are present, got {len(input_shape)} inputs")
        shapes = LSTMWeights((input_shape[0][-1], 4 * self.units), (self.units, 4 * self.units), (4 * self.units,))
        self.forward, self.backward = (self._direction(name, shapes) for name in ("forward", "backward"))

    def _direction(self, direction: str, shapes: LSTMWeights) -> LSTMWeights:
        limit = self.units**-0.5
        return LSTMWeights(
            *(
                self.add_weight(
                    shape=shape,
                    initializer=keras.initializers.RandomUniform(-limit, limit),
                    name=f"{direction}_{name}",
                )
                for name, shape in shapes._asdict().items()
            )
        )

    def set_torch_weights(self, arrays: Mapping[str, np.ndarray], prefix: str = "enc_lstm.") -> None:
        """Set the weights to those of a bidirectional `torch.nn.LSTM`; see `torch_lstm_weights`."""
        forward, backward = torch_lstm_weights(arrays, prefix)
        self.set_weights([*forward, *backward])

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Return the maxima `[B, 2 * units]`."""
        words, present = inputs
        directions = (LSTMWeights(*map(tf.convert_to_tensor, weights)) for weights in (self.forward, self.backward))
        return bi_lstm_max(words, tf.cast(present, tf.bool), *directions)

    def held_numbers(self) -> int:
        """Return the numbers an example keeps: for each word and direction four gates, cell and state."""
        return self.input[0].shape[1] * 2 * 6 * self.units

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return `[B, 2 * units]`."""
        return (input_shape[0][0], 2 * self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "units": self.units}


def torch_lstm_weights(arrays: Mapping[str, np.ndarray], prefix: str = "enc_lstm.") -> tuple[LSTMWeights, LSTMWeights]:
    """Return the forward and the backward weights in the arrays of a `torch.nn.LSTM`, as float32.

    Args:
        arrays: the state dict of a bidirectional `torch.nn.LSTM` of one layer with biases.
        prefix: of its names; what has another prefix is ignored.

    Raises:
        UserError: an array is missing, has another shape, is not finite, or belongs to another network.
    """
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = [f"{prefix}{kind}_l0{direction}" for direction in ("", "_reverse") for kind in kinds]
    foreign = [name for name in arrays if name.startswith(prefix) and name not in names]
    missing = [name for name in names if name not in arrays]
    if missing or foreign:
        raise UserError(
            f"expected a bidirectional LSTM of one layer, {names}; missing {missing}, not part of one {foreign}"
        )
    shape = arrays[names[0]].shape
    gates, width = shape if len(shape) == 2 else (0, 0)
    shapes = dict(zip(kinds, ((gates, width), (gates, gates // 4), (gates,), (gates,)), strict=True))
    for name in names:
        expected = next(shapes[kind] for kind in kinds if kind in name)
        if not width or gates % 4 or arrays[name].shape != expected:
            raise UserError(f"{name}: expected shape {expected}, four gates by inputs, got {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{name}: not all its numbers are finite")
    directions = ([np.asarray(arrays[name], np.float32) for name in names[start : start + 4]] for start in (0, 4))
    forward, backward = (LSTMWeights(kernel.T, recurrent.T, a + b) for kernel, recurrent, a, b in directions)
    return forward, backward
