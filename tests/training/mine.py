"""A method in a file outside the library: linear regression on made-up numbers, for tests of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfthesis import losses, models
from tfthesis.errors import UserError
from tfthesis.lazy import keras, tf
from tfthesis.method import Evaluation, Method, Picture, Served, Signature, Spec, Stage
from tfthesis.recipe import Recipe, setting

SIZES = {"train": 40, "val": 12, "test": 12}
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63fcffff3f0300"
    "05fe02fea72d9a3b0000000049454e44ae426082"
)


@dataclasses.dataclass(frozen=True)
class MineRecipe(Recipe):
    """Numbers of the regression."""

    dataset: str = setting("numbers", "dataset")
    widths: tuple[int, ...] = setting((3,), "hidden units", unit="units", source="Table 1")
    rate: float = setting(0.05, "learning rate", unit="per step", source="Eq 2")
    epochs: int = setting(2, "passes", unit="epochs")
    bias: bool = setting(True, "whether there is a bias")
    loss: str = setting("square", "what is minimised", choices=("square", "absolute"))
    clip: float | None = setting(None, "largest gradient")


class Numbers:
    """Rows whose target is the sum of their inputs."""

    def __init__(self, name: str, directory: Path | None):
        import numpy as np

        if name != "numbers":
            raise UserError(f"unknown dataset {name!r}; known: numbers")
        shift = float((directory / "shift.txt").read_text()) if directory else 0.0
        random = np.random.default_rng(0)
        self.x = {split: random.normal(size=(size, 4)).astype("f4") for split, size in SIZES.items()}
        self.y = {split: x.sum(1, keepdims=True) + shift for split, x in self.x.items()}
        self.spec = Spec(inputs={"x": (4,)}, dataset={"name": name, "fingerprint": f"numbers {shift}"})

    def size(self, split: str) -> int:
        return len(self.x[split])

    def batches(self, split, rows, key):
        batches = [({"x": self.x[split][row]}, {"y": self.y[split][row].astype("f4")}) for row in rows]
        kinds = ({"x": tf.TensorSpec([None, 4])}, {"y": tf.TensorSpec([None, 1])})
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=kinds)

    def item_ids(self, split, rows):
        return [f"{split}-{row}" for row in rows]

    def describe(self):
        return {"name": "numbers", "counts": SIZES, "skipped": {"count": 1, "items": ["train: row 40: <b>empty</b>"]}}


def build(recipe: MineRecipe, spec: Spec):
    x = y = keras.Input(spec.inputs["x"], name="x")
    for i, width in enumerate(recipe.widths):
        y = keras.layers.Dense(width, activation="relu", name=f"hidden_{i}")(y)
    return models.ObjectiveModel({"x": x}, {"y": keras.layers.Dense(1, name="out", use_bias=recipe.bias)(y)})


def stages(recipe: MineRecipe):
    return [Stage("fit", recipe.epochs, 16, recipe.rate, {recipe.loss: 1.0})]


def compile(model, recipe: MineRecipe, stage: Stage):
    class Error(losses.Objective):
        """The error of each row."""

        parts = ("square", "absolute")

        def part(self, name, outputs, targets, replicas):
            error = outputs["y"] - targets["y"]
            return tf.reduce_sum(tf.square(error) if name == "square" else tf.abs(error), axis=1)

    model.compile(optimizer=keras.optimizers.Adam(stage.learning_rate), loss=Error(stage.loss_weights))


def evaluate(model, data: Numbers, recipe: MineRecipe, split: str) -> Evaluation:
    error = (model({"x": data.x[split]}, training=False)["y"].numpy() - data.y[split])[:, 0] ** 2
    table = [{"row": i, "error": value} for i, value in enumerate(error[:3])]
    return Evaluation(
        "mean squared error",
        {"error": error.mean()},
        -float(error.mean()),
        {"first_rows": table},
        {"sorted_errors": (range(len(error)), sorted(error))},
        {"error": error},
    )


def signatures(model, recipe, spec, index, encoders) -> Served:
    example = {"x": [[1.0, 2.0, 3.0, 4.0]]}
    inputs = {"x": tf.TensorSpec([None, 4], tf.float32)}
    predict = Signature(lambda x: model({"x": x}, training=False), inputs, example, "predict the sum")
    return Served({"predict": predict}, [model])


def pictures(model, data, recipe, folder: Path) -> list[Picture]:
    path = folder / "dot.png"
    path.write_bytes(PIXEL)
    return [Picture(path, "A dot.")]


METHOD = Method(
    title="Regression",
    chapter="Nobody 2000, chapter 2",
    summary="Sums of numbers.",
    presets={"thesis": MineRecipe(epochs=100), "quick": MineRecipe(epochs=3), "tiny": MineRecipe()},
    variants={"straight": {"widths": ()}},
    data=lambda recipe, name, directory: Numbers(name, directory),
    build=build,
    stages=stages,
    compile=compile,
    evaluate=evaluate,
    galleries=lambda model, recipe, data, split: {},
    signatures=signatures,
    pictures=pictures,
)
