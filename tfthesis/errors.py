"""Mistakes of the user, as the user is told of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """A mistake in what was asked for; shown to the user as one message, without a traceback."""


def closest(name: str, known: Sequence[str], what: str) -> UserError:
    """Return the error for an unknown name, suggesting the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")
