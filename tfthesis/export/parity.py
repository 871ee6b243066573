"""Whether an export answers like the functions it was made from."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image

from tfthesis.export.session import open_session

TOLERANCE = 1e-4
#: What the name of an output of image files ends with, and the one whose values are class numbers.
PICTURES, NUMBERS = "_bytes", "map_bytes"

Arrays = Mapping[str, np.ndarray]


class ParityError(RuntimeError):
    """A saved function answers something else than the one it was made from."""


def difference(expected: Arrays, found: Arrays) -> str | None:
    """Return in words how two sets of outputs differ, or None.

    Floats may differ by `TOLERANCE`, absolute or relative, and have to be numbers; the pixels of image files (outputs
    whose name ends with `PICTURES`, but for `NUMBERS`) by one of 255, since a rounding may fall either way; all else
    has to be equal.
    """
    if set(expected) != set(found):
        return f"outputs {sorted(found)} instead of {sorted(expected)}"
    for name in sorted(expected):
        mine, theirs = np.asarray(expected[name]), np.asarray(found[name])
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return f"{name} is {theirs.dtype}{list(theirs.shape)} instead of {mine.dtype}{list(mine.shape)}"
        if mine.dtype.kind not in "fcV":
            pairs = zip(mine.ravel(), theirs.ravel(), strict=True)
            if name.endswith(PICTURES) and name != NUMBERS and all(_same_picture(*pair) for pair in pairs):
                continue
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


def _same_picture(mine: bytes, theirs: bytes) -> bool:
    """Return whether two image files show the same but for roundings."""
    if mine == theirs:
        return True
    try:
        first, second = (np.array(PIL.Image.open(io.BytesIO(data))).astype(np.int32) for data in (mine, theirs))
    except OSError:  # PIL's word for bytes that are no image
        return False
    return first.shape == second.shape and np.abs(first - second).max() <= 1


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
