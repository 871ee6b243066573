"""CamVid as the SegNet tutorial distributes it: lists of pairs of an image and a map."""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.files import read_text
from tfthesis.data.image_text import required
from tfthesis.data.segmented_images import MapFile, SegmentedImages, SegmentedSplit
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

SEGMENTED = {
    "camvid": (
        "train.txt, val.txt and test.txt, a line for each image with the paths of image and map (what stands before "
        "the name of a folder here, such as /SegNet/CamVid, does not matter), and those folders"
    )
}
CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
_UNLABELLED = 11


def open_segmented(name: str, directory: Path | None = None) -> SegmentedImages:
    """Return CamVid's three splits with eleven classes; label 11 is no class.

    Raises:
        UserError: a list, or a file that one names, is missing.
    """
    folder = required(directory, name, SEGMENTED[name])
    splits = {split: _read(folder, split, name) for split in SPLITS}
    return SegmentedImages(name, splits, tuple(CLASSES), tuple(CLASSES.values()))


def _read(folder: Path, split: str, name: str) -> SegmentedSplit:
    file = folder / f"{split}.txt"
    if not file.is_file():
        raise UserError(f"dataset {name!r}: {file} is missing; expected {SEGMENTED[name]}")
    images, maps = [], []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        paths = line.split()
        if len(paths) != 2:
            raise UserError(f"{file}, line {number}: expected the paths of an image and a map, got {line!r}")
        found = [folder.joinpath(*Path(path).parts[-2:]) for path in paths]
        for path in found:
            if not path.is_file():
                raise UserError(f"{file}, line {number}: no file {path}")
        images.append(found[0])
        maps.append(MapFile(found[1], ignored=_UNLABELLED))
    if not images:
        raise UserError(f"{file}: no images")
    return SegmentedSplit([f"{split}/{image.name}" for image in images], images, maps)
