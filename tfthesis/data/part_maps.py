"""Files of what is known of a person, read when they are needed: body parts, regrouped, masks and drawn poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.image_files import read_stored
from tfthesis.data.image_text import image_identity
from tfthesis.data.person_images import BODY
from tfthesis.data.segmented_images import MapFile
from tfthesis.errors import UserError

#: The 20 classes of Look into Person in their order, and the part of each. The thesis regroups such classes into five
#: (section 8.2.1) without a table; that whole-body clothes and scarfs are upper clothes, gloves arms and shoes legs, is
#: our choice.
LIP = {
    "background": "background",
    "hat": "head",
    "hair": "head",
    "glove": "arms",
    "sunglasses": "head",
    "upper_clothes": "upper",
    "dress": "upper",
    "coat": "upper",
    "socks": "legs",
    "pants": "lower",
    "jumpsuits": "upper",
    "scarf": "upper",
    "skirt": "lower",
    "face": "head",
    "left_arm": "arms",
    "right_arm": "arms",
    "left_leg": "legs",
    "right_leg": "legs",
    "left_shoe": "legs",
    "right_shoe": "legs",
}
#: Tables of what the values of a file may mean, by their name.
TABLES: dict[str, Mapping[str, str]] = {"body": {part: part for part in BODY}, "lip": LIP}


def regrouped(labels: np.ndarray, parts: Sequence[str], what: str) -> np.ndarray:
    """Return labels of `BODY` uint8 for labels of other classes.

    Args:
        labels: integers of any shape.
        parts: the part of each class, in the order of the labels.
        what: names the map in messages.

    Raises:
        UserError: a label that is no class.
    """
    unknown = np.unique(labels[labels >= len(parts)])
    if len(unknown):
        raise UserError(f"{what}: expected labels 0 to {len(parts) - 1}, got {unknown[:5].tolist()}")
    return np.array([BODY.index(part) for part in parts], np.uint8)[labels]


@dataclasses.dataclass(frozen=True)
class PartsFile:
    """A PNG whose grey or palette values are classes of body parts.

    Attributes:
        path: of the file.
        table: a key of `TABLES`.
    """

    path: Path
    table: str = "body"

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file, and its table."""
        return [*MapFile(self.path).identity(), self.table]

    def read(self) -> np.ndarray:
        """Return the labels of `BODY` uint8 `[H, W]`.

        Raises:
            UserError: the file is no picture, or has a value that is no class.
        """
        return regrouped(MapFile(self.path).read(), tuple(TABLES[self.table].values()), str(self.path))


@dataclasses.dataclass(frozen=True)
class _PictureFile:
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)


@dataclasses.dataclass(frozen=True)
class MaskFile(_PictureFile):
    """A grey PNG with 255 on a region, such as the person or the head, and 0 elsewhere."""

    def read(self) -> np.ndarray:
        """Return the region, bool `[H, W]`.

        Raises:
            UserError: the file is no picture, not grey, or has a value between 0 and 255.
        """
        picture = read_stored(self.path)
        if picture.mode not in ("L", "1"):
            raise UserError(f"{self.path}: expected a grey image, got one of mode {picture.mode}")
        if picture.mode == "1":
            return picture.values
        between = picture.values[(picture.values > 0) & (picture.values < 255)]
        if between.size:
            raise UserError(f"{self.path}: expected 0 or 255 at each pixel, got {between[0]}; a mask has no shares")
        return picture.values == 255


@dataclasses.dataclass(frozen=True)
class PoseFile(_PictureFile):
    """A PNG with a drawing of the joints and limbs, as `tfthesis.swapping.representations.draw_pose` makes one."""

    def read(self) -> np.ndarray:
        """Return red, green and blue, uint8 `[H, W, 3]`.

        Raises:
            UserError: the file is no picture, or has other channels or more bits.
        """
        picture = read_stored(self.path)
        if picture.mode != "RGB" or picture.bits != 8:
            raise UserError(
                f"{self.path}: expected red, green and blue of 8 bits, got an image of mode {picture.mode} with "
                f"{picture.bits} bits"
            )
        return picture.values
