"""Indoor-67, MIT's indoor scenes, with the published lists of training and test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.data.files import read_lines
from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, with_validation
from tfthesis.errors import UserError

LABELLED = {"indoor67": "TrainImages.txt, TestImages.txt and the images in [Images/]CLASS/"}
_LISTS = {"train": "TrainImages.txt", "test": "TestImages.txt"}


def open_labelled(name: str, directory: Path | None = None, *, val_per_class: int = 0) -> LabelledImages:
    """Return the images that the two lists name: 5,360 and 1,340 of the whole set (Liu 2018, Table 2.5).

    Args:
        name: "indoor67".
        directory: with the lists and the images.
        val_per_class: training images of each class that are held out to select weights by; methods that train on
            the dataset need some.

    Raises:
        UserError: a list is missing or a line of it is no `CLASS/FILE`.
    """
    folder = required(directory, name, LABELLED[name])
    images = next((path for path in (folder / "Images", folder) if path.is_dir()), folder)
    listed = {split: _lines(folder / file, name) for split, file in _LISTS.items()}
    classes = tuple(sorted({path.split("/")[0] for paths in listed.values() for path in paths}))
    place = {key: number for number, key in enumerate(classes)}
    splits = {
        split: LabelledSplit(
            paths,
            np.array([place[path.split("/")[0]] for path in paths], np.int64),
            [images / path for path in paths],
        )
        for split, paths in listed.items()
    }
    splits = with_validation(splits, val_per_class, classes)
    return LabelledImages(name, splits, classes, source={"val_per_class": val_per_class})


def _lines(file: Path, name: str) -> list[str]:
    if not file.is_file():
        raise UserError(f"dataset {name!r}: {file} is missing; expected {LABELLED[name]}")
    paths = read_lines(file)
    for path in paths:
        parts = path.split("/")
        if len(parts) != 2 or not all(parts) or ".." in parts:
            raise UserError(f"{file}: expected lines such as kitchen/int474.jpg, got {path!r}")
    if not paths:
        raise UserError(f"{file}: it names no image")
    return paths
