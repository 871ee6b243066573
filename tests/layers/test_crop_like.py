"""Cropping of one map to the size of another."""

import keras
import numpy as np
import pytest

from tfthesis.layers import CropLike


def test_the_part_from_the_offset_on():
    large = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3)
    like = np.zeros((2, 3, 4, 1), np.float32)
    np.testing.assert_array_equal(CropLike(2)([large, like]), large[:, 2:5, 2:6])
    np.testing.assert_array_equal(CropLike()([large, like]), large[:, :3, :4])


def test_unknown_sizes_and_saving(tmp_path):
    large, like = keras.Input((None, None, 2)), keras.Input((None, None, 1))
    model = keras.Model([large, like], CropLike(1)([large, like]))
    assert model.output_shape == (None, None, None, 2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    values = np.random.default_rng(0).normal(size=(1, 5, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(again([values, np.zeros((1, 4, 2, 1))]), values[:, 1:5, 1:3])


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        CropLike(-1)
    with pytest.raises(ValueError, match=r"cannot cut \(None, 3, 4, 1\) out of \(None, 4, 4, 2\) at 2"):
        CropLike(2).compute_output_shape([(None, 4, 4, 2), (None, 3, 4, 1)])
