"""From a scene to its pixels and its object map."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfthesis.data.scenes.paint import BACKGROUNDS, COLOURS, TEXTURES, Canvas, grown, inside, litter, shade
from tfthesis.data.scenes.scene import PIXELS, Scene, SceneObject
from tfthesis.data.scenes.shapes import KINDS, Part

# Drawn so many times larger and averaged, for soft outlines.
OVERSAMPLING = 2
# Width of the dark rim around each object, in shares of its radius.
RIM = 0.06


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Pixels uint8 `[S, S, 3]`, and the object at each pixel, int16 `[S, S]`: 0 none, k for `objects[k - 1]`."""

    image: np.ndarray
    objects: np.ndarray


def render(scene: Scene, size: int = 128) -> Rendered:
    """Return the picture of a scene with `size` pixels a side."""
    random = scene.random(PIXELS)
    side = size * OVERSAMPLING
    canvas = Canvas(BACKGROUNDS[scene.background](side, random))
    litter(canvas, scene.litter, random)
    for number in range(len(scene.objects), 0, -1):
        draw_object(canvas, scene.objects[number - 1], number)
    corners = [canvas.pixels[i::OVERSAMPLING, j::OVERSAMPLING] for i, j in np.ndindex(OVERSAMPLING, OVERSAMPLING)]
    lit = _lighting(sum(corners) / len(corners), random)
    noisy = lit + 4 * random.standard_normal((size, size, 1), np.float32)
    return Rendered(np.clip(np.round(noisy), 0, 255).astype(np.uint8), canvas.owner[::OVERSAMPLING, ::OVERSAMPLING])


def draw_object(canvas: Canvas, item: SceneObject, number: int) -> None:
    """Draw one object with its rim; its pixels get `number` in the canvas's object map."""
    colour = np.array(COLOURS[item.colour], np.float32)
    place = _Placement(item, len(canvas.owner))
    parts = [(part, inside(place.pixels(part.points), len(canvas.owner))) for part in KINDS[item.kind]]
    canvas.paint(grown([spot for _, spot in parts], round(RIM * place.scale), len(canvas.owner)), colour * 0.3, number)
    for part, (rows, columns) in parts:
        canvas.paint((rows, columns), _tone(part, colour), number)
        if part.paint == "body" and TEXTURES[item.texture] is not None:
            second = TEXTURES[item.texture](*place.unit(rows, columns))
            canvas.paint((rows[second], columns[second]), shade(colour, "second"), number)


def _tone(part: Part, colour: np.ndarray) -> np.ndarray:
    if part.paint == "body":
        return colour
    return shade(colour, part.paint) if isinstance(part.paint, str) else np.array(part.paint, np.float32)


class _Placement:
    """The map between an object's unit box and the pixels of a canvas."""

    def __init__(self, item: SceneObject, side: int):
        cos, sin = np.cos(item.angle), np.sin(item.angle)
        self.turn = np.array([[cos, sin], [-sin, cos]])
        self.centre = np.array(item.centre) * side
        self.scale = item.radius * side

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return unit-box points `[P, 2]` as (x, y) in pixels."""
        return points @ self.turn * self.scale + self.centre

    def unit(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels as (u, v) in the unit box."""
        x, y = (columns - self.centre[0]) / self.scale, (rows - self.centre[1]) / self.scale
        return x * self.turn[0, 0] + y * self.turn[0, 1], x * self.turn[1, 0] + y * self.turn[1, 1]


def _lighting(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the pixels under a light from one side, brighter or darker by up to a fifth."""
    angle, slope, level = random.uniform([0, 0, 0.88], [2 * np.pi, 0.12, 1.08])
    ramp = np.linspace(-1, 1, len(pixels))
    light = level + slope * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    return pixels * light[..., None].astype(np.float32)
