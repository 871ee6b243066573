"""A generator against a discriminator: a composite model with two optimizers and steps of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfthesis.errors import UserError
from tfthesis.method import SPLITS, Evaluation, Gallery, Method, Picture, Plateau, Served, Signature, Spec, Stage
from tfthesis.models.replicas import DistributedFit, Replicas
from tfthesis.recipe import Recipe, setting

PARTS = ("generator", "discriminator")


@dataclasses.dataclass(frozen=True)
class TwoOptimizersRecipe(Recipe):
    dataset: str = setting("ring", "dataset to read; only a drawn ring is known")
    rows: int = setting(42, "points in each split", unit="points")
    batch_size: int = setting(16, "points in a global batch", unit="points")
    together_epochs: int = setting(3, "passes that train both parts", unit="epochs")
    alone_epochs: int = setting(1, "passes that train the discriminator alone", unit="epochs")
    rate: float = setting(0.05, "learning rate of both optimizers")


class Ring:
    """Points on a circle, with noise for the generator by (seed, epoch, row); implements `tfthesis.method.Data`."""

    def __init__(self, rows):
        self.spec = Spec(inputs={"noise": (2,)}, dataset={"name": "ring", "rows": rows})
        angles = np.random.default_rng(5).uniform(0, 2 * np.pi, [len(SPLITS), rows])
        points = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)
        self.points = dict(zip(SPLITS, points, strict=True))

    def size(self, split):
        if split not in self.points:
            raise UserError(f"unknown split {split!r}")
        return len(self.points[split])

    def noise(self, split, key):
        return np.random.default_rng(key).normal(size=self.points[split].shape).astype(np.float32)

    def batches(self, split, rows, key):
        real, noise = self.points[split], self.noise(split, key)
        point = tf.TensorSpec([None, 2], tf.float32)
        elements = lambda: (({"noise": noise[row]}, {"real": real[row]}) for row in rows)  # noqa: E731
        return tf.data.Dataset.from_generator(elements, output_signature=({"noise": point}, {"real": point}))

    def item_ids(self, split, rows):
        return [f"{split}-{row}" for row in rows]

    def describe(self):
        return {"rows": {split: len(points) for split, points in self.points.items()}, "skipped": []}


@keras.saving.register_keras_serializable("two_optimizers")
class Adversaries(DistributedFit, keras.Model):
    """Two networks, each with its own optimizer; a `tfthesis.method.TrainedModel`."""

    def __init__(self, generator, discriminator, **kwargs):
        super().__init__(**kwargs)
        self.generator, self.discriminator = generator, discriminator
        self.means = [keras.metrics.Mean(name=name) for name in ("loss", *PARTS)]
        self.optimizers = {}
        self.built = True

    def call(self, inputs):
        return self.generator(inputs["noise"])

    def get_config(self):
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        return {"name": self.name, **parts}

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **parts})

    def train_only(self, prefixes):
        for name in PARTS:
            getattr(self, name).trainable = name.startswith(tuple(prefixes))

    def compile(self, rate):
        super().compile(optimizer=None)
        kinds = {"generator": keras.optimizers.Adam, "discriminator": keras.optimizers.SGD}
        parts = {name: getattr(self, name).trainable_variables for name in PARTS}
        self.optimizers = {name: kinds[name](rate) for name in PARTS if parts[name]}
        for name, optimizer in self.optimizers.items():
            optimizer.build(parts[name])

    @property
    def metrics(self):
        return self.means

    def _measure(self, data, training):
        """Return the loss of each part over the global batch, and the number of its rows."""
        inputs, targets = data
        fake = self.discriminator(self.generator(inputs["noise"], training=training), training=training)
        real = self.discriminator(targets["real"], training=training)
        count = tf.cast(Replicas.current().total(tf.shape(real)[0]), tf.float32)
        softplus = lambda logits: tf.reduce_sum(tf.math.softplus(logits)) / count  # noqa: E731
        return {"generator": softplus(-fake), "discriminator": softplus(-real) + softplus(fake)}, count

    def _logs(self, parts, count):
        parts = Replicas.current().total(tf.stack([parts[name] for name in PARTS]))
        for mean, value in zip(self.means, [tf.reduce_sum(parts), *tf.unstack(parts)], strict=True):
            mean.update_state(value, sample_weight=count)
        return self.vectors({mean.name: mean.result() for mean in self.means})

    def train_step(self, data):
        with tf.GradientTape(persistent=True) as tape:
            losses, count = self._measure(data, training=True)
        trained = {name: getattr(self, name).trainable_variables for name in self.optimizers}
        gradients = {name: tape.gradient(losses[name], variables) for name, variables in trained.items()}
        for name, optimizer in self.optimizers.items():
            optimizer.apply_gradients(zip(gradients[name], trained[name], strict=True))
        return self._logs(losses, count)

    def test_step(self, data):
        return self._logs(*self._measure(data, training=False))


def data(recipe, name, directory):
    if name != "ring":
        raise UserError(f"unknown dataset {name!r}")
    return Ring(recipe.rows)


def build(recipe, spec):
    def network(name, width):
        layers = [keras.Input((2,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(width)]
        return keras.Sequential(layers, name=name)

    return Adversaries(network("generator", 2), network("discriminator", 1), name="adversaries")


def stages(recipe):
    plateau = Plateau("val_loss", factor=0.5, patience=1)
    together = Stage("together", recipe.together_epochs, recipe.batch_size, recipe.rate, {}, plateau=plateau)
    return together, Stage(
        "alone", recipe.alone_epochs, recipe.batch_size, recipe.rate, {}, ("discriminator",), keep_best=False
    )


def draw(model, data, split):
    return np.asarray(model.generator(data.noise(split, 11)))


def evaluate(model, data, recipe, split):
    off = np.abs(np.linalg.norm(draw(model, data, split), axis=1) - 1)
    return Evaluation("distance from the ring", {"distance": float(off.mean())}, -float(off.mean()))


def galleries(model, recipe, data, split):
    points = draw(model, data, split)
    return {"drawn": Gallery([str(i) for i in range(len(points))], points, [""] * len(points))}


def signatures(model, recipe, spec, index, encoders):
    point = tf.TensorSpec([None, 2], tf.float32)
    example = np.array([[0.5, -1.0], [0.0, 2.0]], np.float32)
    generate = Signature(
        lambda noise: {"points": model.generator(noise)}, {"noise": point}, {"noise": example}, "Points from noise."
    )
    search = Signature(
        lambda points: index["drawn"].search(points, 3), {"points": point}, {"points": example}, "Drawn points nearby."
    )
    return Served({"generate": generate, "search": search}, [model, index["drawn"]])


def pictures(model, data, recipe, folder: Path):
    figure = Figure(figsize=(3, 3))
    figure.subplots().scatter(*draw(model, data, "test").T)
    figure.savefig(folder / "drawn.png")
    return [Picture(folder / "drawn.png", "Points drawn by the generator.")]


METHOD = Method(
    title="Two optimizers",
    chapter="none: a check of the contract",
    summary="A generator and a discriminator, each with its own optimizer.",
    presets=dict.fromkeys(("thesis", "quick", "tiny"), TwoOptimizersRecipe()),
    data=data,
    build=build,
    stages=stages,
    compile=lambda model, recipe, stage: model.compile(stage.learning_rate),
    evaluate=evaluate,
    galleries=galleries,
    signatures=signatures,
    pictures=pictures,
)
