"""The outlines of the object kinds.

A kind is a list of parts, painted in order. A part is a polygon in the unit box ([-1, 1] in x and y, y
downwards) and its paint: "body" (the object's colour and texture), "dark" or "light" (its colour, shaded),
or a fixed RGB colour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

BROWN, BLACK, WHITE, GREEN, GOLD = (112, 72, 40), (30, 30, 34), (245, 245, 240), (52, 122, 50), (240, 190, 40)


@dataclasses.dataclass(frozen=True)
class Part:
    """A polygon `[P, 2]` (x, y) in the unit box, and what it is painted with."""

    points: np.ndarray
    paint: str | tuple[int, int, int] = "body"


def polygon(*points: tuple[float, float], paint: str | tuple[int, int, int] = "body") -> Part:
    """Return a part from its corners."""
    return Part(np.array(points, float), paint)


def box(left: float, top: float, right: float, bottom: float, paint: str | tuple[int, int, int] = "body") -> Part:
    """Return an upright rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom), paint=paint)


def arc(
    centre: tuple[float, float],
    radii: tuple[float, float],
    degrees: tuple[float, float] = (0, 360),
    paint: str | tuple[int, int, int] = "body",
) -> Part:
    """Return an ellipse, or the slice of one between two angles (0 is right, 90 is down)."""
    angles = np.radians(np.linspace(*degrees, 33))
    return Part(np.stack([centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], 1), paint)


def spokes(count: int, outer: float, inner: float) -> Part:
    """Return a star with `count` points."""
    angles = np.arange(2 * count) * np.pi / count - np.pi / 2
    lengths = np.where(np.arange(2 * count) % 2, inner, outer)
    return Part(np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], 1))


def mirrored(part: Part) -> Part:
    """Return the part reflected left to right."""
    return Part(part.points * [-1, 1], part.paint)


def _heart() -> Part:
    t = np.linspace(0, 2 * np.pi, 49)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return Part(np.stack([x / 17, (y - 2.5) / 16], 1))


def _petals(count: int) -> list[Part]:
    angles = np.arange(count) * 2 * np.pi / count
    return [arc((0.42 * np.cos(a), -0.35 + 0.42 * np.sin(a)), (0.29, 0.29)) for a in angles]


_WING = (arc((-0.5, -0.38), (0.46, 0.5)), arc((-0.42, 0.42), (0.36, 0.42), paint="dark"))

KINDS: dict[str, Sequence[Part]] = {
    "ball": (
        arc((0, 0), (0.92, 0.92)),
        arc((-0.32, -0.36), (0.22, 0.17), paint="light"),
    ),
    "star": (spokes(5, 1.0, 0.42),),
    "heart": (_heart(),),
    "house": (
        box(-0.75, -0.1, 0.75, 0.95),
        polygon((-1, -0.1), (0, -0.95), (1, -0.1), paint="dark"),
        box(-0.2, 0.35, 0.2, 0.95, paint=BROWN),
        box(0.35, 0.15, 0.62, 0.45, paint=WHITE),
        box(-0.62, 0.15, -0.35, 0.45, paint=WHITE),
    ),
    "tree": (
        box(-0.16, 0.3, 0.16, 1, paint=BROWN),
        arc((0, -0.3), (0.62, 0.66)),
        arc((-0.45, 0.05), (0.45, 0.42)),
        arc((0.45, 0.05), (0.45, 0.42)),
    ),
    "car": (
        polygon((-0.55, -0.05), (-0.32, -0.55), (0.35, -0.55), (0.62, -0.05), paint="dark"),
        polygon((-0.4, -0.05), (-0.24, -0.42), (-0.03, -0.42), (-0.03, -0.05), paint=WHITE),
        polygon((0.06, -0.05), (0.06, -0.42), (0.28, -0.42), (0.47, -0.05), paint=WHITE),
        polygon((-1, 0.4), (-1, -0.02), (-0.85, -0.08), (0.88, -0.08), (1, 0.1), (1, 0.4)),
        arc((-0.52, 0.42), (0.24, 0.24), paint=BLACK),
        arc((0.52, 0.42), (0.24, 0.24), paint=BLACK),
        arc((-0.52, 0.42), (0.1, 0.1), paint=WHITE),
        arc((0.52, 0.42), (0.1, 0.1), paint=WHITE),
    ),
    "boat": (
        box(-0.06, -1, 0.06, 0.45, paint=BROWN),
        polygon((0.1, -0.92), (0.1, 0.3), (0.85, 0.3), paint=WHITE),
        polygon((-0.1, -0.75), (-0.1, 0.3), (-0.65, 0.3), paint="light"),
        polygon((-1, 0.4), (1, 0.4), (0.65, 0.95), (-0.65, 0.95)),
    ),
    "fish": (
        polygon((0.45, 0), (1, -0.5), (0.88, 0), (1, 0.5), paint="dark"),
        polygon((-0.2, -0.4), (0.15, -0.78), (0.3, -0.3), paint="dark"),
        arc((-0.2, 0), (0.78, 0.48)),
        arc((-0.62, -0.1), (0.12, 0.12), paint=WHITE),
        arc((-0.64, -0.1), (0.06, 0.06), paint=BLACK),
    ),
    "flower": (
        box(-0.07, 0, 0.07, 1, paint=GREEN),
        arc((0.3, 0.68), (0.28, 0.12), paint=GREEN),
        arc((-0.3, 0.8), (0.28, 0.12), paint=GREEN),
        *_petals(6),
        arc((0, -0.35), (0.24, 0.24), paint=GOLD),
    ),
    "mushroom": (
        polygon((-0.24, 0), (0.24, 0), (0.34, 0.95), (-0.34, 0.95), paint=WHITE),
        arc((0, 0.1), (0.95, 1.0), (180, 360)),
    ),
    "cup": (
        arc((0.55, 0.05), (0.45, 0.45), paint="dark"),
        arc((0.55, 0.05), (0.25, 0.25), paint="light"),
        polygon((-0.75, -0.7), (0.6, -0.7), (0.48, 0.8), (-0.62, 0.8)),
        arc((-0.075, -0.7), (0.675, 0.17), paint="dark"),
    ),
    "umbrella": (
        box(-0.05, -0.2, 0.05, 0.8, paint=BLACK),
        arc((0.14, 0.8), (0.19, 0.19), (0, 180), paint=BLACK),
        arc((0, 0.05), (1, 1), (180, 360)),
        arc((-0.67, 0.05), (0.33, 0.13), (180, 360), paint="dark"),
        arc((0, 0.05), (0.33, 0.13), (180, 360), paint="dark"),
        arc((0.67, 0.05), (0.33, 0.13), (180, 360), paint="dark"),
    ),
    "balloon": (
        box(-0.03, 0.4, 0.03, 1, paint=BLACK),
        polygon((0, 0.4), (0.16, 0.62), (-0.16, 0.62), paint="dark"),
        arc((0, -0.28), (0.62, 0.72)),
        arc((-0.24, -0.52), (0.13, 0.2), paint="light"),
    ),
    "bird": (
        polygon((0.45, 0.05), (1, -0.3), (0.95, 0.1), paint="dark"),
        box(-0.18, 0.4, -0.12, 0.9, paint=GOLD),
        box(0.08, 0.4, 0.14, 0.9, paint=GOLD),
        arc((0.05, 0.12), (0.62, 0.42)),
        arc((-0.5, -0.3), (0.34, 0.34)),
        polygon((-0.8, -0.4), (-1.0, -0.22), (-0.78, -0.15), paint=GOLD),
        arc((0.18, 0.08), (0.38, 0.2), (0, 180), paint="dark"),
        arc((-0.58, -0.38), (0.08, 0.08), paint=BLACK),
    ),
    "butterfly": (
        *_WING,
        *(mirrored(part) for part in _WING),
        arc((0, 0.05), (0.09, 0.75), paint=BLACK),
        polygon((0, -0.6), (-0.3, -0.98), (-0.22, -0.98), (0.03, -0.62), paint=BLACK),
        polygon((0, -0.6), (0.3, -0.98), (0.22, -0.98), (-0.03, -0.62), paint=BLACK),
    ),
    "rocket": (
        polygon((-0.2, 0.62), (0, 1), (0.2, 0.62), paint=GOLD),
        polygon((-0.34, 0.15), (-0.72, 0.78), (-0.34, 0.62), paint="dark"),
        polygon((0.34, 0.15), (0.72, 0.78), (0.34, 0.62), paint="dark"),
        box(-0.34, -0.4, 0.34, 0.65),
        polygon((-0.34, -0.4), (0, -1), (0.34, -0.4), paint="dark"),
        arc((0, -0.1), (0.18, 0.18), paint=WHITE),
    ),
}
