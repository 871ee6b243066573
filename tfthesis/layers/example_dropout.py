"""Dropout whose mask belongs to the example, not to the device."""

from __future__ import annotations

import random
from typing import Any

import keras
import tensorflow as tf

from tfthesis.models.replicas import Replicas


@keras.saving.register_keras_serializable("tfthesis")
class ExampleDropout(keras.layers.Layer):
    """Drops inputs by a mask drawn from (seed, step, row of the global batch).

    However a global batch is split over devices, each of its rows meets the same mask, so that one and
    many devices take the same step. The step counter is a weight of the layer and is saved with it, so
    that a resumed run draws the masks that the uninterrupted one would have drawn.

    Args:
        rate: share of inputs that are set to zero, in [0, 1); the others grow by `1 / (1 - rate)`.
        seed: integer; None draws one from Python's random state, which `keras.utils.set_random_seed` sets.

    Call arguments:
        inputs: float `[B, ...]`.
        training: drops only when true.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"ExampleDropout: rate must lie in [0, 1), got {rate}")
        self.rate = rate
        self.seed = random.randint(1, 2**31 - 1) if seed is None else seed

    def build(self, input_shape: tuple) -> None:
        """Create the step counter."""
        self.step = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation="only_first_replica", name="step"
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return `inputs` with the mask of this step applied, or unchanged outside training."""
        if not training or not self.rate:
            return inputs
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(self.step.value, tf.int64)])
        replicas, rows = Replicas.current(), tf.shape(inputs)[0]
        offset = replicas.offset(rows)
        shape = [replicas.total(rows), *inputs.shape[1:]]
        # The whole global mask is drawn and this replica's rows are cut out: a mask costs little beside
        # the layer before it, and slices of one stream need no agreement between devices.
        kept = tf.random.stateless_uniform(shape, seed)[offset : offset + rows] >= self.rate
        self.step.assign_add(1)
        return tf.where(kept, inputs / tf.cast(1 - self.rate, inputs.dtype), tf.zeros([], inputs.dtype))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
