"""What a scene is, and how one is drawn by lot."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.paint import BACKGROUNDS, COLOURS, TEXTURES
from tfthesis.data.scenes.shapes import KINDS

LITTER = ("leaves", "pebbles", "bubbles")
# Independent random streams of one scene: a change in one leaves the others as they were.
LAYOUT, PIXELS, WORDS, OUTLINES = range(4)


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    Attributes:
        kind, colour, texture: keys of `KINDS`, `COLOURS`, `TEXTURES`.
        centre: (x, y) from the upper left corner, in shares of the image's side.
        radius: half the side of the box around it, in shares of the image's side.
        angle: clockwise turn in radians.
    """

    kind: str
    colour: str
    texture: str
    centre: tuple[float, float]
    radius: float
    angle: float = 0.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """A background, objects (the largest first, drawn from the last to the first), and small litter.

    Attributes:
        key: the numbers that every random choice of this scene starts from.
        litter: one of `LITTER`, or "" for none; drawn small, seldom mentioned, never a label.
    """

    key: tuple[int, ...]
    background: str
    objects: tuple[SceneObject, ...]
    litter: str = ""

    def random(self, stream: int) -> np.random.Generator:
        """Return the generator of one of this scene's random streams, from its beginning."""
        return np.random.default_rng((VERSION, *self.key, stream))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its objects, each once, in the order of `KINDS`."""
        present = {item.kind for item in self.objects}
        return tuple(kind for kind in KINDS if kind in present)

    @property
    def category(self) -> str:
        """The single label: the kind of its largest object."""
        return self.objects[0].kind


def sample_scene(key: tuple[int, ...], objects: tuple[int, int] = (2, 4)) -> Scene:
    """Return the scene of `key` (non-negative integers, such as seed, split and index).

    Args:
        objects: smallest and largest number of objects.
    """
    random = np.random.default_rng((VERSION, *key, LAYOUT))
    count = int(random.integers(objects[0], objects[1] + 1))
    kinds = random.permutation(len(KINDS))[:count]
    things = [
        SceneObject(
            kind=list(KINDS)[kind],
            colour=_one_of(COLOURS, random),
            texture=_one_of(TEXTURES, random),
            centre=centre,
            radius=radius,
            angle=float(random.uniform(-0.25, 0.25)),
        )
        for kind, (centre, radius) in zip(kinds, _places(count, random), strict=True)
    ]
    return Scene(
        key=tuple(key),
        background=_one_of(BACKGROUNDS, random),
        objects=tuple(sorted(things, key=lambda item: -item.radius)),
        litter=_one_of(["", *LITTER], random),
    )


def _one_of(names: Collection[str], random: np.random.Generator) -> str:
    return list(names)[random.integers(len(names))]


def _places(count: int, random: np.random.Generator) -> list[tuple[tuple[float, float], float]]:
    """Return centres and radii of `count` objects that overlap little, the largest first."""
    radii = [random.uniform(0.24, 0.31), *random.uniform(0.13, 0.22, size=count - 1)]
    while True:
        places = [(tuple(map(float, random.uniform(0.9 * r, 1 - 0.9 * r, size=2))), float(r)) for r in radii]
        gaps = [
            np.hypot(a[0] - b[0], a[1] - b[1]) - 0.9 * (r + s) for i, (a, r) in enumerate(places) for b, s in places[:i]
        ]
        if all(gap > 0 for gap in gaps):
            return places
        radii = [radius * 0.985 for radius in radii]
