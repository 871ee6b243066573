"""Table files: found, read, and checked against the recipe fields, presets and variants of their method.

Every file of `training/tables/*.toml` is one table; a new file is a new table.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfthesis.discovery import load_method
from tfthesis.errors import UserError, closest
from training.reproduction.table import ITEM, Claim, Column, Row, Table

FOLDER = Path(__file__).resolve().parent.parent / "tables"
KINDS = ("table", "sweep", "curve")
ROW_KINDS = ("run", "ridge", "bag_of_words", "count", "transfer", "cited")
TARGET = ("dataset", "folder", "options")


def table_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all tables, 7.2 before 7.10."""

    def order(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]

    return sorted((path.stem for path in folder.glob("*.toml")), key=order)


def load_table(name: str, folder: Path = FOLDER) -> Table:
    """Return a table by name, checked against its method.

    Raises:
        UserError: no such table, or the file has a mistake; the message names the file, the entry and
            what was expected.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        raise closest(name, table_names(folder), "table")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path.name} is no TOML: {error}") from error
    table = _table(name, values, path.name)
    _check(table, path.name)
    return table


def _table(name: str, values: Mapping[str, Any], file: str) -> Table:
    columns, rows = _entries(Column, values, "columns", file), _entries(Row, values, "rows", file)
    claims = _entries(Claim, values, "claims", file, {"columns": [column.scalar for column in columns]})
    table = _build(Table, {**values, "name": name, "columns": columns, "rows": rows, "claims": claims}, file)
    return dataclasses.replace(table, rows=_swept(table, file)) if table.kind == "sweep" else table


def _entries(
    cls: type, values: Mapping[str, Any], key: str, file: str, defaults: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Return the entries of an array of tables as dataclass `cls`."""
    entries = values.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise UserError(f"{file}: {key!r} is {entries!r}, expected [[{key}]] tables")
    return tuple(_build(cls, {**(defaults or {}), **entry}, f"{file}: {key}[{i}]") for i, entry in enumerate(entries))


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Return dataclass `cls` from a TOML table, lists as tuples; every key must be a field of the right type."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{where}: {closest(key, list(fields), 'entry')}")
        if not _fits(value, hints[key]):
            raise UserError(f"{where}: {key!r} is {value!r}, expected {cls.__annotations__[key]}")
    required = [key for key, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        raise UserError(f"{where}: entries {missing} are missing")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is not None:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def _swept(table: Table, file: str) -> tuple[Row, ...]:
    """Return a row for each given row and value of the parameter, labelled `[row, ]parameter = value`."""
    if not table.parameter or not table.values:
        raise UserError(f"{file}: kind 'sweep' needs 'parameter' (a recipe field) and 'values'")
    return tuple(
        dataclasses.replace(
            row,
            label=(f"{row.label}, " if len(table.rows) > 1 else "") + f"{table.parameter} = {value}",
            overrides={**row.overrides, table.parameter: value},
            series=row.label,
            x=float(value),
        )
        for row in table.rows
        for value in table.values
    )


def _check(table: Table, file: str) -> None:
    """Raise a `UserError` for whatever in `table` names something that does not exist."""
    _choice(table.kind, KINDS, f"{file}: kind")
    if not table.rows or not table.columns or not table.seeds:
        raise UserError(f"{file}: needs at least one row, one column and one seed")
    labels, scalars = [row.label for row in table.rows], [column.scalar for column in table.columns]
    for names, what in ((labels, "row label"), (scalars, "column scalar")):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UserError(f"{file}: {what} {sorted(twice)[0]!r} appears twice")
    for column in table.columns:
        _check_column(table, column, file)
    for row in table.rows:
        _check_row(table, row, file)
    for i, claim in enumerate(table.claims):
        where = f"{file}: claims[{i}]"
        for label in (claim.better, *claim.than):
            _choice(label, labels, f"{where}: row")
        for scalar in claim.columns:
            _choice(scalar, scalars, f"{where}: column")
    for dataset, rows in table.printed.items():
        for label, figures in rows.items():
            _choice(label, labels, f"{file}: printed.{dataset}: row")
            for scalar in figures:
                _choice(scalar, scalars, f"{file}: printed.{dataset}.{label}: column")


def _check_column(table: Table, column: Column, file: str) -> None:
    where = f"{file}: column {column.scalar!r}"
    _choice(column.better, ("larger", "smaller", "neither"), f"{where}: better")
    for part in filter(None, (part.strip() for part in column.items.split(","))):
        if not ITEM.match(part):
            raise UserError(f"{where}: items: expected 'sample' or 'sample < number', got {part!r}")
    for key in column.target:
        _choice(key, TARGET, f"{where}: target")
    if column.target and "dataset" not in column.target:
        raise UserError(f"{where}: target: entry 'dataset' is missing, got {dict(column.target)}")
    _check_scales(table, column.scales, where)


def _check_scales(table: Table, scales: Sequence[str], where: str) -> None:
    presets = list(load_method(table.method).presets) if scales else []
    for scale in scales:
        _choice(scale, presets, f"{where}: scales")


def _check_row(table: Table, row: Row, file: str) -> None:
    where = f"{file}: row {row.label!r}"
    _choice(row.kind, ROW_KINDS, f"{where}: kind")
    if row.folder and not row.data:
        raise UserError(f"{where}: 'folder' needs 'data'")
    if row.kind == "count" and not {"inputs", "classes"} <= set(row.spec):
        raise UserError(f"{where}: kind 'count' needs spec.inputs and spec.classes, got {dict(row.spec)}")
    if row.encoder and row.kind != "transfer":
        raise UserError(f"{where}: 'encoder' needs kind 'transfer'")
    if row.weights and not row.encoder:
        raise UserError(f"{where}: 'weights' needs 'encoder'")
    if row.kind == "transfer" and not any(column.target for column in table.columns):
        raise UserError(f"{where}: kind 'transfer' needs columns with a target")
    _check_scales(table, row.scales, where)
    try:
        table.recipe(row, table.preset)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _choice(value: str, known: Sequence[str], where: str) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{where}: unknown {value!r}.{hint} Known: {', '.join(known)}.")
