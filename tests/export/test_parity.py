"""What counts as the same answer."""

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.export.parity import difference

ONE = np.array([[1.0, -2.0]], np.float32)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ONE, ONE + np.float32(9e-5)),
        (1e6 * ONE, 1e6 * ONE + 90),
        (ONE * np.inf, ONE * np.inf),
        (np.array([b"a", b"\0"], object), np.array([b"a", b"\0"], object)),
        (np.array([2**60]), np.array([2**60])),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)),
        (ONE.astype(tf.bfloat16.as_numpy_dtype), ONE.astype(tf.bfloat16.as_numpy_dtype)),
    ],
)
def test_same(mine, theirs):
    assert difference({"y": mine}, {"y": theirs}) is None


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        (ONE, ONE + np.float32(4e-4), "y differs by up to 0.0004"),
        (ONE, ONE * np.nan, "NaN for its own example"),
        (ONE * np.nan, ONE * np.nan, "NaN for its own example"),
        (ONE * np.inf, -ONE * np.inf, "y differs"),
        (ONE, ONE[0], "float32[2] instead of float32[1, 2]"),
        (ONE, ONE.astype(np.float64), "float64"),
        (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), "differs in 1 of 2 values"),
        (np.array([2**60]), np.array([2**60 + 1]), "differs in 1 of 1 values"),
        (np.array([True]), np.array([False]), "differs in 1 of 1 values"),
    ],
)
def test_different(mine, theirs, words):
    with np.errstate(invalid="ignore"):
        assert words in difference({"y": mine}, {"y": theirs})


def test_other_outputs():
    assert difference({"y": ONE}, {"z": ONE}) == "outputs ['z'] instead of ['y']"
