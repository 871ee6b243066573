"""The contract between a method and everything that trains, evaluates, exports or serves it.

A method is one file that exposes `METHOD`, a frozen `Method` of plain functions. The command line, the
training loop, the exporter, the report and the contract tests know only what stands here, so that a new
file is a new method and no existing file changes. This module does not import TensorFlow.

How the pieces meet:

    recipe  --data-->  Data (spec, splits, batches)
    recipe, spec  --build-->  keras.Model; a TrainedModel where a Stage trains it
    recipe, data  --before_training-->  nothing, or a UserError
    for stage in stages(recipe):  Preparation.run | train_only, compile(model, recipe, stage), train_step by step
    model, data, recipe  --evaluate-->  Evaluation,  --pictures-->  [Picture]
    model, recipe, spec, data  --galleries-->  {name: Gallery or OwnSearch}  --signatures-->  {name: Signature}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfthesis.errors import closest
from tfthesis.recipe import Recipe

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

SPLITS = ("train", "val", "test")
PRESETS = ("thesis", "quick", "tiny")


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Divide the learning rate by `1 / factor` when `monitor` has not fallen for `patience` epochs."""

    monitor: str = "loss"
    factor: float = 0.1
    patience: int = 3
    min_learning_rate: float = 0.0
    min_delta: float = 1e-4


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of gradient training.

    Attributes:
        name: shown in logs and stored in checkpoints.
        epochs: passes over `split`.
        batch_size: rows in a global batch.
        learning_rate: of the first step.
        loss_weights: weight of each loss part; a part that is not named is not computed.
        trainable: prefixes of the names of the layers that train. All others are frozen: their weights
            and BatchNorm statistics stay bit-identical. `("",)` trains everything.
        split: what is trained on.
        plateau: when the learning rate falls; None keeps it.
        decay_epochs: of the last epochs, over which the learning rate falls by equal steps; see `rate_factor`.
        patience: stop the stage when the selection score has not risen for so many epochs; 0 never stops.
        keep_best: end the stage with the weights of its best validation score.
        select: name of the `Evaluation` scalar that scores the weights; empty takes `Evaluation.selection`.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    loss_weights: Mapping[str, float]
    trainable: tuple[str, ...] = ("",)
    split: str = "train"
    plateau: Plateau | None = None
    decay_epochs: int = 0
    patience: int = 0
    keep_best: bool = True
    select: str = ""

    def rate_factor(self, epoch: int) -> float:
        """Return what the learning rate is multiplied by in `epoch` (from 0): 1, and at the end 1 / (decay_epochs + 1).

        It would be zero in the epoch after the last one.
        """
        return min(1.0, (self.epochs - epoch) / (self.decay_epochs + 1))


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A stage without gradients (codebook, PCA, EM, word list).

    `run(model, data, recipe)` fits on the training split, sets the model's variables where it has any,
    and returns the arrays that are saved with the run.
    """

    name: str
    run: Callable[[keras.Model, Data, Recipe], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a model needs to know of its data, stored as `spec.json` beside it.

    Attributes:
        inputs: per-example shape of each model input, such as `{"image": (2048,), "text": (300,)}`.
        classes: label names in the order of the classifier's outputs; empty without labels.
        multi_label: whether an example may carry several of the classes.
        encoders: for each raw modality the encoder's description (name, weights, fingerprint,
            preprocessing), enough to open it again.
        dataset: name, fingerprint and counts; "measured", where training sees other data too, the fingerprint without
            them, which tells whether two runs were measured on the same.
        extra: anything else a method needs to rebuild its model.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    encoders: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Spec:
        """Rebuild a spec from `to_json`."""
        inputs = {name: tuple(shape) for name, shape in values["inputs"].items()}
        return cls(**{**values, "inputs": inputs, "classes": tuple(values["classes"])})


class Data(Protocol):
    """A dataset opened for one recipe. Rows are what an epoch visits (image-text pairs, photos ...)."""

    spec: Spec

    def size(self, split: str) -> int:
        """Return the number of rows of `split`; raises `UserError` for an unknown split."""

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        """Return one `(inputs, targets)` element for each array of `rows`, in order, empty arrays too.

        Both are dicts of tensors. Augmentation may depend on `key` = (seed, epoch) and the row only.
        """

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return a name for each row, for error messages."""

    def describe(self) -> dict[str, Any]:
        """Return counts, sources and skipped items, as printed by `--dry-run` and kept in `data.json`."""


class TrainedModel(Protocol):
    """What a `keras.Model` has beside Keras' own so that the training loop can take it through a `Stage`.

    `tfthesis.models.ObjectiveModel` is one; a composite model with steps of its own may be another. All its
    variables exist when `Method.build` returns. A model that only a `Preparation` sets needs none of this.
    """

    @property
    def optimizers(self) -> Mapping[str, keras.optimizers.Optimizer]:
        """Every optimizer of the stage by name, built when `Method.compile` returns.

        They are kept in checkpoints, and their rates are lowered together, so each has a number as its
        `learning_rate`, no schedule.
        """

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What an epoch reports: a row of `metrics.csv` by metric name, among them `loss`.

        They are reset before each epoch and kept in checkpoints.
        """

    def train_only(self, prefixes: tuple[str, ...]) -> None:
        """Freeze every layer whose name starts with none of `prefixes`; comes before `Method.compile`.

        A prefix that fits no layer with weights is a mistake of the method and raises `ValueError`.
        """

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one step on `(inputs, targets)` of `Data.batches`; returns scalars by name, among them `loss`.

        Runs in a replica of a strategy, on that replica's rows, which may be none: losses are divided by the
        rows of the GLOBAL batch, and the scalars are those of all replicas (`tfthesis.models.replicas`).
        Whatever is NaN or infinite among them makes the loop go back to its last checkpoint.
        """

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measure what `train_step` returns without training; asked for by a plateau on a validation loss."""


@dataclasses.dataclass
class Evaluation:
    """What a method measured on one split.

    Attributes:
        protocol: the field's name of the protocol.
        scalars: figures by name; percentages are given as 0..100 and named with their unit in the docs.
        selection: the figure that picks the best weights; larger is better.
        tables: rows (dicts) by table name.
        curves: `(x, y)` sequences by curve name.
        samples: per-item arrays (ranks, hits) for bootstrap intervals and paired tests.
    """

    protocol: str
    scalars: dict[str, float]
    selection: float
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = dataclasses.field(default_factory=dict)
    samples: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG written for a person, with the sentence that explains it."""

    path: Path
    caption: str


@dataclasses.dataclass
class Gallery:
    """Items that are searched.

    Attributes:
        ids: one UTF-8 name an item, unique.
        vectors: `[N, D]` float32, compared by inner product.
        payload: a UTF-8 string an item that is returned with it (a caption, a file name).
    """

    ids: list[str]
    vectors: np.ndarray
    payload: list[str]


class OwnSearch(Protocol):
    """Items that a method searches by a rule of its own instead of an inner product; stands in for a `Gallery`."""

    def neighbours(self) -> Any:
        """Return the search as graph code: a `tf.Module` with a `kind` and `describe()` (JSON values).

        `Method.signatures` gets it as `index[name]`; all operations are those of a stock TensorFlow Serving.
        """


@dataclasses.dataclass
class Signature:
    """One served function.

    Attributes:
        function: takes the tensors of `inputs` by keyword, returns a dict of tensors; traced at export.
        inputs: a `tf.TensorSpec` for each argument; names and dtypes are a public contract.
        example: a valid request, for warm-up records and the comparison after reloading.
        help: one sentence for the model card and the metadata.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: Mapping[str, tf.TensorSpec]
    example: Mapping[str, np.ndarray]
    help: str


@dataclasses.dataclass
class Served:
    """The served functions of a method and every object whose variables and tables they use."""

    signatures: dict[str, Signature]
    trackables: list[Any]


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the theses: what it is, its numbers, and the functions that make it run.

    Attributes:
        title, chapter, summary: for lists and pages.
        presets: recipes by name; `thesis` (the paper's numbers), `quick` (default data, about a minute)
            and `tiny` (seconds) are required, further ones are other datasets of the thesis.
        variants: named baselines, twins and ablations as overrides of recipe fields.
        data(recipe, name, directory): open a dataset, raising `UserError` that names what is missing.
        build(recipe, spec): the model, initialised from the global seed; a `TrainedModel` if a `Stage` trains it.
        stages(recipe): what is trained, in order.
        compile(model, recipe, stage): set optimizers and losses for the stage; never called for a `Preparation`.
        evaluate(model, data, recipe, split): measure on one split.
        galleries(model, recipe, data, split): what a served search returns, and how where that is the method's own.
        signatures(model, recipe, spec, index, encoders): the served functions. `index` maps gallery
            names to `tfthesis.retrieval` neighbours or to what `OwnSearch` gives; `encoders` maps modalities to opened
            encoders.
        pictures(model, data, recipe, folder): PNG files for the report.
        before_training(recipe, data): read, or download into Keras's cache, what `evaluate` will need and may not have,
            such as the weights of another network, raising `UserError`: called by the first worker before the first
            step of every start, but not by `--dry-run`, which downloads nothing for it.
    """

    title: str
    chapter: str
    summary: str
    presets: Mapping[str, Recipe]
    data: Callable[[Recipe, str, Path | None], Data]
    build: Callable[[Recipe, Spec], keras.Model | TrainedModel]
    stages: Callable[[Recipe], Sequence[Stage | Preparation]]
    compile: Callable[[keras.Model, Recipe, Stage], None]
    evaluate: Callable[[keras.Model, Data, Recipe, str], Evaluation]
    galleries: Callable[[keras.Model, Recipe, Data, str], Mapping[str, Gallery | OwnSearch]]
    signatures: Callable[[keras.Model, Recipe, Spec, Mapping[str, Any], Mapping[str, Any]], Served]
    pictures: Callable[[keras.Model, Data, Recipe, Path], list[Picture]]
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    before_training: Callable[[Recipe, Data], None] = lambda recipe, data: None

    def __post_init__(self):
        missing = [name for name in PRESETS if name not in self.presets]
        if missing:
            raise ValueError(f"{self.title}: presets {missing} are missing, got {list(self.presets)}")

    def recipe(self, preset: str = "quick", variant: str | None = None, **overrides: Any) -> Recipe:
        """Return a preset with a variant's and then the given fields replaced.

        Raises:
            UserError: the preset, the variant or a field is unknown, or a value has the wrong type.
        """
        if preset not in self.presets:
            raise closest(preset, list(self.presets), "preset")
        if variant is not None and variant not in self.variants:
            raise closest(variant, list(self.variants), "variant")
        recipe = self.presets[preset]
        changes = {**(self.variants[variant] if variant else {}), **overrides}
        fields = [field.name for field in dataclasses.fields(recipe)]
        for name in changes:
            if name not in fields:
                raise closest(name, fields, "recipe field")
        return dataclasses.replace(recipe, **changes)

    def source(self, field: str, value: Any) -> str:
        """Return where `value` of a recipe field comes from.

        The field's source explains the values of the `thesis` presets; any other value is our choice.
        """
        stated = next(
            f.metadata.get("source", "") for f in dataclasses.fields(self.presets["thesis"]) if f.name == field
        )
        known = [getattr(recipe, field) for name, recipe in self.presets.items() if name.startswith("thesis")]
        if value in known or stated.startswith("our choice"):
            return stated
        return f"our choice ({stated}: {known[0]!r})"
