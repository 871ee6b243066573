"""Edges made one pixel wide: thinning of binary maps, and non-maximum suppression of soft ones."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

# Mixed derivatives below so many times the largest value are taken for zero.
_ROUNDING = 1e-9


def _deletable() -> np.ndarray:
    """Return whether a pass of Guo and Hall's thinning deletes a pixel, bool `[2, 256]`.

    The k-th bit of the second index says whether neighbour k is set; they count from the right one against the clock.
    """
    codes = np.arange(256)
    right, upper_right, up, upper_left, left, lower_left, down, lower_right = ring = [codes >> k & 1 for k in range(8)]
    straight, diagonal = ring[::2], ring[1::2]
    after = [*straight[1:], straight[0]]
    one_piece = sum((1 - x) & (y | z) for x, y, z in zip(straight, diagonal, after, strict=True)) == 1
    pairs = sum(x | y for x, y in zip(straight, diagonal, strict=True))
    shifted = sum(y | z for y, z in zip(diagonal, after, strict=True))
    fewest = np.minimum(pairs, shifted)
    first = ((upper_right | up | (1 - lower_right)) & right) == 0
    second = ((lower_left | down | (1 - upper_left)) & left) == 0
    return one_piece & (fewest >= 2) & (fewest <= 3) & np.stack([first, second])


_DELETABLE = _deletable()


def thin(edges: np.ndarray) -> np.ndarray:
    """Return a binary map bool `[H, W]` thinned until nothing changes, which is `bwmorph(edges, 'thin', inf)`.

    The algorithm is that of Guo and Hall (Comm. ACM 32, 1989) with two passes in turn, and the result that of
    `skimage.morphology.thin`; here neighbours are gathered by shifting the map, a few times faster than by a filter.
    """
    padded = np.pad(edges, 1).astype(np.uint8)
    # In the flat map a neighbour is so many places ahead, and the margin keeps the rows apart.
    flat, wide = padded.ravel(), padded.shape[1]
    first, last = wide + 1, len(flat) - wide - 1
    around = (1, 1 - wide, -wide, -1 - wide, -1, wide - 1, wide, wide + 1)
    neighbours, pixels = [flat[first + step : last + step] for step in around], flat[first:last]
    codes, shifted = np.empty((2, len(pixels)), np.uint8)
    places = np.flatnonzero(pixels)
    turn, idle = 0, 0
    while idle < 2:
        codes[:] = neighbours[0]
        for bit in range(1, len(neighbours)):
            np.left_shift(neighbours[bit], bit, out=shifted)
            codes |= shifted
        deleted = _DELETABLE[turn][codes[places]]
        pixels[places[deleted]] = 0
        places = places[~deleted]
        idle = 0 if deleted.any() else idle + 1
        turn = 1 - turn
    return padded[1:-1, 1:-1] > 0


def triangle_blur(values: np.ndarray, radius: int) -> np.ndarray:
    """Return `values` `[H, W]` convolved with a triangle of 2 radius + 1 pixels a side; borders are mirrored.

    Radius 1 weighs with 1, 2, 1. This is the blur of Dollár's toolbox, which edge detectors are published with.
    """
    rising = np.arange(1, radius + 1)
    kernel = np.concatenate([rising, [radius + 1], rising[::-1]]) / (radius + 1) ** 2
    for axis in (0, 1):
        values = scipy.ndimage.correlate1d(values, kernel, axis=axis, mode="reflect")
    return values


def normal_angles(edges: np.ndarray, radius: int = 4) -> np.ndarray:
    """Return the direction across the edge at each pixel of a soft map `[H, W]`, in radians from 0 to pi.

    The angle is measured from the direction of growing columns to that of growing rows. It comes from the second
    derivatives of the blurred map: its tangent is their ratio, exact for multiples of 45 degrees, with the sign of
    the mixed one. Where that is zero the toolbox takes the angle 0, so that a level line without any noise would stay
    thick; here zero counts as positive.

    Args:
        edges: `[H, W]`, at least 2 x 2.
        radius: of the triangle blur before.
    """
    down, right = np.gradient(triangle_blur(edges, radius))
    mixed, over_columns = np.gradient(right)
    over_rows = np.gradient(down, axis=0)
    sign = np.where(mixed <= _ROUNDING * edges.max(), 1.0, -1.0)
    return np.mod(np.arctan(over_rows * sign / (over_columns + 1e-5)), np.pi)


def suppress_non_maxima(
    edges: np.ndarray, *, blur: int = 1, radius: int = 1, border: int = 5, factor: float = 1.01
) -> np.ndarray:
    """Return a soft edge map `[H, W]` with zeros where it is larger a step across the edge; the rest keeps its value.

    Liu 2018, section 3.4.1, post-processes the output of every network so; the numbers are those of its released code.
    A map one pixel high or wide has no step across: it is returned as it is.

    Args:
        edges: probabilities `[H, W]`.
        blur: radius of a triangle blur of the map before, whose values are returned; 0 for none.
        radius: so many pixels on either side a value is compared with.
        border: values fade linearly to zero over so many pixels towards the border, where networks see edges.
        factor: a value counts so many times itself when it is compared, which keeps plateaus whole.
    """
    edges = np.asarray(edges, np.float64)
    if min(edges.shape) < 2:
        return edges.copy()
    if blur:
        edges = triangle_blur(edges, blur)
    angles = normal_angles(edges)
    rows, columns = np.nonzero(edges)
    values, step = factor * edges[rows, columns], np.stack([np.sin(angles), np.cos(angles)])[:, rows, columns]
    largest = np.ones(len(rows), bool)
    for distance in (*range(-radius, 0), *range(1, radius + 1)):
        places = [
            np.clip(place + distance * part, 0, size - 1)
            for place, part, size in zip((rows, columns), step, edges.shape, strict=True)
        ]
        largest &= values >= scipy.ndimage.map_coordinates(edges, places, order=1)
    kept = np.zeros_like(edges)
    kept[rows[largest], columns[largest]] = edges[rows[largest], columns[largest]]
    for axis, size in enumerate(edges.shape):
        if width := min(border, size // 2):
            inwards = np.minimum(np.arange(size), np.arange(size)[::-1])
            kept *= np.expand_dims(np.minimum(inwards / width, 1), 1 - axis)
    return kept
