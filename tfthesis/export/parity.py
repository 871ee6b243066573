"""Whether an export answers like the functions it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfthesis.export.session import open_session

TOLERANCE = 1e-4

Arrays = Mapping[str, np.ndarray]


class ParityError(RuntimeError):
    """A saved function answers something else than the one it was made from."""


def difference(expected: Arrays, found: Arrays) -> str | None:
    """Return in words how two sets of outputs differ, or None.

    Floats may differ by `TOLERANCE`, absolute or relative, and have to be numbers; all else has to be equal.
    """
    if set(expected) != set(found):
        return f"outputs {sorted(found)} instead of {sorted(expected)}"
    for name in sorted(expected):
        mine, theirs = np.asarray(expected[name]), np.asarray(found[name])
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return f"{name} is {theirs.dtype}{list(theirs.shape)} instead of {mine.dtype}{list(mine.shape)}"
        if mine.dtype.kind not in "fcV":
            if not np.array_equal(mine, theirs):
                return f"{name} differs in {np.count_nonzero(mine != theirs)} of {mine.size} values"
            continue
        # Extension types such as bfloat16 have kind V; complex128 holds all of them.
        wide, wide_found = mine.astype(np.complex128), theirs.astype(np.complex128)
        if np.isnan(wide).any() or np.isnan(wide_found).any():
            return f"{name} holds NaN for its own example"
        if not np.allclose(wide_found, wide, rtol=TOLERANCE, atol=TOLERANCE):
            apart = wide != wide_found
            return f"{name} differs by up to {np.abs(wide_found[apart] - wide[apart]).max():.3g}"
    return None


def compare_reloaded(folder: Path, examples: Mapping[str, Arrays], expected: Mapping[str, Arrays]) -> None:
    """Load the SavedModel in `folder` in a Session and compare its answers to `examples`, by signature.

    Raises:
        ParityError: an answer differs from `expected`; the message names signature and output.
    """
    with open_session(folder) as model:
        for name, inputs in examples.items():
            found = difference(expected[name], model.callable(name)(inputs))
            if found is not None:
                raise ParityError(f"signature {name!r} answers differently after reloading: {found}")
