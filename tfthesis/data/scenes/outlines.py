"""Scene -> the outlines of its objects, as each of several annotators draws them."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from tfthesis.data.scenes.scene import OUTLINES, Scene

# An annotator leaves an object other than the largest out so often.
OMITTED = 0.15
# Standard deviation of the shift of an outline along either axis, in shares of the image's side.
SHIFT = 0.006


def draw_outlines(scene: Scene, objects: np.ndarray, annotators: int) -> np.ndarray:
    """Return the edges bool `[A, S, S]` that annotators draw into a scene.

    An outline is the rim of what is seen of an object, one pixel wide. Each annotator draws the largest object and
    most of the others, every outline shifted by whole pixels of its own; the first annotators draw the same whatever
    their number.

    Args:
        scene: the scene.
        objects: the object at each pixel, `[S, S]`, as `render` returns it.
        annotators: A.
    """
    random = scene.random(OUTLINES)
    side = len(objects)
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    masks = [objects == number for number in range(1, len(scene.objects) + 1)]
    # The border of the picture is no edge.
    rims = [mask & ~scipy.ndimage.binary_erosion(mask, cross, border_value=1) for mask in masks]
    edges = np.zeros((annotators, side, side), bool)
    for drawn in edges:
        for number, rim in enumerate(rims):
            left_out = random.uniform() < OMITTED and number > 0
            shift = np.round(random.normal(0, SHIFT * side, size=2)).astype(int)
            if not left_out:
                rows, columns = (place + step for place, step in zip(np.nonzero(rim), shift, strict=True))
                inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
                drawn[rows[inside], columns[inside]] = True
    return edges
