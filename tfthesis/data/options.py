"""Options of readers and encoders as recipes have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tfthesis.errors import UserError


def reader_options(assignments: Sequence[str], field: str = "reader") -> dict[str, Any]:
    """Return `name=value` strings as keyword arguments; a value is JSON where it can be, else a string.

    Raises:
        UserError: an item has no `=`.
    """
    options = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"{field}: expected items such as name=value, got {assignment!r}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options
