"""Swaps without learning: splines beside tensorflow-addons, Poisson's equation on cases with known solutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.data.scenes.dolls import draw_doll, sample_doll
from tfthesis.errors import UserError
from tfthesis.swapping.baselines import (
    BASELINES,
    DRESSED,
    Person,
    clothes_mask,
    poisson_blend,
    poisson_blending,
    thin_plate_spline,
    thin_plate_warp,
    tps_warping,
)

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "thin_plate_spline.npz"


def test_warp_is_that_of_tensorflow_addons():
    with np.load(GOLDEN) as golden:
        assert str(golden["addons"]) == "0.23.0"
        # Addons counts pixels from the middle of the first one, and gives rows first.
        start, end = (golden[name][:, ::-1] + 0.5 for name in ("start", "end"))
        warped = thin_plate_warp(golden["image"], start, end)
        np.testing.assert_allclose(warped, golden["warped"], atol=2e-4)
        moved = thin_plate_spline(golden["start"], golden["end"], golden["places"])
        np.testing.assert_allclose(moved, golden["moved"], atol=1e-4)


def test_warp_moves_points_exactly_and_keeps_affine_maps():
    image = np.random.default_rng(0).uniform(0, 1, (9, 9, 2))
    source = np.array([[1.5, 1.5], [7.5, 1.5], [1.5, 7.5], [7.5, 7.5], [4.5, 5.5]])
    np.testing.assert_allclose(thin_plate_warp(image, source, source), image, atol=1e-9)
    moved = thin_plate_warp(image, source, source + np.array([1, 2]))
    np.testing.assert_allclose(moved[2:, 1:], image[:-2, :-1], atol=1e-9)
    bent = source + np.array([[0, 0], [0, 0], [0, 0], [0, 0], [1, -1]])
    warped = thin_plate_warp(image, source, bent)
    np.testing.assert_allclose(warped[4, 5], image[5, 4], atol=1e-9)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), r"as many targets, got \[4, 2\] and \[3, 2\]"),
        (np.eye(2), np.eye(2), "three points"),
        (np.eye(3, 2) * 5, np.array([[1, 1], [2, 2], [3, 3]]), "points that differ and do not lie on one line"),
        (np.eye(3, 2) * 5, np.array([[1, 1], [1, 1], [3, 4]]), "that differ"),
    ],
)
def test_warp_refuses(source, target, message):
    with pytest.raises(UserError, match=message):
        thin_plate_warp(np.zeros((4, 4, 1)), source, target)


def test_poisson_keeps_gradients_up_to_a_constant():
    generator = np.random.default_rng(0)
    target = generator.uniform(0, 255, (12, 10, 3))
    region = np.zeros((12, 10), bool)
    region[3:8, 2:7] = region[0:2, 8:] = True  # a second piece, in a corner of the image
    np.testing.assert_allclose(poisson_blend(target + np.array([40, -7, 100]), target, region), target, atol=1e-8)
    np.testing.assert_array_equal(poisson_blend(target * 0, target, np.zeros((12, 10), bool)), target)


def test_poisson_without_gradients_is_harmonic():
    rows, columns = np.mgrid[:9, :9].astype(float)
    # Both are harmonic on a grid: x, and x^2 - y^2, whose differences cancel.
    target = np.stack([columns, rows**2 - columns**2], axis=-1)
    region = np.hypot(rows - 4, columns - 4) < 3.5
    found = poisson_blend(np.full_like(target, 17), np.where(region[..., None], 0, target), region)
    np.testing.assert_allclose(found, target, atol=1e-10)


def test_poisson_solves_what_jacobi_finds():
    generator = np.random.default_rng(1)
    source, target = generator.uniform(0, 255, (2, 6, 7, 1))
    region = generator.uniform(size=(6, 7)) < 0.5
    found = np.where(region[..., None], source, target)
    for _ in range(3000):
        total, count = np.zeros_like(found), np.zeros((6, 7, 1))
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            valid = np.ones((6, 7, 1))
            border = [slice(None)] * 2
            border[axis] = 0 if step == 1 else -1
            valid[tuple(border)] = 0
            total += valid * (np.roll(found, step, axis) + source - np.roll(source, step, axis))
            count += valid
        found = np.where(region[..., None], total / count, target)
    np.testing.assert_allclose(poisson_blend(source, target, region), found, atol=1e-6)


def test_poisson_refuses():
    image = np.zeros((3, 4, 3))
    with pytest.raises(UserError, match="a pixel outside of the region"):
        poisson_blend(image, image, np.ones((3, 4), bool))
    with pytest.raises(UserError, match=r"a region of their size, got \[3, 4, 3\], \[3, 4, 3\] and \[4, 4\]"):
        poisson_blend(image, image, np.zeros((4, 4), bool))


def person(number, pose=0, size=48):
    drawn = draw_doll(sample_doll((0, 0, number)), pose, size)
    return Person(drawn.image, drawn.joints, drawn.segments, drawn.segments > 0, drawn.segments == BODY.index("head"))


def test_baselines_change_nothing_in_ones_own_clothes():
    one = person(3)
    np.testing.assert_array_equal(tps_warping(one, one), one.image)
    # Its own gradients and its own colours around: nothing else solves the equation.
    np.testing.assert_array_equal(poisson_blending(one, one), one.image)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_dress_the_reference(name):
    condition, reference = person(1), person(6)
    result = BASELINES[name](condition, reference)
    assert result.dtype == np.uint8 and result.shape == reference.image.shape
    head = reference.segments == BODY.index("head")
    np.testing.assert_array_equal(result[head], reference.image[head])
    worn = clothes_mask(reference.segments)
    changed = (result != reference.image).any(axis=-1)
    assert changed[worn].mean() > 0.4 and changed[~worn].mean() < 0.15


def test_warped_clothes_have_the_colours_of_the_condition():
    # The trunk is rigid enough that the middle of the upper clothes lands on that of the reference.
    condition, reference = person(1), person(6)
    result = tps_warping(condition, reference)

    def middle(one):
        names = ("neck", "right_hip", "left_hip")
        return np.mean([one.joints[JOINTS.index(name), :2] for name in names], axis=0).astype(int)

    (x, y), (u, v) = middle(reference), middle(condition)
    near = condition.image[v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3).astype(int)
    assert np.abs(near - result[y, x]).max(axis=-1).min() < 30
    assert np.abs(reference.image[y, x].astype(int) - result[y, x]).max() > 30


def test_baselines_without_joints_or_clothes():
    condition, reference = person(1), person(6)
    none = np.zeros((18, 3), np.float32)
    by_box = tps_warping(condition._replace(joints=none), reference)
    assert (by_box != reference.image).any()
    on_a_line = none.copy()
    on_a_line[DRESSED[0] : DRESSED[0] + 5] = [[10, 10 + n, 1] for n in range(5)]
    np.testing.assert_array_equal(tps_warping(condition._replace(joints=on_a_line), reference), by_box)
    bare = np.where(clothes_mask(condition.segments), 0, condition.segments)
    for baseline in BASELINES.values():
        np.testing.assert_array_equal(baseline(condition._replace(segments=bare), reference), reference.image)
        nothing = np.zeros_like(reference.segments)
        for unknown in ({"segments": nothing}, {"segments": nothing, "mask": nothing > 0}):
            assert baseline(condition, reference._replace(**unknown)).shape == reference.image.shape
        # Clothes do not cover what is told to be the head, wherever it is.
        all_head = baseline(condition, reference._replace(head=np.ones_like(reference.head)))
        np.testing.assert_array_equal(all_head, reference.image)
        with pytest.raises(UserError, match=r"one size, got \[48, 48, 3\] and \[32, 32, 3\]"):
            baseline(condition, person(6, size=32))


def test_joints_of_the_face_do_not_pull():
    assert JOINTS[DRESSED[0]] == "neck" and len(DRESSED) == 13
