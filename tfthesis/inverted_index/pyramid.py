"""The spatial pyramid: an image in parts of 1, 4 and 9 that do not overlap (Liu 2018, section 4.2.1, Fig 4.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfthesis.assertions import after
from tfthesis.errors import UserError
from tfthesis.lazy import tf

if TYPE_CHECKING:
    Size = int | tf.Tensor

#: Parts along either side, level by level.
LEVELS = (1, 2, 3)


def patches_an_image(levels: Sequence[int] = LEVELS) -> int:
    """Return the number of patches: 14 for three levels."""
    return sum(parts * parts for parts in levels)


def pyramid_boxes(height: Size, width: Size, levels: Sequence[int] = LEVELS) -> list[tuple[Size, Size, Size, Size]]:
    """Return `(top, left, bottom, right)` of every patch in pixels, level by level and row by row.

    Bottom and right are the first pixels outside. The patches of a level cover every pixel exactly once and differ by
    at most one pixel in height and in width.

    Args:
        height, width: of the image, numbers or scalar tensors.

    Raises:
        UserError: a level is not a positive whole number, or an image has fewer pixels along a side than a level parts.
    """
    if not levels or any(not isinstance(parts, int) or isinstance(parts, bool) or parts < 1 for parts in levels):
        raise UserError(f"levels of the pyramid: expected positive whole numbers such as {LEVELS}, got {levels!r}")
    for name, side in (("height", height), ("width", width)):
        if isinstance(side, int) and side < max(levels):
            raise UserError(f"{name} of an image: expected at least {max(levels)} pixels to part, got {side}")
    boxes = []
    for parts in levels:
        rows, columns = ([side * part // parts for part in range(parts + 1)] for side in (height, width))
        boxes += [
            (top, left, bottom, right)
            for top, bottom in itertools.pairwise(rows)
            for left, right in itertools.pairwise(columns)
        ]
    return boxes


def cut_patches(images: tf.Tensor, size: int, levels: Sequence[int] = LEVELS) -> tf.Tensor:
    """Return the patches of images `[B, H, W, C]`, each scaled to `size` x `size`, as float32 `[B, P, size, size, C]`.

    Patches are scaled bilinearly, smoothed where they shrink; their sides are not kept alike, since the input of a
    network is a square.

    Raises:
        UserError: as `pyramid_boxes`, or `images` has another rank.
        tf.errors.InvalidArgumentError: sides that are unknown before it runs are too short.
    """
    if images.shape.rank != 4:
        raise UserError(f"images: expected shape [batch, height, width, channels], got {images.shape}")
    height, width = (_side(images, axis, max(levels, default=1)) for axis in (1, 2))
    patches = [
        tf.image.resize(images[:, top:bottom, left:right], [size, size], antialias=True)
        for top, left, bottom, right in pyramid_boxes(height, width, levels)
    ]
    return tf.stack(patches, axis=1)


def _side(images: tf.Tensor, axis: int, least: int) -> int | tf.Tensor:
    """Return a side as a number where it is known, else as a tensor that is checked when it runs."""
    if images.shape[axis] is not None:
        return images.shape[axis]
    side = tf.shape(images)[axis]
    large = tf.debugging.Assert(side >= least, [f"images: expected at least {least} pixels along each side, got", side])
    with after(large):
        return tf.identity(side)
