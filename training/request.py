"""What one run is: a method, the numbers of its recipe, the data and the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.method import Data, Method
from tfthesis.recipe import Recipe
from training.command_line import overrides


@dataclasses.dataclass(frozen=True)
class Request:
    """A run as it was asked for; kept in the run directory as `recipe.json`.

    Attributes:
        name: method of `--list`, or the path of a Python file.
        method: what the name stands for.
        preset, variant: where the recipe started.
        recipe: every number of the run.
        seed: of weights, order of rows, dropout and augmentation.
        data_dir: folder of the dataset; None for a generated one.
    """

    name: str
    method: Method
    preset: str
    variant: str | None
    recipe: Recipe
    seed: int = 0
    data_dir: Path | None = None

    @classmethod
    def create(
        cls,
        name: str,
        preset: str = "quick",
        variant: str | None = None,
        changes: Sequence[str] | Mapping[str, Any] = (),
        *,
        data: str | None = None,
        data_dir: Path | None = None,
        seed: int = 0,
    ) -> Request:
        """Return a request from names; `changes` are typed values by field, or `FIELD=VALUE` strings.

        Raises:
            UserError: the method, preset, variant or a field is unknown, or a value has the wrong type.
        """
        method = load_method(name)
        recipe = method.recipe(preset, variant)
        typed = dict(changes) if isinstance(changes, Mapping) else overrides(recipe, changes)
        if data is not None:
            typed["dataset"] = data
        if name.endswith(".py"):
            name = str(Path(name).resolve())
        directory = data_dir.resolve() if data_dir is not None else None
        return cls(name, method, preset, variant, method.recipe(preset, variant, **typed), seed, directory)

    @property
    def short_name(self) -> str:
        """Name of the method without folder and suffix."""
        return Path(self.name).stem

    @property
    def served_name(self) -> str:
        """Name of an export: method and preset, so that a quick run never replaces a thesis run."""
        return "_".join(part for part in (self.short_name, self.preset, self.variant) if part)

    def folder(self, root: Path) -> Path:
        """Return where this run lives below `root`: equal requests share a folder, others do not."""
        name = f"{self.preset}-{self.variant}" if self.variant else self.preset
        return root / self.short_name / f"{name}-{self.recipe.dataset}-{self.seed}-{self.recipe.hash()}"

    def open_data(self) -> Data:
        """Return the dataset of the recipe.

        Raises:
            UserError: it is unknown, or files are missing or damaged.
        """
        return self.method.data(self.recipe, self.recipe.dataset, self.data_dir)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` reads and a report can explain without the method."""
        about = {
            field.name: {
                **{key: field.metadata.get(key, "") for key in ("help", "unit")},
                "source": self.method.source(field.name, getattr(self.recipe, field.name)),
            }
            for field in dataclasses.fields(self.recipe)
        }
        return {
            "title": self.method.title,
            "chapter": self.method.chapter,
            "summary": self.method.summary,
            "preset": self.preset,
            "variant": self.variant,
            "hash": self.recipe.hash(),
            "served_name": self.served_name,
            "method": self.name,
            "seed": self.seed,
            "data_dir": str(self.data_dir) if self.data_dir is not None else None,
            "fields": self.recipe.to_json(),
            "about": about,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """Rebuild a request from `to_json`.

        Raises:
            UserError: the method is gone, or its recipe no longer has these fields.
        """
        try:
            data_dir = Path(values["data_dir"]) if values["data_dir"] else None
            return cls.create(
                values["method"],
                values["preset"],
                values["variant"],
                values["fields"],
                data_dir=data_dir,
                seed=values["seed"],
            )
        except KeyError as error:
            raise UserError(f"recipe.json: expected the entry {error}, which is missing") from error


def without_places(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec's JSON values without the places of its encoders' weights; their fingerprints decide."""
    encoders = {
        modality: {name: value for name, value in description.items() if name != "weights"}
        for modality, description in spec["encoders"].items()
    }
    return {**spec, "encoders": encoders}


def first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """Return the first difference between two JSON values as `path: old -> new`, or None if they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if found := first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else str(key)):
                return found
        return None
    return None if old == new else f"{name}: {old!r} -> {new!r}"
