"""Joints of persons: the limbs between them, files and key points of other detectors, and body parts near limbs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.errors import UserError
from tfthesis.whole_files import write_whole

#: The limbs that join the key points, as OpenPose joins them.
LIMBS = (
    *(("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    *(("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle")),
    *(("neck", "nose"), ("nose", "right_eye"), ("right_eye", "right_ear")),
    *(("nose", "left_eye"), ("left_eye", "left_ear")),
)
#: The 17 key points of COCO's own annotations, as MoveNet and most detectors return them.
COCO_17 = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
#: OpenPose's 25 key points.
BODY_25 = (
    *(*JOINTS[:8], "middle_hip", *JOINTS[8:]),
    *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
)


def joints_from_points(points: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return the 18 joints float32 `[18, 3]` of other key points, such as `COCO_17`.

    Where there is no neck it is the middle of the shoulders, with the smaller of their confidences.

    Args:
        points: float `[K, 3]`, x, y and confidence.
        names: of the K points; those that are no joint are left out.

    Raises:
        UserError: as many points as names are needed.
    """
    points = np.asarray(points, np.float32)
    if points.shape != (len(names), 3):
        raise UserError(f"key points: expected {[len(names), 3]} (x, y and confidence), got {list(points.shape)}")
    place = {name: number for number, name in enumerate(names)}
    joints = np.zeros((len(JOINTS), 3), np.float32)
    for number, name in enumerate(JOINTS):
        if name in place:
            joints[number] = points[place[name]]
    if "neck" not in place:
        shoulders = joints[[JOINTS.index("right_shoulder"), JOINTS.index("left_shoulder")]]
        if (shoulders[:, 2] > 0).all():
            joints[JOINTS.index("neck")] = *shoulders[:, :2].mean(axis=0), shoulders[:, 2].min()
    return joints


def openpose_file(stem: Path) -> Path | None:
    """Return the file of a photo's joints, STEM.json or STEM_keypoints.json as OpenPose names it, if there is one."""
    paths = [stem.with_name(f"{stem.name}{ending}") for ending in (".json", "_keypoints.json")]
    return next((path for path in paths if path.is_file()), None)


def read_openpose(path: Path) -> np.ndarray | None:
    """Return the joints float32 `[18, 3]` of a file as OpenPose writes it, or None where it found no person.

    Key points are those of COCO (18) or BODY_25. Of several persons the one with the largest sum of confidences counts.

    Raises:
        UserError: no such file, or it holds other things.
    """
    try:
        people = json.loads(path.read_text(encoding="utf-8"))["people"]
        found = [np.array(person["pose_keypoints_2d"], np.float32) for person in people]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: expected OpenPose\'s {{"people": [{{"pose_keypoints_2d": [x, y, confidence, ...]}}]}}, got '
            f"{type(error).__name__}: {error}"
        ) from error
    sizes = {3 * len(names): names for names in (JOINTS, BODY_25)}
    for points in found:
        if points.ndim != 1 or len(points) not in sizes or not np.isfinite(points).all():
            raise UserError(
                f"{path}: pose_keypoints_2d: expected x, y and confidence of {len(JOINTS)} joints (COCO) or "
                f"{len(BODY_25)} (BODY_25), {' or '.join(map(str, sizes))} numbers, got {list(points.shape)}"
            )
    if not found:
        return None
    best = max(found, key=lambda points: points[2::3].sum())
    return joints_from_points(best.reshape(-1, 3), sizes[len(best)])


def write_openpose(path: Path, joints: np.ndarray | None) -> None:
    """Write joints `[18, 3]`, or None for a photo without a person, as `read_openpose` reads them.

    The file is whole or absent.
    """
    people = []
    if joints is not None:
        people = [{"pose_keypoints_2d": [round(float(value), 4) for value in np.asarray(joints).ravel()]}]
    write_whole(path, (json.dumps({"version": 1.3, "people": people}) + "\n").encode())


class Limb(NamedTuple):
    """A line between two joints that stands for a part of the body.

    Attributes:
        start, end: names of joints.
        part: of `BODY`.
        radius: half its width, in lengths of the trunk.
        beyond: how far it goes on behind its end, in its own lengths.
    """

    start: str
    end: str
    part: str
    radius: float = 0.0
    beyond: float = 0.0


def _both(start: str, end: str, part: str, radius: float = 0.0, beyond: float = 0.0) -> tuple[Limb, Limb]:
    return tuple(Limb(f"{side}_{start}", f"{side}_{end}", part, radius, beyond) for side in ("right", "left"))


#: Which part bare skin near a limb belongs to.
SKIN_PARTS = (
    *(Limb("nose", "neck", "head"), Limb("right_ear", "left_ear", "head")),
    *(*_both("shoulder", "elbow", "arms"), *_both("elbow", "wrist", "arms", beyond=0.4)),
    *(*_both("hip", "knee", "legs"), *_both("knee", "ankle", "legs", beyond=0.2)),
)
#: What a dressed person wears near a limb: short sleeves and something that ends at the knees (our choice).
DRESSED_PARTS = (
    *(Limb("nose", "neck", "head", 0.15), Limb("right_ear", "left_ear", "head", 0.3)),
    *(Limb("neck", f"{side}_{end}", "upper", 0.2) for side in ("right", "left") for end in ("shoulder", "hip")),
    *(*_both("shoulder", "elbow", "upper", 0.1), *_both("elbow", "wrist", "arms", 0.08, beyond=0.4)),
    *(Limb("right_hip", "left_hip", "lower", 0.1), *_both("hip", "knee", "lower", 0.15)),
    *_both("knee", "ankle", "legs", 0.1, beyond=0.2),
)


def known_limbs(joints: np.ndarray, limbs: Sequence[Limb]) -> list[Limb]:
    """Return the limbs of which both joints `[18, 3]` were found."""
    found = {name for name, confidence in zip(JOINTS, joints[:, 2], strict=True) if confidence > 0}
    return [limb for limb in limbs if {limb.start, limb.end} <= found]


def nearest_parts(mask: np.ndarray, joints: np.ndarray, limbs: Sequence[Limb]) -> np.ndarray:
    """Return labels of `BODY` uint8 `[H, W]`: at True pixels the part of the nearest limb, elsewhere background.

    Distances are those to the surface of a limb: to its line, less its radius. Limbs of which a joint was not found are
    left out.

    Args:
        mask: bool `[H, W]`.
        joints: float `[18, 3]` in pixels of the mask.
        limbs: that may be near.

    Raises:
        UserError: no limb has both its joints.
    """
    place = {name: number for number, name in enumerate(JOINTS)}
    known = known_limbs(joints, limbs)
    if not known:
        raise UserError("nearest_parts: expected joints of a limb or more, got none that was found")
    trunk = _trunk(joints)
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1) + 0.5
    distances = [
        _distances(points, joints[place[limb.start], :2], joints[place[limb.end], :2], limb.beyond)
        - limb.radius * trunk
        for limb in known
    ]
    labels = np.zeros(mask.shape, np.uint8)
    labels[rows, columns] = np.array([BODY.index(limb.part) for limb in known], np.uint8)[np.argmin(distances, axis=0)]
    return labels


def _trunk(joints: np.ndarray) -> float:
    """Return the length of the trunk in pixels; where it was not found half of what was found of the person."""
    neck, *hips = (joints[JOINTS.index(name)] for name in ("neck", "right_hip", "left_hip"))
    hips = [hip[:2] for hip in hips if hip[2] > 0]
    if neck[2] > 0 and hips:
        return float(np.linalg.norm(np.mean(hips, axis=0) - neck[:2]))
    return float(np.ptp(joints[joints[:, 2] > 0, :2], axis=0).max()) / 2


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray, beyond: float) -> np.ndarray:
    line = (end - start) * (1 + beyond)
    length = float(line @ line)
    share = np.clip((points - start) @ line / length, 0, 1) if length else np.zeros(len(points))
    return np.linalg.norm(points - start - share[:, None] * line, axis=1)
