"""A method of a few weights on made-up numbers, and a command that trains it, for tests of the training loop.

`python toy.py '{"run": FOLDER, ...}'` runs `main` in a process of its own: to be killed, or with several devices.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.layers import ExampleDropout
from tfthesis.losses.objective import Objective
from tfthesis.method import PRESETS, Evaluation, Method, Plateau, Preparation, Spec, Stage
from tfthesis.models.objective_model import ObjectiveModel
from tfthesis.recipe import Recipe
from training.loop import train
from training.progress import Progress
from training.run_directory import RunDirectory
from training.strategy import make_strategy

ROWS = {"train": 42, "val": 20}
FAULTY_ROW = 17


@dataclasses.dataclass(frozen=True)
class ToyRecipe(Recipe):
    """Two stages of 42 rows in batches of 16: the last batch has 10 rows."""

    epochs: int = 3
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 0.05
    head_stage: bool = False
    body_stage: bool = True
    prepare: bool = False
    plateau_patience: int = 0
    plateau_monitor: str = "loss"
    min_learning_rate: float = 0.0
    decay_epochs: int = 0
    patience: int = 0
    keep_best: bool = True
    dropout: float = 0.3
    draw: bool = False
    fault: str = "none"
    score: str = "loss"


class ToyData:
    """Rows whose target is a rule of the inputs; the inputs get noise that depends on (epoch, row)."""

    def __init__(self, recipe: ToyRecipe, rows: dict[str, int] | None = None):
        self.recipe, self.rows = recipe, dict(rows or ROWS)
        self.spec = Spec(inputs={"x": (6,)}, dataset={"name": "toy", "fingerprint": str(self.rows)})
        random = np.random.default_rng(5)
        self.x = {split: random.normal(size=(count, 6)).astype("f4") for split, count in self.rows.items()}
        self.y = {split: (x[:, :1] * x[:, 1:2] + x[:, 2:3]).astype("f4") for split, x in self.x.items()}

    def size(self, split: str) -> int:
        if split not in self.rows:
            raise UserError(f"unknown split {split!r}")
        return self.rows[split]

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        x, y, epoch = tf.constant(self.x[split]), tf.constant(self.y[split]), key[1]
        fault = self.recipe.fault if split == "train" else "none"

        def load(row: tf.Tensor) -> tuple[dict, dict]:
            noise = 0.05 * tf.sin(tf.cast(row[:, None] * 7 + epoch * 13, tf.float32) + tf.range(6, dtype=tf.float32))
            faulty = tf.cast(row == FAULTY_ROW, tf.float32)[:, None]
            inputs, targets = tf.gather(x, row) + noise, tf.gather(y, row)
            if fault == "input" and epoch == 1:
                inputs = tf.where(faulty > 0, np.nan, inputs)
            if fault == "once" and epoch == 1:
                targets = tf.where(faulty > 0, np.nan, targets)
            if fault == "persistent" and epoch >= 1:
                targets = targets * np.nan
            gradient = faulty if fault == "gradient" and epoch == 1 else 0.0 * faulty
            return {"x": inputs}, {"y": targets, "gradient_fault": gradient}

        numbers = tf.data.Dataset.from_generator(
            lambda: iter([np.asarray(row, np.int64) for row in rows]),
            output_signature=tf.TensorSpec([None], tf.int64),
        )
        return numbers.map(load)

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        return [f"{split}-{row}" for row in rows]

    def describe(self) -> dict[str, Any]:
        return {"rows": self.rows}


@keras.saving.register_keras_serializable("toy")
class ToyObjective(Objective):
    """A squared error, and a hinge on the spread of the global batch, which every replica must see whole."""

    parts = ("square", "spread")
    margin = 0.5

    def part(self, name, outputs, targets, replicas):
        error = outputs["y"] - targets["y"]
        if name == "square":
            sound = 1.0 - targets["gradient_fault"]
            # Zero, with a gradient of zero, or of NaN where the fault is.
            fault = tf.sqrt(sound + 0.0 * outputs["y"]) - sound
            return tf.reduce_sum(tf.square(error) + fault, axis=1)
        everything = replicas.gather(outputs["y"])
        return tf.reduce_mean(tf.nn.relu(self.margin - tf.abs(outputs["y"] - tf.transpose(everything))), axis=1)


def build(recipe: ToyRecipe, spec: Spec) -> ObjectiveModel:
    x = keras.Input(spec.inputs["x"], name="x")
    y = keras.layers.Dense(8, activation="relu", name="body_dense")(x)
    y = keras.layers.BatchNormalization(synchronized=True, momentum=0.8, name="body_norm")(y)
    y = ExampleDropout(recipe.dropout, name="body_dropout")(y)
    y = keras.layers.Dense(4, name="head_dense")(y)
    y = keras.layers.Dense(1, name="head_out")(y)
    return ObjectiveModel({"x": x}, {"y": y})


def stages(recipe: ToyRecipe) -> list[Stage | Preparation]:
    plateau = None
    if recipe.plateau_patience:
        plateau = Plateau(recipe.plateau_monitor, 0.1, recipe.plateau_patience, recipe.min_learning_rate)
    common = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "plateau": plateau,
        "decay_epochs": recipe.decay_epochs,
        "patience": recipe.patience,
        "keep_best": recipe.keep_best,
    }
    found: list[Stage | Preparation] = [Preparation("first guess", prepare)] if recipe.prepare else []
    if recipe.body_stage:
        found.append(Stage("body", loss_weights={"square": 1.0, "spread": 0.5}, **common))
    if recipe.head_stage:
        found.append(Stage("head", loss_weights={"square": 1.0}, trainable=("head_",), **common))
    return found


def prepare(model: keras.Model, data: ToyData, recipe: ToyRecipe) -> dict[str, np.ndarray]:
    guess = np.random.normal(size=(1,)).astype("f4") + data.y["train"].mean()
    model.get_layer("head_out").bias.assign(guess)
    return {"guess": guess, "words": np.array(["a", "bee"])}


def compile_stage(model: ObjectiveModel, recipe: ToyRecipe, stage: Stage) -> None:
    optimizer = keras.optimizers.get({"class_name": recipe.optimizer, "config": {"learning_rate": stage.learning_rate}})
    objective = ToyObjective(stage.loss_weights)
    if recipe.draw:
        objective.margin += np.random.uniform()
    model.compile(optimizer=optimizer, loss=objective)


def evaluate(model: keras.Model, data: ToyData, recipe: ToyRecipe, split: str) -> Evaluation:
    error = float(np.mean((model({"x": data.x[split]})["y"] - data.y[split]) ** 2))
    score = -error if recipe.score == "loss" else error
    return Evaluation("toy", {"error": error}, selection=score)


RECIPE = ToyRecipe(dataset="toy")
METHOD = Method(
    title="Toy",
    chapter="none",
    summary="A toy.",
    presets=dict.fromkeys(PRESETS, RECIPE),
    data=lambda recipe, name, directory: ToyData(recipe),
    build=build,
    stages=stages,
    compile=compile_stage,
    evaluate=evaluate,
    galleries=lambda *_: {},
    signatures=lambda *_: None,
    pictures=lambda *_: [],
)


class AbortError(BaseException):
    """Ends a process as far as training can tell: nothing is saved on the way out."""


def abort() -> None:
    """End training at once."""
    raise AbortError


class Watcher(Progress):
    """Acts at a step or after an epoch: `at` maps the number of steps that were taken here to a function."""

    def __init__(self, at: dict[int, Any] | None = None, at_epoch: dict[int, Any] | None = None):
        super().__init__()
        self.at, self.at_epoch, self.taken, self.notes = at or {}, at_epoch or {}, 0, []

    def step(self, **figures: Any) -> None:
        super().step(**figures)
        self.taken += 1
        self.at.get(self.taken, lambda: None)()

    def epoch(self, metrics: Any) -> None:
        super().epoch(metrics)
        self.at_epoch.get(self.epochs, lambda: None)()

    def note(self, text: str) -> None:
        self.notes.append(text)


def recipe_of(**changes: Any) -> ToyRecipe:
    return dataclasses.replace(RECIPE, **changes)


def run_toy(
    folder: Path,
    recipe: ToyRecipe = RECIPE,
    *,
    strategy: Any = None,
    progress: Progress | None = None,
    rows: dict[str, int] | None = None,
    seed: int = 3,
    **options: Any,
) -> ObjectiveModel:
    """Train the toy and return its model."""
    strategy = strategy or tf.distribute.get_strategy()
    return train(
        METHOD,
        recipe,
        ToyData(recipe, rows),
        RunDirectory(folder),
        seed=seed,
        strategy=strategy,
        progress=progress or Watcher(),
        **options,
    )


def main(options: dict[str, Any]) -> None:
    """Train in this process.

    Options: run, recipe, rows, strategy, devices, checkpoint_every, worker; `kill` is a number of steps after which
    the process kills itself.
    """
    strategy = make_strategy(options.get("strategy", "one"), options.get("devices"))
    at = {}
    if "kill" in options:
        at[options["kill"]] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    folder = Path(options["run"])
    recipe, rows = recipe_of(**options.get("recipe", {})), options.get("rows")
    every = options.get("checkpoint_every")
    model = run_toy(folder, recipe, strategy=strategy, progress=Watcher(at), rows=rows, checkpoint_every=every)
    np.savez(folder / f"result-{options.get('worker', 0)}.npz", *[variable.numpy() for variable in model.variables])


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)
