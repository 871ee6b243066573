"""A composite of generators and discriminators that train against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfthesis.models.replicas import DistributedFit, Replicas

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


class AdversarialModel(DistributedFit, keras.Model):
    """A `tfthesis.method.TrainedModel` whose generators and discriminators have an optimizer each.

    A step computes the images, moves the generators against the discriminators as they stand, then the discriminators
    with what `shown` makes of the same images. Losses are rows, one number an example, whose sum is divided by the
    number of rows in the GLOBAL batch, so that one and many devices take the same step.

    A subclass builds its networks in its constructor, sets `generator_parts`, the names of its loss parts beside
    "discriminator", and defines `networks`, `forward`, `generator_rows`, `shown` and `discriminator_rows`.
    """

    generator_parts: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._by_name: dict[str, keras.optimizers.Optimizer] = {}
        self.weight_decay = 0.0
        self.loss_weights: dict[str, float] = {}
        self.means: list[keras.metrics.Metric] = []
        self.built = True

    def networks(self, kind: str) -> Sequence[keras.Model]:
        """Return the networks that are trained as `kind`, "generator" or "discriminator"."""
        raise NotImplementedError(f"{type(self).__name__} does not define its networks")

    def forward(self, inputs: Mapping[str, tf.Tensor], training: bool) -> dict[str, Any]:
        """Return all that the losses look at."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def generator_rows(self, inputs: Mapping[str, tf.Tensor], outputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        """Return the rows `[n]` of each part that `loss_weights` names, but for "discriminator"."""
        raise NotImplementedError(f"{type(self).__name__} does not define generator_rows")

    def shown(self, outputs: dict[str, Any], training: bool) -> dict[str, tf.Tensor]:
        """Return the generated images that the discriminators see, outside of every gradient."""
        raise NotImplementedError(f"{type(self).__name__} does not define shown")

    def discriminator_rows(
        self, inputs: Mapping[str, tf.Tensor], shown: dict[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        """Return the rows `[n]` of the discriminators' loss."""
        raise NotImplementedError(f"{type(self).__name__} does not define discriminator_rows")

    @property
    def optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Every optimizer by name: of "generator" and "discriminator", those that train."""
        return dict(self._by_name)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean total loss and the mean of each unweighted part."""
        return self.means

    def train_only(self, prefixes: tuple[str, ...]) -> None:
        """Freeze every network whose name does not start with one of `prefixes`.

        Raises:
            ValueError: a prefix fits no network.
        """
        known = [*self.networks(GENERATOR), *self.networks(DISCRIMINATOR)]
        for prefix in prefixes:
            if not any(network.name.startswith(prefix) for network in known):
                raise ValueError(f"no network starts with {prefix!r}; networks: {[one.name for one in known]}")
        for network in known:
            network.trainable = network.name.startswith(tuple(prefixes))

    def compile(
        self,
        generator: keras.optimizers.Optimizer,
        discriminator: keras.optimizers.Optimizer,
        loss_weights: Mapping[str, float],
        weight_decay: float = 0.0,
    ) -> None:
        """Set the optimizers and what is trained.

        Args:
            generator, discriminator: an optimizer each.
            loss_weights: of the parts; a part that is not named is not computed.
            weight_decay: what a step adds to the gradient of a kernel, as a multiple of the kernel.

        Raises:
            ValueError: an unknown part, or none.
        """
        parts = (*self.generator_parts, DISCRIMINATOR)
        unknown = sorted(set(loss_weights) - set(parts))
        if unknown or not loss_weights:
            raise ValueError(f"loss_weights must name some of {parts}, got {dict(loss_weights)}")
        super().compile(optimizer=None)
        self.loss_weights, self.weight_decay = dict(loss_weights), weight_decay
        given = {GENERATOR: generator, DISCRIMINATOR: discriminator}
        self._by_name = {kind: optimizer for kind, optimizer in given.items() if self._trained(kind)}
        for kind, optimizer in self._by_name.items():
            optimizer.build(self._trained(kind))
        self.means = [keras.metrics.Mean(name=name) for name in ("loss", *self.loss_weights)]

    def get_compile_config(self) -> None:
        """Return nothing: a model is saved without its optimizers, a run's checkpoints hold them."""

    def _trained(self, kind: str) -> list[keras.Variable]:
        return [variable for network in self.networks(kind) for variable in network.trainable_variables]

    def _total(self, rows: Mapping[str, tf.Tensor], count: tf.Tensor) -> tf.Tensor:
        parts = [self.loss_weights[name] * tf.reduce_sum(values) for name, values in rows.items()]
        return tf.add_n(parts) / count

    def _update(self, kind: str, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        optimizer = self._by_name.get(kind)
        if optimizer is None:
            return
        variables = self._trained(kind)
        gradients = tape.gradient(loss, variables)
        if self.weight_decay:
            # A part of each device's gradient, which are added up.
            share = self.weight_decay / Replicas.current().count
            gradients = [
                gradient + share * tf.convert_to_tensor(variable) if variable.name == "kernel" else gradient
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def _logs(self, rows: Mapping[str, tf.Tensor], count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add the global batch of `count` rows to the running means; every replica returns the same ones."""
        sums = [tf.reduce_sum(rows[name]) for name in self.loss_weights]
        total = tf.add_n([weight * value for weight, value in zip(self.loss_weights.values(), sums, strict=True)])
        values = Replicas.current().total(tf.stack([total, *sums]))
        for mean, value in zip(self.means, tf.unstack(values), strict=True):
            mean.update_state(value / count, sample_weight=count)
        return self.vectors({mean.name: mean.result() for mean in self.means})

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one step on `(inputs, targets)`; returns the running means of the loss and its parts."""
        inputs, _ = data
        count, own = _rows(inputs), tf.shape(next(iter(inputs.values())))[0]
        inputs = _filled(inputs)
        with tf.GradientTape() as tape:
            outputs = self.forward(inputs, training=True)
            rows = _first(self.generator_rows(inputs, outputs), own)
            loss = self._total(rows, count) if rows else tf.zeros([])
        if rows:
            self._update(GENERATOR, tape, loss)
        if DISCRIMINATOR in self.loss_weights:
            shown = _filled(self.shown(_first(outputs, own), training=True))
            with tf.GradientTape() as tape:
                rows[DISCRIMINATOR] = _first(self.discriminator_rows(inputs, shown, training=True), own)
                loss = self._total({DISCRIMINATOR: rows[DISCRIMINATOR]}, count)
            self._update(DISCRIMINATOR, tape, loss)
        return self._logs(rows, count)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measure the losses on `(inputs, targets)` without training."""
        inputs, _ = data
        count, own = _rows(inputs), tf.shape(next(iter(inputs.values())))[0]
        inputs = _filled(inputs)
        outputs = self.forward(inputs, training=False)
        rows = self.generator_rows(inputs, outputs)
        if DISCRIMINATOR in self.loss_weights:
            rows[DISCRIMINATOR] = self.discriminator_rows(inputs, self.shown(outputs, training=False), training=False)
        return self._logs(_first(rows, own), count)


def _filled(tensors: Any) -> Any:
    """Return tensors `[n, ...]`, each with a row of zeros if it has none.

    A device without a share of the batch has to compute too, and convolutions and reflections of nothing fail.
    """

    def filled(tensor: tf.Tensor) -> tf.Tensor:
        missing = tf.cast(tf.equal(tf.shape(tensor)[0], 0), tf.int32)
        return tf.pad(tensor, [[0, missing], *[[0, 0]] * (tensor.shape.rank - 1)])

    return tf.nest.map_structure(filled, tensors)


def _first(tensors: Any, count: tf.Tensor) -> Any:
    """Return the first rows of tensors, without what `_filled` added."""
    return tf.nest.map_structure(lambda tensor: tensor[:count], tensors)


def _rows(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the number of rows of the global batch as float32."""
    first = next(iter(inputs.values()))
    return tf.cast(Replicas.current().total(tf.shape(first)[0]), tf.float32)
