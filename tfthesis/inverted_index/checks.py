"""What is given as arrays and names, checked before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfthesis.errors import UserError


def shapes_of(parts: Any, what: str) -> list[tuple[int, ...]]:
    """Return the shape of each of several arrays of numbers; None is none.

    Raises:
        UserError: they are no arrays of real numbers.
    """
    try:
        arrays = [np.asarray(part) for part in (() if parts is None else parts)]
    except (TypeError, ValueError) as error:
        got = f"{type(parts).__name__}: {error}"
        raise UserError(f"{what}: expected arrays of numbers, one for each axis, got {got}") from error
    for array in arrays:
        _check_kind(array, what)
    return [array.shape for array in arrays]


def as_float32(values: Any, what: str) -> np.ndarray:
    """Return numbers as a contiguous float32 array.

    Raises:
        UserError: they are none, or some of them are NaN or infinite.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UserError(f"{what}: expected an array of numbers, got {type(values).__name__}: {error}") from error
    _check_kind(array, what)
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{what}: expected finite numbers, got NaN or infinity")
    return array


def as_names(names: Iterable[str], what: str) -> Sequence[str]:
    """Return names as a sequence.

    Raises:
        UserError: they are one text, whose letters would be taken for names, something that is no text, or empty, as
            the name where an answer has no image.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise UserError(f"{what}: expected a sequence of names, got the single {names!r}; put it into a list")
    names = list(names)
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{what}: expected text, got {type(name).__name__} {name!r}")
        if not name:
            raise UserError(f"{what}: expected text that is not empty, which means no image in answers, got {name!r}")
    return names


def each(values: Iterable[Any], kinds: tuple[type, ...], what: str) -> Iterator[Any]:
    """Yield values that are all of one of `kinds`.

    Raises:
        UserError: they are a single one, whose own parts would be taken for values, or one is of another kind.
    """
    names = " or ".join(kind.__name__ for kind in kinds)
    if isinstance(values, kinds) or not isinstance(values, Iterable):
        got = type(values).__name__
        raise UserError(f"{what}: expected a sequence of {names}, got a single {got}; put it into a list")
    for value in values:
        if not isinstance(value, kinds):
            raise UserError(f"{what}: expected a sequence of {names}, got {type(value).__name__} among them")
        yield value


def _check_kind(array: np.ndarray, what: str) -> None:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what}: expected real numbers, got an array of {array.dtype}")
