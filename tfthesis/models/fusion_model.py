"""An objective model that tells how its fusion layers weigh their branches."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfthesis.layers import LocallyConnectedFusion
from tfthesis.models.objective_model import ObjectiveModel


@keras.saving.register_keras_serializable("tfthesis")
class FusionModel(ObjectiveModel):
    """`ObjectiveModel` whose metrics include the weights of each branch of every locally-connected fusion.

    Their mean over the positions is named after the layer, `fusion_weight_1` and so on, their standard deviation
    `fusion_spread_1`: what Fig 2.8 draws over training.
    """

    def compile(self, optimizer: Any = "sgd", loss: Any = None, **kwargs: Any) -> None:
        """Set the optimizer and the objective; see `ObjectiveModel.compile`."""
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        fusions = [layer for layer in self.layers if isinstance(layer, LocallyConnectedFusion)]
        self.branch_means = [
            (
                layer,
                [
                    keras.metrics.Mean(name=f"{layer.name}_{figure}_{n + 1}")
                    for figure in ("weight", "spread")
                    for n in range(layer.kernel.shape[-1])
                ],
            )
            for layer in fusions
        ]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of `ObjectiveModel`, and the branch weights."""
        return [*super().metrics, *(mean for _, means in self.branch_means for mean in means)] if self.compiled else []

    def _logs(self, rows: tf.Tensor, parts: dict[str, tf.Tensor], count: tf.Tensor) -> dict[str, tf.Tensor]:
        logs = super()._logs(rows, parts, count)
        for layer, means in self.branch_means:
            for mean, value in zip(means, tf.unstack(tf.concat(layer.branch_weights(), axis=0)), strict=True):
                mean.update_state(value)
            logs |= self.vectors({mean.name: mean.result() for mean in means})
        return logs
