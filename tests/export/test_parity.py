"""What counts as the same answer."""

import io

import numpy as np
import PIL.Image
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


def picture(*values):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.array([values], np.uint8)).save(buffer, "PNG")
    return np.array([buffer.getvalue()], object)


def test_pictures_may_differ_by_a_rounding():
    mine = picture(7, 250, 30)
    for theirs, same in ((picture(8, 250, 29), True), (picture(9, 250, 30), False), (picture(7, 250), False)):
        assert (difference({"drawn_bytes": mine}, {"drawn_bytes": theirs}) is None) == same
    # Numbers of classes, texts, and bytes that are no picture have to be equal.
    assert "differs in 1 of 1 values" in difference({"map_bytes": mine}, {"map_bytes": picture(8, 250, 29)})
    assert "differs in 1 of 1 values" in difference({"text": mine}, {"text": picture(8, 250, 29)})
    assert "differs in 1 of 1 values" in difference({"drawn_bytes": mine}, {"drawn_bytes": np.array([b"x"], object)})


def test_other_outputs():
    assert difference({"y": ONE}, {"z": ONE}) == "outputs ['z'] instead of ['y']"
