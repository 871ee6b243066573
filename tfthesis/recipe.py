"""Recipes: every number of a run, each with its meaning, unit and source."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Sequence
from typing import Any

from tfthesis.errors import UserError, closest


def setting(default: Any, help: str, *, unit: str = "", source: str = "our choice", choices: Sequence[Any] = ()) -> Any:
    """Return a recipe field with its meaning, unit and source.

    Args:
        default: value of the field.
        help: one sentence.
        unit: such as "epochs" or "pixels"; empty for pure numbers and names.
        source: equation, table or section of the thesis, "released code" or "our choice".
        choices: allowed values; empty allows any value of the field's type.
    """
    metadata = {"help": help, "unit": unit, "source": source, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number of a run. Methods extend it; ablations are fields, never copied models."""

    dataset: str = setting("scenes", "dataset to read; `--data` overrides it")
    precision: str = setting(
        "float32", "dtype policy of the layers", choices=("float32", "mixed_bfloat16"), source="our choice"
    )
    xla: bool = setting(False, "compile the training step with XLA")

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = check_type(getattr(self, field.name), hints[field.name], field.name)
            choices = field.metadata.get("choices")
            if choices and value not in choices:
                raise closest(str(value), [str(choice) for choice in choices], f"value of recipe field {field.name!r}:")
            object.__setattr__(self, field.name, value)

    def idle(self) -> frozenset[str]:
        """Return the fields that change nothing, given the others; recipes that differ only there are alike."""
        return frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def hash(self) -> str:
        """Return eight hexadecimal digits that name these values."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:8]


def check_type(value: Any, expected: Any, name: str) -> Any:
    """Return `value` as the annotated type of recipe field `name` (lists become tuples, ints become floats)."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[:-1] if arguments[-1] is Ellipsis else arguments
        if arguments[-1] is not Ellipsis and len(inner) != len(value):
            raise UserError(f"recipe field {name!r}: expected {len(inner)} values, got {len(value)}: {value!r}")
        return tuple(check_type(item, inner[min(i, len(inner) - 1)], name) for i, item in enumerate(value))
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin is None and isinstance(expected, type)
    if plain and (not isinstance(value, expected) or (expected is not bool and isinstance(value, bool))):
        raise UserError(f"recipe field {name!r}: expected {expected.__name__}, got {type(value).__name__} {value!r}")
    return value
