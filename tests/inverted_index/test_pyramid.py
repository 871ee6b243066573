"""Patches of the spatial pyramid."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.inverted_index.pyramid import cut_patches, patches_an_image, pyramid_boxes


def test_the_thesis_has_14_patches():
    assert patches_an_image() == 14
    assert len(pyramid_boxes(60, 60)) == 14


def test_boxes_level_by_level_and_row_by_row():
    assert pyramid_boxes(6, 12) == [
        (0, 0, 6, 12),
        (0, 0, 3, 6), (0, 6, 3, 12), (3, 0, 6, 6), (3, 6, 6, 12),
        (0, 0, 2, 4), (0, 4, 2, 8), (0, 8, 2, 12),
        (2, 0, 4, 4), (2, 4, 4, 8), (2, 8, 4, 12),
        (4, 0, 6, 4), (4, 4, 6, 8), (4, 8, 6, 12),
    ]  # fmt: skip


@hypothesis.given(st.integers(4, 40), st.integers(4, 40), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_each_level_covers_every_pixel_once(height, width, levels):
    boxes = pyramid_boxes(height, width, levels)
    assert len(boxes) == patches_an_image(levels)
    for parts in levels:
        covered = np.zeros((height, width), int)
        mine, boxes = boxes[: parts**2], boxes[parts**2 :]
        for top, left, bottom, right in mine:
            assert bottom - top in (height // parts, -(-height // parts))
            assert right - left in (width // parts, -(-width // parts))
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()


def test_patches_are_the_parts_of_the_image():
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
    patches = cut_patches(tf.constant(images), 4).numpy()
    assert (patches.shape, patches.dtype) == ((2, 14, 4, 4, 3), np.float32)
    # Parts of the third level have the size asked for and are copied; the others shrink.
    np.testing.assert_allclose(patches[:, 5 + 3 * 1 + 2], images[:, 4:8, 8:12], atol=1e-4)
    half = tf.image.resize(images[:, 6:, :6], [4, 4], antialias=True)
    np.testing.assert_allclose(patches[:, 3], half, atol=1e-4)


def test_sizes_that_are_known_only_when_it_runs():
    images = np.random.default_rng(0).random((2, 13, 17, 1)).astype(np.float32)
    cut = tf.function(lambda images: cut_patches(images, 5), [tf.TensorSpec([None, None, None, 1])])
    np.testing.assert_allclose(cut(images), cut_patches(tf.constant(images), 5), atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at least 3 pixels along each side, got\] \[2\]"):
        cut(images[:, :2])


@pytest.mark.parametrize("shape", [(2, 9), (9, 2)])
def test_images_that_are_too_small_are_refused(shape):
    with pytest.raises(UserError, match="expected at least 3 pixels to part, got 2"):
        pyramid_boxes(*shape)
    with pytest.raises(UserError, match="expected at least 3 pixels to part, got 2"):
        cut_patches(tf.zeros([1, *shape, 3]), 4)


@pytest.mark.parametrize("levels", [(), (0,), (1.0,), (True,), (2, -1)])
def test_levels_are_positive_whole_numbers(levels):
    with pytest.raises(UserError, match="levels of the pyramid: expected positive whole numbers"):
        pyramid_boxes(9, 9, levels)


def test_images_come_in_batches():
    with pytest.raises(UserError, match=r"expected shape \[batch, height, width, channels\]"):
        cut_patches(tf.zeros([9, 9, 3]), 4)
