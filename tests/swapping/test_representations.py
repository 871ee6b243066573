"""Poses, masks and heads."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.joints import LIMBS
from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.data.scenes.dolls import draw_doll, sample_doll
from tfthesis.errors import UserError
from tfthesis.swapping.representations import (
    COLOURS,
    POINT,
    body_mask,
    draw_pose,
    head_mask,
    paste_head,
    scale_joints,
)


def standing(size=64):
    return draw_doll(sample_doll((0, 0, 4)), 0, size).joints


def colours_of(picture):
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} - {(0, 0, 0)}


@pytest.mark.parametrize("number", range(len(LIMBS)))
def test_each_limb_has_a_colour_of_its_own(number):
    joints = np.zeros((18, 3), np.float32)
    first, last = (JOINTS.index(name) for name in LIMBS[number])
    joints[first], joints[last] = (10.5, 20.5, 1), (50.5, 30.5, 0.3)
    picture = draw_pose(joints, 48, 64)
    assert picture.dtype == np.uint8 and picture.shape == (48, 64, 3)
    assert colours_of(picture) == {COLOURS[number], POINT}
    # Along the limb there is no gap, away from it there is nothing.
    middle = picture[25, 30]
    assert tuple(middle) == COLOURS[number] and not picture[:15].any() and not picture[36:].any()
    assert tuple(picture[20, 10]) == tuple(picture[30, 50]) == POINT
    columns = picture[:, 12:49].any(axis=(0, 2))
    assert columns.all()


def test_colours_differ():
    assert len(set(COLOURS)) == 17 and POINT not in COLOURS


def test_what_was_not_found_is_not_drawn():
    joints = standing()
    assert len(colours_of(draw_pose(joints, 64, 64))) > 14
    joints[JOINTS.index("left_elbow"), 2] = 0
    without = colours_of(draw_pose(joints, 64, 64))
    gone = {COLOURS[n] for n, limb in enumerate(LIMBS) if "left_elbow" in limb}
    assert len(gone) == 2 and not gone & without
    assert not draw_pose(np.zeros((18, 3)), 64, 64).any()
    # Joints outside of the picture are cut off, not an error.
    assert draw_pose(joints * (10, 10, 1), 64, 64).shape == (64, 64, 3)
    with pytest.raises(UserError, match=r"expected \[18, 3\] .*got \[17, 3\]"):
        draw_pose(np.zeros((17, 3)), 64, 64)


def test_poses_of_scaled_joints_are_scaled_poses():
    joints = standing(64)
    large = scale_joints(joints, (64, 64), (128, 256))
    np.testing.assert_allclose(large, joints * (4, 2, 1))
    both = scale_joints(np.stack([joints, joints]), (64, 64), (128, 256))
    np.testing.assert_array_equal(both[1], large)
    small = draw_pose(joints, 64, 64).any(axis=-1)
    again = draw_pose(scale_joints(joints, (64, 64), (256, 256)), 256, 256).any(axis=-1)[2::4, 2::4]
    # A limb is as wide at any size, but for what a pixel takes at least.
    assert (small & again).sum() > 0.9 * again.sum()


def test_masks():
    segments = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(body_mask(segments), [[False, True, True], [True, True, True]])
    np.testing.assert_array_equal(head_mask(segments), segments == BODY.index("head"))
    np.testing.assert_array_equal(body_mask(tf.constant(segments)), body_mask(segments))
    np.testing.assert_array_equal(head_mask(tf.constant(segments)), head_mask(segments))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_heads_are_pasted_alike_by_numpy_and_tensorflow(kind):
    generator = np.random.default_rng(0)
    image, reference = generator.integers(0, 255, (2, 3, 4, 5, 3)).astype(kind)
    head = generator.integers(0, 2, (3, 4, 5)).astype(bool)
    pasted = paste_head(image, reference, head)
    assert pasted.dtype == kind
    np.testing.assert_array_equal(pasted[head], reference[head])
    np.testing.assert_array_equal(pasted[~head], image[~head])
    graph = tf.function(paste_head)(tf.constant(image), tf.constant(reference), tf.constant(head))
    np.testing.assert_array_equal(graph, pasted)
