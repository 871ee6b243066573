"""Results of finished runs, small enough to be committed: what tables, docs and cost estimates are made of.

One JSON file a run below `results/runs/<method>/`, and beside it an `.npz` with its per-item figures.
Run directories may be deleted and other machines may hold none of them: a run that is found here is not
repeated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.errors import UserError
from tfthesis.recipe import Recipe
from training.files import replacing
from training.request import Request

LARGEST = np.iinfo(np.uint16).max


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that a table needs.

    Attributes:
        kind: of the row; see `training.reproduction.table.Row`.
        request: method, recipe, data and seed.
        data: name of the data, with the folder's last part where one is given: `flickr8k@flickr8k_1k`.
        settings: what the result of another kind than "run" depends on beyond the recipe.
        root: folder that holds what `settings` names.
    """

    kind: str
    request: Request
    data: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    root: Path | None = None

    @property
    def deterministic(self) -> bool:
        """Whether no seed enters the result."""
        return self.kind != "run" and (self.kind != "transfer" or "encoder" in self.settings)

    @property
    def stem(self) -> str:
        """File name of its record, without an ending."""
        head = "" if self.kind == "run" else f"{self.kind}-"
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        tail = f"-{digest[:8]}" if self.settings else ""
        return f"{head}{self.data}-{self.request.recipe.hash()}-{self.request.seed}{tail}"


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        kind, data, settings, method, preset, variant, seed, recipe: what ran.
        fingerprint: of what it was measured on; see `tfthesis.method.Spec`.
        protocol, scalars: the evaluation on the test split.
        epochs: columns of figures an epoch on the validation split, with `stage` and `selection`.
        seconds: from start to finish on `cores` cores of `processor`.
        waiting: share of the training time that was spent waiting for input; None where nothing was trained.
        jobs: runs that shared the cores at a time.
        commit, versions: of the source and of the packages.
        stem: its file name, without folder and ending.
    """

    kind: str
    method: str
    preset: str
    variant: str | None
    data: str
    seed: int
    recipe: Mapping[str, Any]
    settings: Mapping[str, Any]
    fingerprint: str
    protocol: str
    scalars: Mapping[str, float]
    epochs: Mapping[str, Sequence[Any]]
    seconds: float
    cores: int
    processor: str
    commit: str | None
    versions: Mapping[str, str | None]
    waiting: float | None = None
    jobs: int = 1
    stem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; the file name is not repeated inside the file."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "stem"}


class ResultStore:
    """The committed results below a folder, usually `results`."""

    def __init__(self, root: Path):
        self.root = root
        self._records: list[Record] | None = None

    @property
    def records(self) -> list[Record]:
        """All records, read once.

        Raises:
            UserError: a file is damaged; the message names it.
        """
        if self._records is None:
            paths = sorted((self.root / "runs").glob("*/*.json"))
            self._records = [self._read(path) for path in paths]
        return self._records

    def find(self, planned: Planned) -> Record | None:
        """Return the record of an equal run, whatever commit made it.

        Recipes are compared by value, idle fields apart. A field that a record does not know yet counts as its
        default, so that a new field does not make every result stale.
        """
        recipe, wanted = planned.request.recipe, effective(planned.request.recipe, {})
        for record in self.records:
            same = (record.kind, record.method, record.data) == (planned.kind, planned.request.short_name, planned.data)
            seed = planned.deterministic or record.seed == planned.request.seed
            if same and seed and record.settings == planned.settings and effective(recipe, record.recipe) == wanted:
                return record
        return None

    def add(self, planned: Planned, record: Record, samples: Mapping[str, np.ndarray]) -> Record:
        """Keep a record and its per-item arrays, replacing an earlier one of the same run; returns it.

        Whole numbers are kept as uint16 (larger ones as 65535), truth values as they are; other arrays
        are left out.
        """
        earlier = self.find(planned)
        record = dataclasses.replace(record, stem=earlier.stem if earlier else planned.stem)
        folder = self.root / "runs" / record.method
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: packed for name, array in samples.items() if (packed := compact(array)) is not None}
        # The JSON file comes last and stands for both.
        with replacing(folder / f"{record.stem}.npz") as file:
            np.savez_compressed(file, **kept)
        with replacing(folder / f"{record.stem}.json") as file:
            lines = (
                f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in record.to_json().items()
            )
            file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
        self._records = [other for other in self.records if other is not earlier] + [record]
        return record

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        """Return the per-item arrays of a record; empty if none were kept."""
        path = self.root / "runs" / record.method / f"{record.stem}.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def _read(self, path: Path) -> Record:
        try:
            return Record(**json.loads(path.read_text(encoding="utf-8")), stem=path.stem)
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{path} is no record of a run ({error}); restore it, or delete it to run again") from error


def effective(recipe: Recipe, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `recipe` that are not idle, with the values of a recorded recipe where it has them.

    A field that was added after a record was made has the default of its class there.
    """
    fields = [field for field in dataclasses.fields(recipe) if field.default is not dataclasses.MISSING]
    defaults = json.loads(json.dumps({field.name: field.default for field in fields}))
    values = {**defaults, **recorded} if recorded else recipe.to_json()
    return {name: value for name, value in values.items() if name not in recipe.idle()}


def compact(array: np.ndarray) -> np.ndarray | None:
    """Return per-item whole numbers as uint16, truth values unchanged, and None for anything else."""
    array = np.asarray(array)
    if array.ndim != 1:
        return None
    if array.dtype == bool:
        return array
    return np.clip(array, 0, LARGEST).astype(np.uint16) if array.dtype.kind in "iu" else None
