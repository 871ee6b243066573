"""Cityscapes: street images with fine labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.image_files import drawn_by_lot
from tfthesis.data.image_text import required
from tfthesis.data.segmented_images import IGNORED, MapFile, SegmentedImages, SegmentedSplit
from tfthesis.errors import UserError

SEGMENTED = {
    "cityscapes": (
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png (or "
        "*_labelTrainIds.png)"
    )
}
#: The nineteen classes that are evaluated: their number in a file of labelIds, and their colour.
CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic_light": (19, (250, 170, 30)),
    "traffic_sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_IMAGE, _ENDINGS = "_leftImg8bit.png", ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png")


@dataclasses.dataclass(frozen=True)
class NumberedMap:
    """A file of labelIds, whose numbers become places among the nineteen classes."""

    file: MapFile

    def __str__(self) -> str:
        return str(self.file)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return self.file.identity()

    def read(self) -> np.ndarray:
        """Return the labels uint8 `[H, W]`; raises `UserError` for a file that cannot be read."""
        places = np.full(256, IGNORED, np.uint8)
        places[[number for number, _ in CLASSES.values()]] = np.arange(len(CLASSES))
        return places[self.file.read()]


def open_segmented(
    name: str, directory: Path | None = None, *, val_images: int = 100, seed: int = 0
) -> SegmentedImages:
    """Return the images with nineteen classes; the published validation images are the test split, as in the thesis.

    Args:
        name: "cityscapes".
        directory: with leftImg8bit and gtFine.
        val_images: held out of the training images by lot; the thesis trains on all 2,975.
        seed: of that lot.

    Raises:
        UserError: a folder or a map is missing, or no training image would be left.
    """
    folder = required(directory, name, SEGMENTED[name])
    train, test = (_read(folder, split) for split in ("train", "val"))
    if not 1 <= val_images < len(train):
        raise UserError(f"{name}: val_images={val_images} of {len(train)} training images; expected 1 or more, not all")
    order = drawn_by_lot(train.ids, seed)
    splits = {
        "train": train.take(np.array(sorted(order[val_images:]))),
        "val": train.take(np.array(sorted(order[:val_images]))),
        "test": test,
    }
    colours = tuple(colour for _, colour in CLASSES.values())
    source = {"val_images": val_images, "seed": seed}
    return SegmentedImages(name, splits, tuple(CLASSES), colours, source=source)


def _read(folder: Path, split: str) -> SegmentedSplit:
    place = folder / "leftImg8bit" / split
    images = sorted(place.glob(f"*/*{_IMAGE}"))
    if not images:
        raise UserError(f"{place}: no images; expected {SEGMENTED['cityscapes']}")
    return SegmentedSplit([image.name.removesuffix(_IMAGE) for image in images], images, [*map(_map, images)])


def _map(image: Path) -> MapFile | NumberedMap:
    place = image.parents[3] / "gtFine" / image.parents[1].name / image.parent.name
    stem = image.name.removesuffix(_IMAGE)
    for ending in _ENDINGS:
        path = place / f"{stem}{ending}"
        if path.is_file():
            return MapFile(path) if ending == _ENDINGS[0] else NumberedMap(MapFile(path))
    raise UserError(f"{image} has no labels: no file {place / stem}{_ENDINGS[1]}")
