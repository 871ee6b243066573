"""What SwapGAN knows of a person beside the photo: pose, body parts, mask and head (Liu 2018, section 8.2.1)."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.errors import UserError
from tfthesis.lazy import tf

#: The limbs that join the key points, as OpenPose joins them.
LIMBS = (
    *(("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    *(("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle")),
    *(("neck", "nose"), ("nose", "right_eye"), ("right_eye", "right_ear")),
    *(("nose", "left_eye"), ("left_eye", "left_ear")),
)
#: Red, green and blue of each limb: hues at equal distances.
COLOURS = tuple(
    tuple(round(255 * value) for value in colorsys.hsv_to_rgb(number / len(LIMBS), 1, 1))
    for number in range(len(LIMBS))
)
#: Colour of the key points.
POINT = (255, 255, 255)
#: Half the width of a limb and the radius of a key point, in shares of the longer side.
LIMB_WIDTH, POINT_RADIUS = 0.011, 0.013
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


def draw_pose(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pose map uint8 `[height, width, 3]`: key points joined by limbs, each limb in a colour of its own.

    Where limbs cross, the later one of `LIMBS` lies over the others, and key points lie over limbs. What was not found
    (confidence 0) is left out with its limbs.

    Args:
        joints: float `[18, 3]` in pixels of that size; see `tfthesis.data.person_images.People`.
        height, width: of the map.

    Raises:
        UserError: joints of another shape.
    """
    joints = _checked(joints)
    canvas = np.zeros((height, width, 3), np.uint8)
    side, found = max(height, width), joints[:, 2] > 0
    for (start, end), colour in zip(LIMBS, COLOURS, strict=True):
        first, last = JOINTS.index(start), JOINTS.index(end)
        if found[first] and found[last]:
            _stroke(canvas, joints[first, :2], joints[last, :2], LIMB_WIDTH * side, colour)
    for point in joints[found, :2]:
        _stroke(canvas, point, point, POINT_RADIUS * side, POINT)
    return canvas


def _stroke(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    """Colour the pixels whose middles are at most `radius` away from a line."""
    # A pixel's middle is at most .71 away from the line that passes through it.
    radius = max(radius, 0.71)
    low = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(start, end) + radius), canvas.shape[1::-1]).astype(int)
    if (low >= high).any():
        return
    x, y = np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1])[:, None] + 0.5
    (dx, dy), length = end - start, float(np.sum((end - start) ** 2))
    share = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length, 0, 1) if length else np.zeros(1)
    near = (x - start[0] - share * dx) ** 2 + (y - start[1] - share * dy) ** 2 <= radius**2
    canvas[low[1] : high[1], low[0] : high[0]][near] = colour


def scale_joints(joints: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Return joints `[..., 18, 3]` of an image of height and width `old` in pixels of the image scaled to `new`."""
    factors = np.array([new[1] / old[1], new[0] / old[0], 1], np.float32)
    return np.asarray(joints, np.float32) * factors


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


def body_mask(segments: Any) -> Any:
    """Return the mask map: bool, True on the person, of labels of `BODY` (an array or a tensor of any shape)."""
    return segments > 0


def head_mask(segments: Any) -> Any:
    """Return bool, True on head and hair, of labels of `BODY` (an array or a tensor of any shape)."""
    return segments == BODY.index("head")


def paste_head(image: Any, reference: Any, head: Any) -> Any:
    """Return `image` with the head of `reference`, which keeps the identity of its person (Liu 2018, section 8.2.1).

    Args:
        image, reference: arrays or tensors `[..., H, W, 3]` of one type.
        head: bool `[..., H, W]`, from `head_mask` of the reference's segmentation.
    """
    where = np.where if all(isinstance(value, np.ndarray) for value in (image, reference, head)) else tf.where
    return where(head[..., None], reference, image)


def _checked(joints: np.ndarray) -> np.ndarray:
    joints = np.asarray(joints, np.float32)
    if joints.shape != (len(JOINTS), 3):
        raise UserError(f"joints: expected {[len(JOINTS), 3]} (x, y and confidence), got {list(joints.shape)}")
    return joints
