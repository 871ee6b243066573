"""Colours, textures and backgrounds, and the canvas on which polygons are filled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 32, 36),
    "orange": (245, 132, 22),
    "yellow": (250, 218, 44),
    "green": (40, 158, 62),
    "blue": (36, 84, 214),
    "purple": (132, 48, 168),
    "pink": (250, 140, 190),
    "white": (240, 240, 244),
}

# A texture says where its second tone stands, in coordinates of the object's unit box.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray] | None] = {
    "plain": None,
    "striped": lambda u, v: (v * 2.6) % 1 < 0.42,
    "dotted": lambda u, v: ((u * 2.6) % 1 - 0.5) ** 2 + ((v * 2.6) % 1 - 0.5) ** 2 < 0.075,
    "checked": lambda u, v: (np.floor(u * 2.8) + np.floor(v * 2.8)) % 2 < 1,
}


# Pixels as (rows, columns), fit to index an image.
Spot = tuple[np.ndarray, np.ndarray]


class Canvas:
    """Pixels float32 `[S, S, 3]` (0..255) and the number of the object at each, int16 `[S, S]` (0 is none)."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.owner = np.zeros(pixels.shape[:2], np.int16)

    def paint(self, spot: Spot, colour: np.ndarray | tuple[int, int, int], owner: int = 0) -> None:
        """Give the pixels of `spot` one colour and one owner."""
        self.pixels[spot] = colour
        self.owner[spot] = owner


def inside(points: np.ndarray, side: int) -> Spot:
    """Return the pixels of a square whose centres lie in a polygon `[P, 2]` of (x, y).

    Even-odd rule: each edge toggles what lies to its right, row by row.
    """
    x0, y0 = points.T
    top, bottom = max(int(y0.min()), 0), min(int(y0.max()) + 2, side)
    left, right = max(int(x0.min()), 0), min(int(x0.max()) + 2, side)
    if top >= bottom or left >= right:
        return np.zeros(0, int), np.zeros(0, int)
    rows = np.arange(top, bottom) + 0.5
    x1, y1 = points[np.arange(1, len(points) + 1) % len(points)].T
    edge, row = np.nonzero((y0[:, None] <= rows) != (y1[:, None] <= rows))
    crossing = x0[edge] + (rows[row] - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
    columns = np.minimum(np.maximum(np.ceil(crossing - 0.5), left), right).astype(int) - left
    toggles = np.zeros((len(rows), right - left + 1), np.uint8)
    np.add.at(toggles, (row, columns), 1)
    found_rows, found_columns = np.nonzero(np.cumsum(toggles, axis=1, dtype=np.uint8)[:, :-1] & 1)
    return found_rows + top, found_columns + left


def grown(spots: list[Spot], width: int, side: int) -> Spot:
    """Return the pixels of a square that are at most `width` rows and columns away from one of `spots`."""
    top, left = (max(min(int(spot[axis].min(initial=side)) for spot in spots) - width, 0) for axis in (0, 1))
    bottom, right = (min(max(int(spot[axis].max(initial=0)) for spot in spots) + width + 1, side) for axis in (0, 1))
    mask = np.zeros((bottom - top, right - left), bool)
    for rows, columns in spots:
        mask[rows - top, columns - left] = True
    for _ in range(2):
        wide = mask.copy()
        for step in range(1, width + 1):
            wide[:, step:] |= mask[:, :-step]
            wide[:, :-step] |= mask[:, step:]
        mask = np.ascontiguousarray(wide.T)
    rows, columns = np.nonzero(mask)
    return rows + top, columns + left


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Return an ellipse as a polygon of (x, y)."""
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    return np.stack([centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], 1)


def shade(colour: np.ndarray, tone: str) -> np.ndarray:
    """Return the "dark" or "light" tone of a colour, or for "second" the one that its textures use."""
    if tone == "dark":
        return colour * 0.62
    if tone == "light":
        return colour * 0.45 + 140
    return colour * 0.3 + 175 if colour.min() < 200 else colour * 0.35


def _sky(side: int, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> np.ndarray:
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    column = (1 - share) * np.array(top, np.float32) + share * np.array(bottom, np.float32)
    return np.repeat(column, side, axis=1)


def _scatter(pixels: np.ndarray, count: int, size: float, colour: tuple[int, int, int], flat: float, random) -> None:
    """Put `count` flattened spots of about `size` (share of the side) at random places."""
    side = len(pixels)
    x, y, scale = random.uniform(size=(3, count, 1, 1))
    radius = side * size * (0.5 + scale)
    reach = int(np.ceil(side * size * 1.5))
    rows = (y * side).astype(int) + np.arange(-reach, reach + 1)[:, None]
    columns = (x * side).astype(int) + np.arange(-reach, reach + 1)
    near = ((rows + 0.5 - y * side) / flat) ** 2 + (columns + 0.5 - x * side) ** 2 < radius**2
    near &= (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    rows, columns = np.broadcast_to(rows, near.shape)[near], np.broadcast_to(columns, near.shape)[near]
    pixels[rows, columns] = 0.35 * pixels[rows, columns] + 0.65 * np.array(colour, np.float32)


def _meadow(side: int, random: np.random.Generator) -> np.ndarray:
    pixels = _sky(side, (120, 176, 82), (64, 128, 44))
    blades = 16 * random.standard_normal((side // 8, side // 2), np.float32)
    return pixels + np.kron(blades, np.ones((8, 2), np.float32))[:side, :side, None]


def _beach(side: int, random: np.random.Generator) -> np.ndarray:
    pixels = _sky(side, (236, 212, 160), (222, 188, 124))
    shore = int(side * random.uniform(0.2, 0.35))
    pixels[:shore] = _sky(side, (90, 180, 220), (60, 150, 200))[:shore]
    pixels[shore : shore + side // 40] = 245
    return pixels + 9 * random.standard_normal((side, side, 1), np.float32)


def _sea(side: int, random: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    waves = np.sin(2 * np.pi * (14 * rows + 0.35 * np.sin(2 * np.pi * (3 * columns + random.uniform()))))
    return _sky(side, (70, 160, 196), (12, 72, 128)) + 20 * waves[..., None]


def _clouds(side: int, random: np.random.Generator) -> np.ndarray:
    canvas = Canvas(_sky(side, (96, 160, 236), (190, 222, 250)))
    for x, y in random.uniform(size=(3, 2)):
        for step in range(4):
            cloud = ellipse(((x + 0.06 * step) * side, y * side), (0.08 * side, 0.05 * side))
            canvas.paint(inside(cloud, side), (250, 250, 250))
    return canvas.pixels


def _night(side: int, random: np.random.Generator) -> np.ndarray:
    canvas = Canvas(_sky(side, (10, 12, 40), (36, 34, 88)))
    _scatter(canvas.pixels, 40, 0.006, (255, 255, 220), 1.0, random)
    moon = ellipse(random.uniform(0.1, 0.3, 2) * side, (0.07 * side, 0.07 * side))
    canvas.paint(inside(moon, side), (240, 236, 200))
    return canvas.pixels


def _snow(side: int, random: np.random.Generator) -> np.ndarray:
    pixels = _sky(side, (206, 216, 230), (248, 250, 255))
    _scatter(pixels, 45, 0.01, (255, 255, 255), 1.0, random)
    columns = np.arange(side) / side
    hill = side * (0.3 + 0.08 * np.sin(2 * np.pi * (columns * 1.3 + random.uniform())))
    pixels[np.arange(side)[:, None] > hill] += 8
    pixels[np.abs(np.arange(side)[:, None] - hill) < side / 90] = (150, 168, 196)
    return pixels


def _bricks(side: int, random: np.random.Generator) -> np.ndarray:
    tone = 10 * random.standard_normal((12, 7, 1), np.float32)
    height, width = -(-side // 12), -(-side // 6)
    walls = np.kron(np.array((164, 84, 64), np.float32) + tone, np.ones((height, width, 1), np.float32))
    y, x = np.mgrid[0 : walls.shape[0], 0 : walls.shape[1]]
    walls[(y % height < height // 7) | (x % width < height // 7)] = (206, 196, 182)
    odd = (y[:, 0] // height) % 2 == 1
    walls[odd] = np.roll(walls[odd], width // 2, axis=1)
    return walls[:side, :side]


def _planks(side: int, random: np.random.Generator) -> np.ndarray:
    planks = 12 * random.standard_normal(8, np.float32)
    columns = np.arange(side) * 8 // side
    grain = 6 * random.standard_normal(side, np.float32)
    tone = planks[columns] + grain
    pixels = np.array((176, 126, 76), np.float32) + np.repeat(tone[None, :, None], side, axis=0)
    pixels[:, np.flatnonzero(np.diff(columns))] = (84, 54, 30)
    return pixels


BACKGROUNDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "meadow": _meadow,
    "beach": _beach,
    "sea": _sea,
    "sky": _clouds,
    "night": _night,
    "snow": _snow,
    "wall": _bricks,
    "floor": _planks,
}


def litter(canvas: Canvas, kind: str, random: np.random.Generator) -> None:
    """Put small things ("leaves", "pebbles" or "bubbles") on the background; "" puts none."""
    looks = {
        "leaves": (14, 0.02, (190, 90, 30), 0.5),
        "pebbles": (16, 0.018, (120, 118, 116), 0.75),
        "bubbles": (14, 0.02, (214, 240, 255), 1.0),
    }
    if kind:
        count, size, colour, flat = looks[kind]
        _scatter(canvas.pixels, count, size, colour, flat, random)
