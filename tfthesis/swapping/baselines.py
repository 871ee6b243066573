"""Clothes swapped without learning: warped by a thin-plate spline, or blended by Poisson's equation.

These are the compared methods of Table 8.2 (Liu 2018, section 8.2.3) that need no training; the thesis names them and
leaves their details open, which are choices here and said at each function. The third, VITON, was trained on data that
its authors have withdrawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.interpolate
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.errors import UserError

#: Joints that clothes follow: all but those of the face.
DRESSED = tuple(
    number for number, name in enumerate(JOINTS) if not name.startswith("nose") and not name.endswith(("eye", "ear"))
)
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Person(NamedTuple):
    """What is known of a photo.

    Attributes:
        image: uint8 `[H, W, 3]`.
        joints: float32 `[18, 3]`, in pixels.
        segments: uint8 `[H, W]`, labels of `BODY`.
        mask: bool `[H, W]`, True on the person.
        head: bool `[H, W]`, True on what clothes do not cover.
    """

    image: np.ndarray
    joints: np.ndarray
    segments: np.ndarray
    mask: np.ndarray
    head: np.ndarray


def tps_warping(condition: Person, reference: Person) -> np.ndarray:
    """Return the reference with the condition's clothes, warped and pasted, uint8 `[H, W, 3]`.

    The spline takes the joints of neck, arms and legs that were found of both persons to each other; where these do not
    determine one (fewer than three, or on a line) it takes the corners of the boxes around the clothes. Clothes are the
    upper and lower ones; they do not cover the reference's head.

    Args:
        condition: whose clothes they are.
        reference: who puts them on.

    Raises:
        UserError: images of different sizes.
    """
    _same_size(condition, reference)
    clothes = clothes_mask(condition.segments)
    if not clothes.any():
        return reference.image.copy()
    layers = np.concatenate([condition.image.astype(np.float64), clothes[..., None]], axis=-1)
    warped = _warped_by_joints(layers, condition, reference)
    if warped is None:
        warped = _warped_by_boxes(layers, condition, reference)
    worn = (warped[..., 3] > 0.5) & ~reference.head
    # At the rim colours of cloth and background mix in their shares.
    pasted = np.where(worn[..., None], warped[..., :3], reference.image)
    return np.clip(np.round(pasted), 0, 255).astype(np.uint8)


def poisson_blending(condition: Person, reference: Person) -> np.ndarray:
    """Return the reference with the condition's clothes, blended by their gradients, uint8 `[H, W, 3]`.

    The condition's photo is moved and scaled so that the box around its clothes falls on that of the reference's. Where
    its clothes then lie, but for the reference's head, the result has their gradients, and at the rim of that region
    the colours of the reference.

    Args:
        condition: whose clothes they are.
        reference: who puts them on.

    Raises:
        UserError: images of different sizes.
    """
    _same_size(condition, reference)
    clothes = clothes_mask(condition.segments)
    if not clothes.any():
        return reference.image.copy()
    layers = np.concatenate([condition.image.astype(np.float64), clothes[..., None]], axis=-1)
    moved = _warped_by_boxes(layers, condition, reference)
    region = (moved[..., 3] > 0.5) & ~reference.head
    blended = poisson_blend(moved[..., :3], reference.image, region)
    return np.clip(np.round(blended), 0, 255).astype(np.uint8)


#: By the names that protocols and tables use.
BASELINES = {"tps_warping": tps_warping, "poisson_blending": poisson_blending}


def clothes_mask(segments: np.ndarray) -> np.ndarray:
    """Return bool, True on upper and lower clothes, of labels of `BODY`."""
    return (segments == BODY.index("upper")) | (segments == BODY.index("lower"))


def thin_plate_spline(source: np.ndarray, target: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return where the spline that takes the points `source` to `target` takes `places`, float64 `[Q, 2]`.

    It is the map that bends least among those that take the points exactly (Bookstein, 1989).

    Args:
        source, target: `[P, 2]`.
        places: `[Q, 2]`.

    Raises:
        UserError: points that differ in number, are fewer than three, or whose sources lie on a line or upon each
            other.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1:] != (2,) or len(source) < 3:
        raise UserError(
            f"thin-plate spline: expected three points [P, 2] or more and as many targets, got {list(source.shape)} "
            f"and {list(target.shape)}"
        )
    if not _determined(source):
        raise UserError("thin-plate spline: expected points that differ and do not lie on one line")
    return scipy.interpolate.RBFInterpolator(source, target, kernel="thin_plate_spline", degree=1)(places)


def thin_plate_warp(image: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return an image in which what lay at the points `source` lies at the points `target`, float64 `[H, W, C]`.

    The spline from targets to sources takes every pixel's middle back to where it came from, and the image is
    interpolated there bilinearly; beyond its border it goes on as it ends.

    Args:
        image: `[H, W, C]`.
        source, target: `[P, 2]`, x and y in pixels, the middle of the first pixel being .5.

    Raises:
        UserError: see `thin_plate_spline`.
    """
    height, width = image.shape[:2]
    middles = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2) + 0.5
    places = (thin_plate_spline(target, source, middles) - 0.5)[:, ::-1].T.reshape(2, height, width)
    channels = [
        scipy.ndimage.map_coordinates(image[..., channel].astype(np.float64), places, order=1, mode="nearest")
        for channel in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def _determined(points: np.ndarray) -> bool:
    """Return whether points `[P, 2]` differ from each other and do not lie on one line, by half a pixel or more."""
    apart = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(len(points)) * 1e9
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(apart.min() > 1e-3 and spread[-1] > 0.5)


def _warped_by_joints(layers: np.ndarray, condition: Person, reference: Person) -> np.ndarray | None:
    found = [j for j in DRESSED if condition.joints[j, 2] > 0 and reference.joints[j, 2] > 0]
    source, target = condition.joints[found, :2], reference.joints[found, :2]
    if len(found) < 3 or not _determined(target) or not _determined(source):
        return None
    return thin_plate_warp(layers, source, target)


def _warped_by_boxes(layers: np.ndarray, condition: Person, reference: Person) -> np.ndarray:
    """Return the layers moved and scaled from box to box; without clothes on the reference to the box of the person."""
    worn = clothes_mask(reference.segments)
    if not worn.any():
        worn = reference.mask
    if not worn.any():
        return layers
    return thin_plate_warp(layers, _corners(clothes_mask(condition.segments)), _corners(worn))


def _corners(mask: np.ndarray) -> np.ndarray:
    """Return the corners `[4, 2]` (x, y) of the box around the True pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64)


def poisson_blend(source: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return `target` with the gradients of `source` inside `region`, float64 `[H, W, C]`.

    Inside, the discrete Laplacian (four neighbours) equals that of `source`, and the pixels beside the region keep the
    values of `target`: the least-squares solution of Perez, Gangnet and Blake (2003). Neighbours beyond the border of
    the image are left out.

    Args:
        source, target: `[H, W, C]`.
        region: bool `[H, W]`.

    Raises:
        UserError: arrays of different sizes, or a region without a pixel outside of it.
    """
    if source.shape != target.shape or region.shape != target.shape[:2]:
        raise UserError(
            f"Poisson blending: expected source and target of one shape and a region of their size, got "
            f"{list(source.shape)}, {list(target.shape)} and {list(region.shape)}"
        )
    if region.all():
        raise UserError("Poisson blending: expected a pixel outside of the region, which would say what colours it has")
    source, blended = source.astype(np.float64), target.astype(np.float64)
    if not region.any():
        return blended
    rows, columns = np.nonzero(region)
    number = np.full(region.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    right_side, diagonal = np.zeros((len(rows), source.shape[-1])), np.zeros(len(rows))
    entries = []
    for down, across in _STEPS:
        y, x = rows + down, columns + across
        inside = np.flatnonzero((y >= 0) & (y < region.shape[0]) & (x >= 0) & (x < region.shape[1]))
        y, x = y[inside], x[inside]
        diagonal[inside] += 1
        right_side[inside] += source[rows[inside], columns[inside]] - source[y, x]
        unknown = number[y, x] >= 0
        right_side[inside[~unknown]] += blended[y[~unknown], x[~unknown]]
        entries.append((inside[unknown], number[y[unknown], x[unknown]]))
    lines, places = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    matrix = scipy.sparse.diags(diagonal) - scipy.sparse.coo_array(
        (np.ones(len(lines)), (lines, places)), shape=(len(rows), len(rows))
    )
    blended[rows, columns] = scipy.sparse.linalg.splu(matrix.tocsc()).solve(right_side)
    return blended


def _same_size(condition: Person, reference: Person) -> None:
    if condition.image.shape != reference.image.shape:
        raise UserError(
            f"expected two photos of one size, got {list(condition.image.shape)} and {list(reference.image.shape)}"
        )
