"""Paper dolls: persons of different body, hair, skin and clothes, in poses by lot, with joints and body parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from tfthesis.data.person_images import BODY, JOINTS
from tfthesis.data.scenes.paint import COLOURS, TEXTURES, Canvas, Spot, ellipse, grown, inside, shade

# Raised whenever a doll or a pixel changes: figures of different versions do not compare.
VERSION = 1
SLEEVES = ("long", "short", "none")
LOWERS = ("trousers", "shorts", "skirt")
HAIRS = ("short", "bob", "long")
SKIN: dict[str, tuple[int, int, int]] = {
    "pale": (244, 212, 190),
    "light": (226, 176, 140),
    "tan": (190, 134, 92),
    "brown": (140, 90, 60),
    "dark": (92, 58, 40),
}
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 26, 30),
    "brown": (88, 54, 34),
    "blond": (216, 178, 98),
    "ginger": (178, 82, 36),
    "grey": (160, 160, 166),
}
# Drawn so many times larger and averaged, for soft outlines.
OVERSAMPLING = 2
# Independent random streams of one person.
LOOKS, POSES, PIXELS = range(3)
# Lengths in shares of the body's height, which is that from the top of the head to the ankles.
_NECK, _HIPS, _HEAD = 0.19, 0.53, 0.075
_UPPER_ARM, _FOREARM, _THIGH, _SHIN = 0.165, 0.15, 0.24, 0.23
_SHOULDERS, _HIP_WIDTH = 0.11, 0.066
_HAND, _ARM_RADII, _LEG_RADII = 0.026, (0.034, 0.027, 0.021), (0.052, 0.038, 0.026)
# The least distance of any joint from the border, in shares of the side, and the range of the body's height.
_MARGIN, _HEIGHT = 0.06, (0.76, 0.86)


@dataclasses.dataclass(frozen=True)
class Doll:
    """A person in clothes.

    Attributes:
        key: the numbers that every random choice of this person starts from.
        skin, hair_colour, hair: keys of `SKIN` and `HAIR_COLOURS`, and one of `HAIRS`.
        build: width of the body, 1 for the mean.
        upper_colour, upper_texture: keys of `COLOURS` and `TEXTURES`.
        sleeves: one of `SLEEVES`.
        lower: one of `LOWERS`.
        lower_colour: a key of `COLOURS`.
        shoes: red, green and blue.
        wall: red, green and blue of the background.
    """

    key: tuple[int, ...]
    skin: str
    hair_colour: str
    hair: str
    build: float
    upper_colour: str
    upper_texture: str
    sleeves: str
    lower: str
    lower_colour: str
    shoes: tuple[int, int, int]
    wall: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class DrawnDoll:
    """A photo uint8 `[S, S, 3]`, its joints float32 `[18, 3]` in pixels, and its parts uint8 `[S, S]` of `BODY`."""

    image: np.ndarray
    joints: np.ndarray
    segments: np.ndarray


def sample_doll(key: tuple[int, ...]) -> Doll:
    """Return the person of `key` (non-negative integers, such as seed, split and number)."""
    random = np.random.default_rng((VERSION, *key, LOOKS))
    wall = random.uniform(205, 245) + random.uniform(-12, 12, 3)
    return Doll(
        key=tuple(key),
        skin=_one_of(SKIN, random),
        hair_colour=_one_of(HAIR_COLOURS, random),
        hair=_one_of(HAIRS, random),
        build=float(random.uniform(0.88, 1.16)),
        upper_colour=_one_of(COLOURS, random),
        upper_texture=_one_of(TEXTURES, random),
        sleeves=_one_of(SLEEVES, random),
        lower=_one_of(LOWERS, random),
        lower_colour=_one_of(COLOURS, random),
        shoes=tuple(int(value) for value in random.integers(20, 110, 3)),
        wall=tuple(int(value) for value in wall),
    )


def _one_of(names: Collection[str], random: np.random.Generator) -> str:
    return list(names)[random.integers(len(names))]


def sample_joints(doll: Doll, pose: int) -> np.ndarray:
    """Return the joints `[18, 2]` of the person's pose of that number, x and y in shares of the image's side.

    The person is seen from the front, so that its right is on the left. Arms hang, spread, rise or rest on the hips,
    each on its own; legs stand or step apart.
    """
    random = np.random.default_rng((VERSION, *doll.key, POSES, pose))
    lean, tilt = random.uniform(-0.09, 0.09, 2)
    joints = {"neck": np.zeros(2)}
    down, across = _direction(lean), _direction(lean + np.pi / 2)
    head = joints["neck"] - _direction(lean + tilt) * (_NECK - _HEAD)
    aside, along = _direction(lean + tilt + np.pi / 2), _direction(lean + tilt)
    joints["nose"] = head + along * 0.018
    waist = joints["neck"] + down * (_HIPS - _NECK)
    # Turning a little to either side narrows what is seen of shoulders and hips.
    turn = random.uniform(0.86, 1) * doll.build
    for side, sign in (("right", -1), ("left", 1)):
        joints[f"{side}_eye"] = head + aside * sign * 0.027
        joints[f"{side}_ear"] = head + aside * sign * (_HEAD - 0.008) + along * 0.006
        shoulder = joints[f"{side}_shoulder"] = across * sign * _SHOULDERS * turn + down * 0.02
        arm, bend = _arm(random)
        elbow = joints[f"{side}_elbow"] = shoulder + _direction(lean + sign * arm) * _UPPER_ARM
        joints[f"{side}_wrist"] = elbow + _direction(lean + sign * (arm + bend)) * _FOREARM
        hip = joints[f"{side}_hip"] = waist + across * sign * _HIP_WIDTH * turn
        leg, knee_bend = random.uniform(0.0, 0.22), random.uniform(-0.14, 0.05)
        knee = joints[f"{side}_knee"] = hip + _direction(sign * leg) * _THIGH
        joints[f"{side}_ankle"] = knee + _direction(sign * (leg + knee_bend)) * _SHIN
    points = np.stack([joints[name] for name in JOINTS])
    top = float(head[1]) - _HEAD
    return _framed(points, top, random)


def _direction(angle: float) -> np.ndarray:
    """Return the unit vector that points down, turned towards the right of the image by `angle`."""
    return np.array([np.sin(angle), np.cos(angle)])


def _arm(random: np.random.Generator) -> tuple[float, float]:
    """Return how far an upper arm is raised to its side, and how far the forearm goes on from there, in radians."""
    kind = random.integers(4)
    if kind == 0:
        return random.uniform(0.08, 0.35), random.uniform(-0.15, 0.25)
    if kind == 1:
        return random.uniform(0.5, 1.5), random.uniform(-0.3, 0.5)
    if kind == 2:
        return random.uniform(0.7, 1.3), random.uniform(0.9, 1.7)
    return random.uniform(0.6, 0.85), random.uniform(-1.7, -1.3)


def _framed(points: np.ndarray, top: float, random: np.random.Generator) -> np.ndarray:
    """Return body points as shares of the image's side: the whole person inside, at a place and of a size by lot."""
    low, high = points.min(axis=0), points.max(axis=0)
    low[1] = top
    room = 1 - 2 * _MARGIN
    scale = min(random.uniform(*_HEIGHT), *(room / (high - low)))
    free = (room - scale * (high - low)) / 2
    middle = 0.5 + random.uniform(-1, 1, 2) * np.minimum(free, (0.06, 0.03))
    return (points - (low + high) / 2) * scale + middle


def draw_doll(doll: Doll, pose: int, size: int) -> DrawnDoll:
    """Return the person in the pose of that number, drawn with `size` pixels a side.

    Photo, joints and parts come from one drawing. A pixel is the mean of four that are drawn, and has the part of the
    first of them.
    """
    joints = sample_joints(doll, pose)
    random = np.random.default_rng((VERSION, *doll.key, PIXELS, pose))
    side = size * OVERSAMPLING
    canvas = _Figure(doll, joints * side, side)
    canvas.draw()
    corners = [canvas.pixels[i::OVERSAMPLING, j::OVERSAMPLING] for i, j in np.ndindex(OVERSAMPLING, OVERSAMPLING)]
    noisy = sum(corners) / len(corners) + 2 * random.standard_normal((size, size, 1), np.float32)
    image = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    found = np.concatenate([joints * size, np.ones((len(JOINTS), 1))], axis=1).astype(np.float32)
    return DrawnDoll(image, found, canvas.owner[::OVERSAMPLING, ::OVERSAMPLING].astype(np.uint8))


class _Figure(Canvas):
    """A canvas on which one person is drawn; the owner of a pixel is its label of `BODY`."""

    def __init__(self, doll: Doll, joints: np.ndarray, side: int):
        shade_of_floor = np.linspace(1.0, 0.94, side, dtype=np.float32)[:, None, None]
        super().__init__(np.array(doll.wall, np.float32) * np.ones((side, side, 1), np.float32) * shade_of_floor)
        self.doll, self.side = doll, side
        self.joint = dict(zip(JOINTS, joints, strict=True))
        thigh = np.linalg.norm(self.joint["right_knee"] - self.joint["right_hip"])
        #: Pixels of the body's height.
        self.unit = float(thigh) / _THIGH
        self.skin = np.array(SKIN[doll.skin], np.float32)
        self.upper = np.array(COLOURS[doll.upper_colour], np.float32)
        self.lower = np.array(COLOURS[doll.lower_colour], np.float32)

    def draw(self) -> None:
        """Draw what lies behind first: legs, lower clothes, upper clothes, hair, head, arms."""
        for side in ("right", "left"):
            self._leg(side)
        self._seat()
        self._trunk()
        if self.doll.hair != "short":
            self._hair()
        self._head()
        for side in ("right", "left"):
            self._arm(side)

    def _fill(self, polygons: list[np.ndarray], colour: np.ndarray, part: str) -> Spot:
        """Fill polygons with a dark rim; returns what is inside them."""
        owner = BODY.index(part)
        spots = [inside(polygon, self.side) for polygon in polygons]
        rows, columns = np.concatenate(spots, axis=1)
        self.paint(grown(spots, max(1, round(0.006 * self.unit)), self.side), colour * 0.55, owner)
        self.paint((rows, columns), colour, owner)
        return rows, columns

    def _limb(self, points: list[np.ndarray], radii: list[float], colour: np.ndarray, part: str) -> Spot:
        """Fill a limb of one piece or more: round at its joints, its sides straight between them."""
        shapes = [ellipse(point, (radius, radius)) for point, radius in zip(points, radii, strict=True)]
        for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
            along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
            aside = np.array([-along[1], along[0]])
            shapes.append(
                np.stack([start + aside * first, end + aside * last, end - aside * last, start - aside * first])
            )
        return self._fill(shapes, colour, part)

    def _radii(self, shares: tuple[float, ...], wider: float = 1.0) -> list[float]:
        return [share * wider * self.unit * self.doll.build for share in shares]

    def _textured(self, spot: Spot, origin: np.ndarray, along: np.ndarray) -> None:
        """Put the second tone of the upper clothes where their texture has it, in coordinates of a part of the body."""
        texture = TEXTURES[self.doll.upper_texture]
        if texture is None:
            return
        rows, columns = spot
        down = along / max(float(np.linalg.norm(along)), 1e-6)
        x, y = (columns + 0.5 - origin[0]), (rows + 0.5 - origin[1])
        # Half the length of a trunk is the unit, as half the side of the box is that of a scene's objects.
        scale = 0.17 * self.unit
        second = texture((x * down[1] - y * down[0]) / scale, (x * down[0] + y * down[1]) / scale)
        self.pixels[rows[second], columns[second]] = shade(self.upper, "second")

    def _arm(self, side: str) -> None:
        shoulder, elbow, wrist = (self.joint[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        hand = wrist + (wrist - elbow) * 0.26
        self._limb([shoulder, elbow, wrist, hand], self._radii((*_ARM_RADII, _HAND)), self.skin, "arms")
        if self.doll.sleeves == "none":
            return
        if self.doll.sleeves == "long":
            points, radii = [shoulder, elbow, wrist], _ARM_RADII
        else:
            points, radii = [shoulder, shoulder + (elbow - shoulder) * 0.6], (_ARM_RADII[0], _ARM_RADII[1] * 1.15)
        for piece in range(len(points) - 1):
            spot = self._limb(
                points[piece : piece + 2], self._radii(radii[piece : piece + 2], 1.3), self.upper, "upper"
            )
            self._textured(spot, points[piece], points[piece + 1] - points[piece])

    def _leg(self, side: str) -> None:
        hip, knee, ankle = (self.joint[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        self._limb([hip, knee, ankle], self._radii(_LEG_RADII), self.skin, "legs")
        outward = -1 if side == "right" else 1
        toes = ankle + np.array([outward * 0.03, 0.022]) * self.unit
        self._limb([ankle, toes], self._radii((0.026, 0.022)), np.array(self.doll.shoes, np.float32), "legs")
        if self.doll.lower == "trousers":
            self._limb([hip, knee, ankle], self._radii(_LEG_RADII, 1.22), self.lower, "lower")
        if self.doll.lower == "shorts":
            end = hip + (knee - hip) * 0.72
            self._limb([hip, end], self._radii((_LEG_RADII[0], _LEG_RADII[1]), 1.3), self.lower, "lower")

    def _seat(self) -> None:
        """Draw what lower clothes cover between the hips, and all of a skirt."""
        right, left = self.joint["right_hip"], self.joint["left_hip"]
        across = (left - right) / max(float(np.linalg.norm(left - right)), 1e-6)
        up = np.array([across[1], -across[0]])
        wide = _LEG_RADII[0] * 1.2 * self.unit * self.doll.build
        waist = [
            right - across * wide * 0.75 + up * 0.09 * self.unit,
            left + across * wide * 0.75 + up * 0.09 * self.unit,
        ]
        if self.doll.lower == "skirt":
            hems = [hip + (self.joint[f"{side}_knee"] - hip) * 0.85 for side, hip in (("left", left), ("right", right))]
            hem = [hems[0] + across * wide * 1.6, hems[1] - across * wide * 1.6]
        else:
            hem = [left + across * wide - up * 0.05 * self.unit, right - across * wide - up * 0.05 * self.unit]
        self._fill([np.stack([*waist, *hem])], self.lower, "lower")

    def _trunk(self) -> None:
        neck, right, left = (self.joint[name] for name in ("neck", "right_shoulder", "left_shoulder"))
        hips = (self.joint["right_hip"] + self.joint["left_hip"]) / 2
        across = (left - right) / max(float(np.linalg.norm(left - right)), 1e-6)
        wide = self.unit * self.doll.build
        waist, hem = neck + (hips - neck) * 0.62, neck + (hips - neck) * 0.93
        outline = [
            *(neck - across * 0.035 * wide, right - across * 0.012 * wide, waist - across * 0.088 * wide),
            *(hem - across * 0.105 * wide, hem + across * 0.105 * wide),
            *(waist + across * 0.088 * wide, left + across * 0.012 * wide, neck + across * 0.035 * wide),
        ]
        spot = self._fill([np.stack(outline)], self.upper, "upper")
        self._textured(spot, neck, hips - neck)

    def _head_axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the middle of the head, and unit vectors to the image's right and down as the head has them."""
        right, left = self.joint["right_eye"], self.joint["left_eye"]
        across = (left - right) / max(float(np.linalg.norm(left - right)), 1e-6)
        return (right + left) / 2, across, np.array([-across[1], across[0]])

    def _hair(self) -> None:
        middle, across, down = self._head_axes()
        length = {"bob": 0.075, "long": 0.2}[self.doll.hair] * self.unit
        wide = (_HEAD + 0.012) * self.unit
        box = [middle - across * wide, middle + across * wide, middle + across * wide + down * length]
        self._fill([np.stack([*box, middle - across * wide + down * length])], self._hair_colour(), "head")

    def _hair_colour(self) -> np.ndarray:
        return np.array(HAIR_COLOURS[self.doll.hair_colour], np.float32)

    def _head(self) -> None:
        middle, across, down = self._head_axes()
        neck, radius = self.joint["neck"], _HEAD * self.unit
        self._limb([middle, neck], self._radii((0.03, 0.032)), self.skin, "head")
        cap = ellipse(middle - down * 0.012 * self.unit, (radius * 1.12, radius * 1.12))
        self._fill([cap], self._hair_colour(), "head")
        face = ellipse(middle + down * 0.012 * self.unit, (radius * 0.86, radius * 0.98))
        # The hair ends above the eyes.
        face = face[(face - middle) @ down > -0.022 * self.unit]
        self.paint(inside(face, self.side), self.skin, BODY.index("head"))
        for name in ("right_eye", "left_eye"):
            self.paint(
                inside(ellipse(self.joint[name], (0.011 * self.unit,) * 2), self.side), (30, 30, 40), BODY.index("head")
            )
        mouth = middle + down * 0.05 * self.unit
        lips = np.stack(
            [mouth - across * 0.022 * self.unit, mouth + across * 0.022 * self.unit, mouth + down * 0.014 * self.unit]
        )
        self.paint(inside(lips, self.side), (170, 50, 60), BODY.index("head"))
