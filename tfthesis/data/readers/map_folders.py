"""Your own segmentation set: a folder of images and one of maps for each split."""

from __future__ import annotations

import json
from pathlib import Path

from tfthesis.data.image_text import required
from tfthesis.data.segmented_images import MapFile, SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

SEGMENTED = {
    "map_folders": (
        "for each of train, val and test: SPLIT/images/NAME.jpg (or .jpeg, .png, .bmp) and SPLIT/maps/NAME.png, whose "
        "grey or palette values are labels (255: no class), and classes.json, a list of names in the order of labels"
    )
}
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


def open_segmented(name: str, directory: Path | None = None, *, background: bool = False) -> SegmentedImages:
    """Return the pairs of images and maps of one name.

    Args:
        name: "map_folders".
        directory: with the splits.
        background: whether the first class is the absence of all others.

    Raises:
        UserError: a folder or a map is missing, two images share a name, or classes.json is no list of names.
    """
    folder = required(directory, name, SEGMENTED[name])
    file = folder / "classes.json"
    try:
        classes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}; expected a list of class names in the order of their labels") from error
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(entry, str) for entry in classes):
        raise UserError(f"{file}: expected a list of two class names or more, got {str(classes)[:80]}")
    splits = {split: _read(folder / split, split) for split in SPLITS}
    source = {"background": background}
    return SegmentedImages(
        name, splits, tuple(classes), colour_wheel(len(classes)), background=background, source=source
    )


def _read(folder: Path, split: str) -> SegmentedSplit:
    for part in ("images", "maps"):
        if not (folder / part).is_dir():
            raise UserError(f"{folder / part} is missing; expected {SEGMENTED['map_folders']}")
    images = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in _ENDINGS)
    if not images:
        raise UserError(f"{folder / 'images'}: no images; they end in {', '.join(_ENDINGS)}")
    stems = [image.stem for image in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"{folder / 'images'}: images of one name would share a map: {twice[:3]}")
    maps = [folder / "maps" / f"{image.stem}.png" for image in images]
    for image, path in zip(images, maps, strict=True):
        if not path.is_file():
            raise UserError(f"{image} has no map: no file {path}")
    return SegmentedSplit([f"{split}/{image.name}" for image in images], images, [MapFile(path) for path in maps])
