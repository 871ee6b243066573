"""Joints: key points of other detectors, files of OpenPose, and the parts near limbs."""

from __future__ import annotations

import numpy as np
import pytest

from tfthesis.data.joints import (
    BODY_25,
    COCO_17,
    DRESSED_PARTS,
    LIMBS,
    SKIN_PARTS,
    Limb,
    joints_from_points,
    known_limbs,
    nearest_parts,
    read_openpose,
    write_openpose,
)
from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.data.scenes.dolls import draw_doll, sample_doll
from tfthesis.errors import UserError


def test_orders_of_key_points():
    # What OpenPose's documentation numbers 0, 1, 2, 5, 8, 11 and 14 to 17, and 8 and 9 of BODY_25.
    assert [JOINTS[n] for n in (0, 1, 2, 5, 8, 11)] == [
        *("nose", "neck", "right_shoulder", "left_shoulder", "right_hip", "left_hip"),
    ]
    assert JOINTS[14:] == ("right_eye", "left_eye", "right_ear", "left_ear")
    assert len(BODY_25) == 25 and BODY_25[8:10] == ("middle_hip", "right_hip") and BODY_25[15] == "right_eye"
    assert len(COCO_17) == 17 and set(JOINTS) - set(COCO_17) == {"neck"}
    assert len(LIMBS) == 17 and {name for limb in LIMBS for name in limb} == set(JOINTS)


def test_neck_is_the_middle_of_the_shoulders():
    points = np.random.default_rng(0).uniform(1, 9, (17, 3)).astype(np.float32)
    joints = joints_from_points(points, COCO_17)
    left, right = points[COCO_17.index("left_shoulder")], points[COCO_17.index("right_shoulder")]
    np.testing.assert_allclose(joints[1], [*(left + right)[:2] / 2, min(left[2], right[2])], rtol=1e-6)
    np.testing.assert_array_equal(joints[JOINTS.index("left_knee")], points[13])
    points[COCO_17.index("left_shoulder"), 2] = 0
    assert joints_from_points(points, COCO_17)[1, 2] == 0
    with pytest.raises(UserError, match=r"expected \[17, 3\] .*, got \[18, 3\]"):
        joints_from_points(np.zeros((18, 3)), COCO_17)


def test_openpose_files_come_back(tmp_path):
    joints = np.random.default_rng(0).uniform(0, 100, (18, 3)).astype(np.float32)
    write_openpose(tmp_path / "a.json", joints)
    np.testing.assert_allclose(read_openpose(tmp_path / "a.json"), joints, atol=1e-4)
    write_openpose(tmp_path / "b.json", None)
    assert read_openpose(tmp_path / "b.json") is None
    with pytest.raises(UserError, match="FileNotFoundError"):
        read_openpose(tmp_path / "c.json")


def joints_at(**places):
    joints = np.zeros((18, 3), np.float32)
    for name, (x, y) in places.items():
        joints[JOINTS.index(name)] = x, y, 1
    return joints


def test_pixels_have_the_part_of_the_nearest_limb():
    joints = joints_at(right_elbow=(2, 2), right_wrist=(2, 6), right_hip=(8, 2), right_knee=(8, 6))
    limbs = [Limb("right_elbow", "right_wrist", "arms"), Limb("right_hip", "right_knee", "legs")]
    mask = np.ones((10, 10), bool)
    mask[0] = False
    found = nearest_parts(mask, joints, limbs)
    assert not found[0].any()
    assert (found[1:, :5] == BODY.index("arms")).all() and (found[1:, 5:] == BODY.index("legs")).all()
    # A thicker limb reaches further: distances are those to its surface.
    wide = nearest_parts(mask, joints, [limbs[0]._replace(radius=0.5), limbs[1]])
    assert (wide[5] == BODY.index("arms")).sum() == 6
    # Behind its end a limb may go on: the hand.
    short = joints_at(right_elbow=(1, 5), right_wrist=(3, 5), right_hip=(9, 5), right_knee=(9, 6))
    plain = (nearest_parts(mask, short, limbs)[5] == BODY.index("arms")).sum()
    assert (
        nearest_parts(mask, short, [limbs[0]._replace(beyond=1.0), limbs[1]])[5] == BODY.index("arms")
    ).sum() > plain


def test_limbs_that_were_not_found_are_left_out():
    joints = joints_at(right_elbow=(2, 2), right_wrist=(2, 6), right_hip=(8, 2))
    assert [limb.part for limb in known_limbs(joints, SKIN_PARTS)] == ["arms"]
    assert set(np.unique(nearest_parts(np.ones((9, 9), bool), joints, SKIN_PARTS))) == {BODY.index("arms")}
    with pytest.raises(UserError, match="expected joints of a limb or more"):
        nearest_parts(np.ones((9, 9), bool), joints_at(nose=(1, 1)), SKIN_PARTS)


def test_parts_of_drawn_persons_are_found_again():
    shares, skin = [], []
    for number in range(40):
        doll = sample_doll((0, 3, number))
        drawn = draw_doll(doll, 0, 64)
        if (doll.sleeves, doll.lower) == ("short", "shorts"):
            # Dressed as the table says.
            found = nearest_parts(drawn.segments > 0, drawn.joints, DRESSED_PARTS)
            shares.append((found == drawn.segments)[drawn.segments > 0].mean())
        bare = np.isin(drawn.segments, [BODY.index(part) for part in ("head", "arms", "legs")])
        skin.append((nearest_parts(bare, drawn.joints, SKIN_PARTS) == drawn.segments)[bare].mean())
    assert len(shares) > 2 and np.mean(shares) > 0.75
    assert np.mean(skin) > 0.9
