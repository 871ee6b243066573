"""A table of a thesis as data: rows as recipe overrides, columns, printed numbers and claimed directions.

`training.reproduction.table_files` reads them from `training/tables/*.toml`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tfthesis.discovery import load_method
from tfthesis.recipe import Recipe

ITEM = re.compile(r"^(\w+)(?:\s*<\s*(\d+))?$")
"""One part of `Column.items`."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure that every row has.

    Attributes:
        scalar: its name in the method's `Evaluation`, or in a run record (`seconds`).
        label: heading.
        better: "larger", "smaller" or "neither".
        items: what the figure is the sum of means of, per item: `"i2t_rank < 5"` (share of a sample
            below a bound, in percent) or `"correct"` (mean of a sample, in percent), several with commas.
        digits: decimals shown.
        layers: for rows of kind `count`: prefixes of the layers whose weights are counted.
        exclude: for rows of kind `count`: parts of layer names that are not counted.
        target: for rows of kind `transfer`: the `dataset` that the figure is measured on, the `folder` below
            `--data-dir` where it lies, and `options` of its reader, each as `name=value`.
        scales: at which the figure is measured; empty means at all.
    """

    scalar: str
    label: str
    better: str = "larger"
    items: str = ""
    digits: int = 1
    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scales: tuple[str, ...] = ()

    def item_terms(self) -> list[tuple[str, int | None]]:
        """Return `items` as (sample name, bound or None) pairs."""
        return [
            (found[1], int(found[2]) if found[2] else None)
            for part in self.items.split(",")
            if part.strip() and (found := ITEM.match(part.strip()))
        ]


@dataclasses.dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        label: name, unique in the table.
        kind: "run" trains and evaluates; "ridge" is the closed-form ridge map on the same features;
            "bag_of_words" classifies captions by the counts of their words;
            "count" builds the model and counts weights; "transfer" trains, and measures the features on the targets of
            the columns; "cited" is another author's, of which the thesis prints figures and nothing is run.
        method: name of the row's method; None takes the table's.
        preset: preset instead of the edition's scale.
        variant, overrides: the recipe. `{seed}` in a string stands for the seed of the run, such as a fold's number.
        data: dataset that this row fixes, if any.
        folder: where `data` lies below `--data-dir`.
        spec: for kind "count": `inputs` (widths by name), `classes` (their number), `multi_label`.
        measure: which of several measurements of one run is shown: what names of scalars and samples begin with,
            before a dot. Rows that differ only here share their runs.
        encoder, weights: for kind "transfer": an encoder whose features are measured instead of a trained model's,
            and the file of its weights below `--data-dir`; empty takes the encoder's own.
        scales: at which the row is made; at others it is as if cited. Empty means at all.
        series, x: position in a sweep.
    """

    label: str
    kind: str = "run"
    method: str | None = None
    preset: str | None = None
    variant: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: str | None = None
    folder: str | None = None
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: str = ""
    encoder: str = ""
    weights: str = ""
    scales: tuple[str, ...] = ()
    series: str = ""
    x: float | None = None

    @property
    def trained(self) -> bool:
        """Whether a model is trained for it."""
        return self.kind == "run" or (self.kind == "transfer" and not self.encoder)

    @property
    def varies(self) -> bool:
        """Whether a seed enters the result."""
        return self.trained or self.settled(0) != self.settled(1)

    def named(self, name: str) -> str:
        """Return what this row's measurement calls a scalar or sample."""
        return f"{self.measure}.{name}" if self.measure else name

    def settled(self, seed: int) -> dict[str, Any]:
        """Return the overrides of the run of `seed`."""
        return {name: _settled(value, seed) for name, value in self.overrides.items()}


@dataclasses.dataclass(frozen=True)
class Claim:
    """A direction: row `better` beats row `than` (or each of several rows) in `columns`.

    `source` says who claims it: the thesis, or this project's own expectation. With `gate` the claim checks the measure
    itself: in a column where the difference is not found to be above `gate`, the table's other claims are left
    undecided.
    """

    better: str
    than: tuple[str, ...]
    columns: tuple[str, ...]
    source: str = "thesis"
    gate: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, sweep or curve; see the fields of the files in `training/tables`.

    Attributes:
        name: file name without its ending, such as "7.2".
        kind: "table", "sweep" (one recipe field takes several values) or "curve" (validation figures
            over the epochs of a run).
        title, source, note: for people.
        method: name of the method of the rows that name none.
        preset: scale that is used unless another is asked for.
        seeds: of the runs.
        parameter, values: recipe field of a sweep and its values.
        stages: stages of a curve; empty takes all.
        pictures: of a run's report, by file name without ending, that the pages show for each row; see
            `training.reproduction.pictures`.
        printed: dataset of the thesis -> row label -> scalar -> printed number (or text).
    """

    name: str
    title: str
    source: str
    method: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    kind: str = "table"
    note: str = ""
    preset: str = "quick"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    claims: tuple[Claim, ...] = ()
    parameter: str = ""
    values: tuple[float, ...] = ()
    stages: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    printed: Mapping[str, Mapping[str, Mapping[str, float | str]]] = dataclasses.field(default_factory=dict)

    def row(self, label: str) -> Row:
        """Return the row named `label`."""
        return next(row for row in self.rows if row.label == label)

    def column(self, scalar: str) -> Column:
        """Return the column of `scalar`."""
        return next(column for column in self.columns if column.scalar == scalar)

    def recipe(self, row: Row, scale: str, changes: Mapping[str, Any] | None = None, seed: int = 0) -> Recipe:
        """Return the recipe of `row` at `scale` for the run of `seed`; `changes` apply to every row."""
        method = load_method(row.method or self.method)
        return method.recipe(row.preset or scale, row.variant, **{**row.settled(seed), **(changes or {})})


def _settled(value: Any, seed: int) -> Any:
    if isinstance(value, str):
        return value.replace("{seed}", str(seed))
    return tuple(_settled(item, seed) for item in value) if isinstance(value, list | tuple) else value
