"""What SwapGAN knows of a person beside the photo: pose, body parts, mask and head (Liu 2018, section 8.2.1)."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from tfthesis.data.joints import LIMBS
from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.errors import UserError
from tfthesis.lazy import tf

#: Red, green and blue of each limb: hues at equal distances.
COLOURS = tuple(
    tuple(round(255 * value) for value in colorsys.hsv_to_rgb(number / len(LIMBS), 1, 1))
    for number in range(len(LIMBS))
)
#: Colour of the key points.
POINT = (255, 255, 255)
#: Half the width of a limb and the radius of a key point, in shares of the longer side.
LIMB_WIDTH, POINT_RADIUS = 0.011, 0.013


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
