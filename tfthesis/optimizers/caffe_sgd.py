"""Stochastic gradient descent with momentum as Caffe computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfthesis")
class CaffeSGD(keras.optimizers.SGD):
    """SGD whose weight decay goes through the momentum, with rates and decays by variable name.

    One step is `v = momentum * v - rate * (gradient + decay * w)`, `w = w + v`. The `weight_decay`
    argument of `keras.optimizers.SGD` is another rule: it shrinks the weights beside the momentum. The
    theses trained with Caffe, whose layers also carry multipliers for the rate and the decay.

    Args:
        learning_rate: a float or a schedule.
        momentum: between 0 and 1.
        decay: factor of the L2 weight decay (a gradient of `decay * w`).
        rate_multipliers: factor of the learning rate for variables whose path contains the key; the first
            key that fits counts.
        decay_multipliers: likewise for the decay.
        **kwargs: of `keras.optimizers.SGD`, `weight_decay` excepted.

    Source: Liu 2018, section 7.4.1; the multipliers are those of the solvers released with its chapters.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        decay: float = 0.0,
        rate_multipliers: Mapping[str, float] | None = None,
        decay_multipliers: Mapping[str, float] | None = None,
        name: str = "caffe_sgd",
        **kwargs: Any,
    ):
        if kwargs.get("weight_decay"):
            raise ValueError("CaffeSGD: use `decay` (through the momentum), not `weight_decay` (beside it)")
        if not 0 < momentum < 1:
            raise ValueError(f"CaffeSGD: momentum must lie between 0 and 1, both excluded, got {momentum}")
        super().__init__(learning_rate=learning_rate, momentum=float(momentum), name=name, **kwargs)
        self.decay = decay
        self.rate_multipliers = dict(rate_multipliers or {})
        self.decay_multipliers = dict(decay_multipliers or {})

    def build(self, variables: list) -> None:
        """Create the momenta and look up the multipliers of `variables`."""
        if self.built:
            return
        super().build(variables)
        self._rates = [_multiplier(self.rate_multipliers, variable.path) for variable in variables]
        self._decays = [self.decay * _multiplier(self.decay_multipliers, variable.path) for variable in variables]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Apply one gradient to one variable."""
        index = self._get_variable_index(variable)
        if isinstance(variable, keras.Variable):
            variable = variable.value
        accumulator = self.momentums[index].value
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype) * self._rates[index]
        momentum = tf.cast(self.momentum, variable.dtype)
        # Fused kernels read and write each weight once; composed from Keras operations the same update takes
        # several passes over memory and dominates the step of small batches. The first one adds the decay to the
        # velocity, divided by the momentum that the second one is about to multiply it by.
        if self._decays[index]:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=accumulator.handle, alpha=rate * self._decays[index] / momentum, delta=variable
            )
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle, accum=accumulator.handle, lr=rate, grad=gradient, momentum=momentum
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = super().get_config()
        config.pop("nesterov")
        config.pop("weight_decay")
        return {
            **config,
            "decay": self.decay,
            "rate_multipliers": self.rate_multipliers,
            "decay_multipliers": self.decay_multipliers,
        }


def _multiplier(multipliers: Mapping[str, float], path: str) -> float:
    return next((factor for key, factor in multipliers.items() if key in path), 1.0)
