"""The CMP Facade Database as pix2pix distributes it: a photo and its map of labels side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.halves import Half
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import image_identity, required
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

SEGMENTED = {
    "cmp_facades": (
        "train/, val/ and test/ with files of a photo (left half) and its labels in colours (right half), or a folder "
        "facades with these"
    )
}
#: In the order of the database's labels, with the colours of the maps.
CLASSES = {
    "background": (0, 0, 222),
    "facade": (0, 48, 255),
    "window": (0, 128, 255),
    "door": (0, 207, 255),
    "cornice": (32, 255, 224),
    "sill": (112, 255, 143),
    "balcony": (192, 255, 64),
    "blind": (255, 239, 0),
    "deco": (255, 159, 0),
    "molding": (255, 80, 0),
    "pillar": (255, 0, 0),
    "shop": (175, 0, 0),
}


@dataclasses.dataclass(frozen=True)
class ColouredMap:
    """Labels as colours: a pixel has the class whose colour is nearest, since JPEG changes colours a little."""

    half: Half

    def __str__(self) -> str:
        return str(self.half)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.half.path)

    def read(self) -> np.ndarray:
        """Return the labels uint8 `[H, W]`; raises `UserError` for a file that cannot be read."""
        pixels = self.half.pixels()
        # Each colour that occurs is looked up once: a twentieth of the pixels.
        packed = pixels.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        _, first, place = np.unique(packed.ravel(), return_index=True, return_inverse=True)
        found = pixels.reshape(-1, 3)[first].astype(np.int32)
        colours = np.array(list(CLASSES.values()), np.int32)
        nearest = ((found[:, None] - colours) ** 2).sum(axis=-1).argmin(axis=-1).astype(np.uint8)
        return nearest[place].reshape(packed.shape)


def open_segmented(name: str, directory: Path | None = None) -> SegmentedImages:
    """Return the three splits with twelve classes: 400 images for training, 100 and 106, where all are there.

    The thesis draws 400 of the 606 and tests on all others, which are val and test together here.

    Args:
        name: "cmp_facades".
        directory: with the splits, or with the folder facades.

    Raises:
        UserError: a split is missing or empty.
    """
    folder = required(directory, name, SEGMENTED[name])
    if (folder / "facades").is_dir():
        folder = folder / "facades"
    splits = {split: _read(folder / split, split) for split in SPLITS}
    return SegmentedImages(name, splits, tuple(CLASSES), tuple(CLASSES.values()))


def _read(folder: Path, split: str) -> SegmentedSplit:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; expected {SEGMENTED['cmp_facades']}")
    files = image_files(folder)
    photos = [Half(file, "left") for file in files]
    maps = [ColouredMap(Half(file, "right")) for file in files]
    return SegmentedSplit([f"{split}/{file.name}" for file in files], photos, maps)
