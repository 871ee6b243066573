"""Drawn scenes, each seen several times: a retrieval dataset that needs no files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tfthesis.data.grouped_images import GroupedImages
from tfthesis.data.readers.scenes import MIN_SIZE, DrawnImage
from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.scene import Scene, sample_scene
from tfthesis.errors import UserError

GROUPED = {"scene_views": "no folder: the scenes are drawn"}
# Of the first numbers of the random streams of views: apart from those of the scenes of other datasets.
_VIEWS = 17


def open_grouped(
    name: str,
    directory: Path | None = None,
    *,
    groups: int = 60,
    views: int = 4,
    move: float = 0.25,
    size: int = 128,
    seed: int = 0,
) -> GroupedImages:
    """Return views of drawn scenes; each is a query that should find the other views of its scene.

    A view keeps what is there, its colours and textures. The camera moves and goes nearer or further off, every thing
    moves a little and turns on its own, and background and outlines are drawn anew.

    Args:
        name: "scene_views".
        directory: must be None.
        groups: number of scenes.
        views: of each scene, at least 2.
        move: how far the camera moves at most, in shares of the side; things move half of that.
        size: side of an image in pixels.
        seed: another one gives other scenes of the same kind.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    if directory is not None:
        raise UserError(f"dataset {name!r} is drawn, not read: leave out the folder {directory}")
    if groups < 1 or views < 2 or size < MIN_SIZE or seed < 0 or not 0 <= move <= 1:
        raise UserError(
            f"{name}: expected groups >= 1, views >= 2, size >= {MIN_SIZE}, seed >= 0 and move from 0 to 1, "
            f"got {groups}, {views}, {size}, {seed} and {move}"
        )
    ids, images = [], []
    for group in range(groups):
        scene = sample_scene((seed, _VIEWS, group))
        for view in range(views):
            ids.append(f"{group:05d}-{view}")
            drawn = f"{name}-v{VERSION}-{seed}-{move:g}-{size}-{ids[-1]}.png"
            images.append(DrawnImage(drawn, seen(scene, view, move), size))
    numbers = np.repeat(np.arange(groups), views)
    source = {"version": VERSION, "groups": groups, "views": views, "move": move, "size": size, "seed": seed}
    return GroupedImages(name, ids, images, numbers, np.arange(len(ids)), source=source)


def seen(scene: Scene, view: int, move: float) -> Scene:
    """Return a view of a scene; see `open_grouped`."""
    random = np.random.default_rng((VERSION, *scene.key, view))
    nearer = float(np.exp(random.uniform(-move, move)))
    camera = random.uniform(-move, move, 2)
    things = []
    for thing in scene.objects:
        own = random.uniform(-move / 2, move / 2, 2)
        # A thing may be cut by the border, but never leaves the picture.
        x, y = np.clip(0.5 + (np.array(thing.centre) - 0.5) * nearer + camera + own, 0.05, 0.95)
        angle = thing.angle + float(random.uniform(-2 * move, 2 * move))
        things.append(
            dataclasses.replace(thing, centre=(float(x), float(y)), radius=thing.radius * nearer, angle=angle)
        )
    return dataclasses.replace(scene, key=(*scene.key, view), objects=tuple(things))
