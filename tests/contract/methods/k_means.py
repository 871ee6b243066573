"""K-means on drawn points: a method whose only stage is a preparation, so that nothing trains by gradients."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.cluster import KMeans

from tfthesis.errors import UserError
from tfthesis.method import SPLITS, Evaluation, Method, Picture, Preparation, Served, Signature, Spec
from tfthesis.recipe import Recipe, setting


@dataclasses.dataclass(frozen=True)
class KMeansRecipe(Recipe):
    dataset: str = setting("blobs", "dataset to read; only drawn blobs are known")
    clusters: int = setting(3, "number of centres")
    rows: int = setting(90, "points in each split", unit="points")


class Blobs:
    """Points around three centres; implements `tfthesis.method.Data`."""

    def __init__(self, rows):
        self.spec = Spec(inputs={"points": (2,)}, dataset={"name": "blobs", "rows": rows})
        middles = np.array([[0, 0], [4, 0], [0, 4]])
        draws = np.random.default_rng(7)
        self.points = {
            split: (middles[np.arange(rows) % 3] + draws.normal(size=[rows, 2])).astype(np.float32) for split in SPLITS
        }

    def size(self, split):
        if split not in self.points:
            raise UserError(f"unknown split {split!r}")
        return len(self.points[split])

    def batches(self, split, rows, key):
        points = self.points[split]
        signature = {"points": tf.TensorSpec([None, 2], tf.float32)}, {"row": tf.TensorSpec([None], tf.int64)}
        elements = lambda: (({"points": points[row]}, {"row": row}) for row in rows)  # noqa: E731
        return tf.data.Dataset.from_generator(elements, output_signature=signature)

    def item_ids(self, split, rows):
        return [f"{split}-{row}" for row in rows]

    def describe(self):
        return {"rows": {split: len(points) for split, points in self.points.items()}, "skipped": []}


@keras.saving.register_keras_serializable("k_means")
class SquaredDistances(keras.layers.Layer):
    """Squared distances to centres that no gradient moves: `[B, D] -> [B, clusters]`."""

    def __init__(self, clusters, **kwargs):
        super().__init__(**kwargs)
        self.clusters = clusters

    def build(self, shape):
        self.centres = self.add_weight(shape=(self.clusters, shape[-1]), trainable=False, name="centres")

    def call(self, points):
        return keras.ops.sum((points[:, None] - self.centres) ** 2, axis=-1)

    def get_config(self):
        return {**super().get_config(), "clusters": self.clusters}


def data(recipe, name, directory):
    if name != "blobs":
        raise UserError(f"unknown dataset {name!r}")
    return Blobs(recipe.rows)


def build(recipe, spec):
    points = keras.Input(spec.inputs["points"], name="points")
    distances = SquaredDistances(recipe.clusters, name="distances")(points)
    return keras.Model({"points": points}, {"distances": distances}, name="k_means")


def fit_centres(model, data, recipe):
    fitted = KMeans(recipe.clusters, n_init=2, random_state=0).fit(data.points["train"])
    model.get_layer("distances").centres.assign(fitted.cluster_centers_)
    return {"centres": fitted.cluster_centers_, "cluster": fitted.labels_}


def compile_stage(model, recipe, stage):
    raise NotImplementedError("k-means has no stage with gradients")


def distances(model, points):
    return np.asarray(model({"points": points})["distances"])


def evaluate(model, data, recipe, split):
    nearest = distances(model, data.points[split]).min(1)
    mean = float(nearest.mean())
    return Evaluation("nearest centre", {"squared_distance": mean}, -mean, samples={"squared_distance": nearest})


def signatures(model, recipe, spec, index, encoders):
    def assign(points):
        found = model({"points": points})["distances"]
        return {"cluster": tf.argmin(found, axis=1), "squared_distance": tf.reduce_min(found, axis=1)}

    inputs = {"points": tf.TensorSpec([None, 2], tf.float32)}
    example = {"points": np.array([[0.5, 0.0], [3.0, 1.0]], np.float32)}
    return Served({"assign": Signature(assign, inputs, example, "Nearest centre of each point.")}, [model])


def pictures(model, data, recipe, folder: Path):
    figure, points = Figure(figsize=(3, 3)), data.points["test"]
    figure.subplots().scatter(*points.T, c=distances(model, points).argmin(1))
    figure.savefig(folder / "clusters.png")
    return [Picture(folder / "clusters.png", "Test points, coloured by their nearest centre.")]


METHOD = Method(
    title="K-means",
    chapter="none: a check of the contract",
    summary="Centres of drawn points, found without gradients.",
    presets=dict.fromkeys(("thesis", "quick", "tiny"), KMeansRecipe()),
    variants={"two_clusters": {"clusters": 2}},
    data=data,
    build=build,
    stages=lambda recipe: (Preparation("centres", fit_centres),),
    compile=compile_stage,
    evaluate=evaluate,
    galleries=lambda model, recipe, data, split: {},
    signatures=signatures,
    pictures=pictures,
)
