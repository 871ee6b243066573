"""Variables as arrays and back, bit for bit, whatever strategy made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfthesis.errors import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def copies(variable: keras.Variable) -> tuple[tf.Variable, ...]:
    """Return the variable's copies on the devices of this process."""
    return tuple(getattr(variable.value, "values", None) or (variable.value,))


def read(variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Return the values by position; of equal copies the first is read."""
    return {f"{i:05d}": copies(variable)[0].numpy() for i, variable in enumerate(variables)}


def write(variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], what: str) -> None:
    """Set variables, and every copy of them, to the arrays of `read`.

    Raises:
        UserError: number or shape of the variables is another one; `what` names them.
    """
    if len(variables) != len(arrays):
        raise UserError(
            f"{what}: {len(arrays)} variables were saved, the model now has {len(variables)}; "
            "resume with the recipe of the run, or start another run directory"
        )
    for variable, (_, array) in zip(variables, sorted(arrays.items()), strict=True):
        if tuple(variable.shape) != array.shape:
            raise UserError(
                f"{what}: {variable.path} has shape {tuple(variable.shape)}, saved was {array.shape}; "
                "resume with the recipe of the run, or start another run directory"
            )
        for copy in copies(variable):
            copy.assign(array)


def finite(groups: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Return whether no array holds NaN or an infinity."""
    return all(np.isfinite(array).all() for arrays in groups.values() for array in arrays.values())


def read_partial(variables: Iterable[keras.Variable]) -> np.ndarray:
    """Return the values of metric variables, which differ from copy to copy: `[copies, numbers]` float64."""
    parts = [[copy.numpy().astype(np.float64).ravel() for copy in copies(variable)] for variable in variables]
    return np.stack([np.concatenate(copy) for copy in zip(*parts, strict=True)]) if parts else np.zeros([1, 0])


def write_partial(variables: Sequence[keras.Variable], saved: np.ndarray, first: int, total: int) -> None:
    """Set metric variables from the rows of `read_partial` of all processes.

    Args:
        variables: the metrics' variables.
        saved: `[copies that were saved, numbers]`.
        first: which of all copies is the first of this process.
        total: copies of all processes; if there were others, the first takes the sum.

    Raises:
        UserError: the model has other metrics now.
    """
    size = sum(int(np.prod(variable.shape)) for variable in variables)
    if saved.shape[1] != size:
        raise UserError(
            f"metrics: {saved.shape[1]} numbers were saved, the model now has {size}; resume with the loss "
            "parts of the run, or start another run directory"
        )
    if len(saved) != total:
        saved = np.concatenate([saved.sum(0, keepdims=True), np.zeros([total - 1, saved.shape[1]])])
    start = 0
    for variable in variables:
        end = start + int(np.prod(variable.shape))
        for i, copy in enumerate(copies(variable)):
            numbers = saved[first + i, start:end].reshape(variable.shape)
            copy.assign(numbers.astype(copy.dtype.as_numpy_dtype))
        start = end
