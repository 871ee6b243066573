"""A functional model that trains on an objective over the global batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfthesis.models.replicas import DistributedFit, Replicas


@keras.saving.register_keras_serializable("tfthesis")
class ObjectiveModel(DistributedFit, keras.Model):
    """Functional `tfthesis.method.TrainedModel` whose one training step serves `fit` and the training loop alike.

    Built as `ObjectiveModel(inputs, outputs)` with a dict of inputs and a dict of outputs. Compile it with
    a `tfthesis.losses.Objective`, which gives one loss row an example for each of its parts. The step
    divides the sum of rows by the number of rows in the GLOBAL batch, so that one and many devices take
    the same step whatever the split, uneven and empty shares included.

    Layers are frozen by `train_only`; a frozen BatchNormalization keeps its statistics.
    """

    def train_only(self, prefixes: tuple[str, ...]) -> None:
        """Freeze every layer whose name does not start with one of `prefixes`.

        Raises:
            ValueError: a prefix fits no layer with weights.
        """
        weighted = [layer for layer in self.layers if layer.weights]
        for prefix in prefixes:
            if not any(layer.name.startswith(prefix) for layer in weighted):
                raise ValueError(f"no layer starts with {prefix!r}; layers: {[layer.name for layer in weighted]}")
        for layer in weighted:
            layer.trainable = layer.name.startswith(tuple(prefixes))

    @property
    def optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Every optimizer by name, for checkpoints and learning-rate schedules."""
        return {"optimizer": self.optimizer}

    def compile(self, optimizer: Any = "sgd", loss: Any = None, **kwargs: Any) -> None:
        """Set the optimizer and the objective; see `keras.Model.compile` for the rest."""
        super().compile(optimizer=optimizer, **kwargs)
        self.objective = keras.saving.deserialize_keras_object(loss) if isinstance(loss, dict) else loss
        names = list(self.objective.weights) if self.objective else []
        self.part_means = {name: keras.metrics.Mean(name=name) for name in names}
        self.loss_mean = keras.metrics.Mean(name="loss")
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return optimizer and objective for saving; None before `compile`."""
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss": keras.saving.serialize_keras_object(self.objective),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile from `get_compile_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean total loss and the mean of each unweighted loss part."""
        return self._loss_metrics if self.compiled else []

    @property
    def _loss_metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_mean, *self.part_means.values()]

    def _total(self, data: Any, training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the weighted loss rows `[n]` of this replica, and the rows of each part."""
        inputs, targets = data
        # A dataset may carry more than this model reads (an image-only twin gets texts too).
        outputs = self({name: inputs[name] for name in self.input}, training=training)
        parts = self.objective(outputs, targets, Replicas.current())
        rows = tf.add_n([weight * parts[name] for name, weight in self.objective.weights.items()])
        return rows, parts

    def _logs(self, rows: tf.Tensor, parts: dict[str, tf.Tensor], count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add the global batch of `count` rows to the running means; every replica returns the same ones."""
        values = [rows, *(parts[name] for name in self.part_means)]
        sums = Replicas.current().total(tf.stack([tf.reduce_sum(value) for value in values]))
        for mean, value in zip(self._loss_metrics, tf.unstack(sums), strict=True):
            mean.update_state(value / count, sample_weight=count)
        return self.vectors({metric.name: metric.result() for metric in self._loss_metrics})

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one step on `(inputs, targets)`; returns the running means of the loss and its parts."""
        replicas = Replicas.current()
        with tf.GradientTape() as tape:
            rows, parts = self._total(data, training=True)
            count = tf.cast(replicas.total(tf.shape(rows)[0]), rows.dtype)
            loss = tf.reduce_sum(rows) / count
            if self.losses:
                loss += tf.add_n(self.losses) / replicas.count
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._logs(rows, parts, count)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measure the loss on `(inputs, targets)` without training."""
        rows, parts = self._total(data, training=False)
        return self._logs(rows, parts, tf.cast(Replicas.current().total(tf.shape(rows)[0]), rows.dtype))
