"""One edition of a table: at which scale, on which data and with which seeds its rows are run."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import Any

from tfthesis.errors import UserError
from tfthesis.metrics.bag_of_words import STRENGTHS as INVERSE_PENALTIES
from tfthesis.metrics.linear_svm import COST
from tfthesis.metrics.ridge import STRENGTHS as PENALTIES
from tfthesis.recipe import Recipe
from training.command_line import overrides
from training.reproduction.store import Planned
from training.reproduction.table import Row, Table
from training.request import Request

DATA_VARIABLE = "TFTHESIS_DATA"


@dataclasses.dataclass(frozen=True)
class Edition:
    """A table with what the command line says about it.

    Attributes:
        table: what is compared.
        scale: preset of the rows that name none; rows and columns may be of some scales only.
        data: dataset instead of the recipes'; not for tables whose rows fix theirs.
        data_dir: folder of `data`; in tables that name folders, the folder that holds all of them.
        seeds: of the runs.
        changes: `FIELD=VALUE` strings for every row.
    """

    table: Table
    scale: str
    data: str | None = None
    data_dir: Path | None = None
    seeds: tuple[int, ...] = ()
    changes: tuple[str, ...] = ()

    def __post_init__(self):
        fixed = [row.label for row in self.table.rows if row.data]
        if self.data and fixed:
            raise UserError(f"--data {self.data}: rows of table {self.table.name} fix their data, such as {fixed[0]!r}")
        object.__setattr__(self, "seeds", self.seeds or self.table.seeds)

    @property
    def name(self) -> str:
        """File name of the pages: table, scale, data and changes."""
        parts = [self.table.name, self.scale]
        if not any(row.data for row in self.table.rows):
            parts.append(self._label(self._recipe(self.table.rows[-1]), self.data_dir))
        return "-".join([*parts, *(change.replace("/", "_") for change in self.changes)])

    @property
    def command(self) -> str:
        """The command that makes this edition, without the place of the data on this machine."""
        words = ["--table", self.table.name, "--scale", self.scale]
        words += ["--data", self.data] if self.data else []
        if self._names_folders:
            words += ["--data-dir", "DIR"]
        elif self.data_dir is not None:
            words += ["--data-dir", self.data_dir.name]
        words += ["--seeds", ",".join(map(str, self.seeds))]
        for change in self.changes:
            words += ["--set", change]
        return f"python -m training.reproduce {shlex.join(words)}"

    def makes(self, row: Row) -> bool:
        """Return whether `row` is made here, and not only cited."""
        return row.kind != "cited" and (not row.scales or self.scale in row.scales)

    @property
    def root(self) -> Path | None:
        """Folder that holds the folders which rows and columns name."""
        named = os.environ.get(DATA_VARIABLE)
        return self.data_dir or (Path(named) if named else None)

    @property
    def _names_folders(self) -> bool:
        return any(row.folder or row.weights for row in self.table.rows) or any(
            "folder" in column.target for column in self.table.columns
        )

    def planned(self, row: Row) -> list[Planned]:
        """Return the runs of `row`: one for each seed, a single one where no seed matters, none of a cited row.

        Raises:
            UserError: a change does not fit the recipe.
        """
        if not self.makes(row):
            return []
        return [self._planned(row, seed) for seed in (self.seeds if row.varies else self.seeds[:1])]

    def _planned(self, row: Row, seed: int) -> Planned:
        recipe, folder, preset = self._recipe(row, seed), self._folder(row), row.preset or self.scale
        fields = dataclasses.asdict(recipe)
        method = row.method or self.table.method
        request = Request.create(method, preset, row.variant, fields, data_dir=folder, seed=seed)
        label = self._label(recipe, Path(row.folder) if row.folder else folder)
        if row.kind == "count" or row.encoder:
            label = "none"
        return Planned(row.kind, request, label, self._settings(row), self.root if row.kind == "transfer" else None)

    def _recipe(self, row: Row, seed: int = 0) -> Recipe:
        changes: dict[str, Any] = {}
        if self.changes:
            changes = overrides(self.table.recipe(row, self.scale, seed=seed), self.changes)
        dataset = row.data or self.data
        if dataset:
            changes["dataset"] = dataset
        return self.table.recipe(row, self.scale, changes, seed)

    def _folder(self, row: Row) -> Path | None:
        """Return the folder of the row's data; tables that name folders look below `--data-dir` or TFTHESIS_DATA."""
        if row.folder is None:
            return None if self._names_folders else self.data_dir
        return self.root / row.folder if self.root is not None else Path(row.folder)

    @staticmethod
    def _label(recipe: Recipe, folder: Path | None) -> str:
        return f"{recipe.dataset}@{folder.name}" if folder is not None else recipe.dataset

    def _settings(self, row: Row) -> dict[str, Any]:
        """Return, as JSON values, what the result of a row depends on beyond its recipe."""
        settings: dict[str, Any] = {}
        if row.kind == "ridge":
            settings = {"strengths": PENALTIES}
        elif row.kind == "bag_of_words":
            settings = {"strengths": INVERSE_PENALTIES}
        elif row.kind == "count":
            counted = {
                column.scalar: {"layers": column.layers, "exclude": column.exclude}
                for column in self.table.columns
                if column.layers
            }
            settings = {"spec": row.spec, "counted": counted}
        elif row.kind == "transfer":
            targets = {
                column.scalar: column.target
                for column in self.table.columns
                if column.target and (not column.scales or self.scale in column.scales)
            }
            if not targets:
                raise UserError(f"table {self.table.name}: no column has a target at scale {self.scale!r}")
            settings = {"targets": targets, "cost": COST, "standardise": True}
            settings |= {"encoder": row.encoder, "weights": row.weights} if row.encoder else {}
        return json.loads(json.dumps(settings))
