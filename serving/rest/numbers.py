"""JSON as the REST API of TensorFlow Serving reads and writes it.

It differs from `json` in its numbers: floats always carry a point or an exponent and are as short as their
dtype allows, and NaN and the infinities are bare words in both directions.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


class Float(float):
    """A float whose shortest text is that of float32."""

    __slots__ = ()


def dumps(value: Any) -> str:
    """Return JSON of lists, objects, strings, numbers, booleans and None."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(dumps, value)) + "]"
    if isinstance(value, float):
        return _float_text(value)
    return json.dumps(value, ensure_ascii=False)


def loads(data: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not UTF-8, not JSON, names a key twice, is nested too deep for the parser, or a string in
            it has half of a surrogate pair.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if b"\\ud" in data.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Float):
        text = np.format_float_positional(np.float32(value), unique=True, trim="0")
        if len(text) > 20:
            text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
        return text
    return repr(float(value))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return values
