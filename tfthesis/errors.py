"""Mistakes of the user, as the user is told of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# What TensorFlow puts around an operation's own words: where it was made, its names, and the values after them.
_AROUND = re.compile(
    r"^Graph execution error:.*\n(?:  File [^\n]*|<stack traces unavailable>)\n"
    r"|\s*\[\[\{\{.*|\{\{(?:function_)?node .*?\}\} ?|\s*\[Op:.*",
    re.DOTALL,
)
_ASSERTED_TEXT = re.compile(r"\[([^\[\]]*[A-Za-z][^\[\]]*)\]")


class UserError(Exception):
    """A mistake in what was asked for; shown to the user as one message, without a traceback."""


def closest(name: str, known: Sequence[str], what: str) -> UserError:
    """Return the error for an unknown name, suggesting the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")


def operation_message(message: str) -> str:
    """Return what an operation of TensorFlow says in the message of its error, without names of operations.

    Of a failed assertion these are its texts and values: "expected at least 3 pixels, got [2 40]".
    """
    text = _AROUND.sub("", message).strip()
    _, failed, asserted = text.partition("assertion failed: ")
    return _ASSERTED_TEXT.sub(r"\1", asserted) if failed else text
