"""CUB-200-2011, Caltech's birds, as a classification dataset with the published split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.data.files import read_text
from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, with_validation
from tfthesis.errors import UserError

LABELLED = {
    "cub200": (
        "images.txt, image_class_labels.txt, train_test_split.txt, classes.txt and images/, there or in CUB_200_2011/"
    )
}


def open_labelled(name: str, directory: Path | None = None, *, val_per_class: int = 0) -> LabelledImages:
    """Return the published split: 5,994 training and 5,794 test images of the whole set (Liu 2018, Table 2.5).

    Classes without an image, as a part of the dataset has them, are left out.

    Args:
        name: "cub200".
        directory: with the files.
        val_per_class: training images of each class that are held out to select weights by; methods that train on
            the dataset need some.

    Raises:
        UserError: a file is missing, a line has other than two words, or the files name different images.
    """
    folder = required(directory, name, LABELLED[name])
    folder = next((path for path in (folder, folder / "CUB_200_2011") if (path / "images.txt").is_file()), folder)
    paths = _pairs(folder / "images.txt", name)
    numbers = _pairs(folder / "image_class_labels.txt", name)
    chosen = _pairs(folder / "train_test_split.txt", name)
    names = _pairs(folder / "classes.txt", name)
    for file, pairs in (("image_class_labels.txt", numbers), ("train_test_split.txt", chosen)):
        missing = sorted(set(paths) ^ set(pairs))
        if missing:
            raise UserError(f"{folder / file}: it does not name the images of images.txt; image {missing[0]} differs")
    for image, mark in chosen.items():
        if mark not in ("0", "1"):
            raise UserError(f"{folder / 'train_test_split.txt'}: image {image}: expected 0 or 1, got {mark!r}")
    outside = [path for path in paths.values() if ".." in Path(path).parts or Path(path).is_absolute()]
    if outside:
        raise UserError(f"{folder / 'images.txt'}: expected paths inside of images, got {outside[0]!r}")
    present = set(numbers.values())
    unknown = sorted(present - set(names))
    if unknown:
        raise UserError(f"{folder / 'classes.txt'}: class {unknown[0]} of image_class_labels.txt is missing")
    kept = [number for number in names if number in present]
    place = {number: label for label, number in enumerate(kept)}
    splits = {}
    for split, mark in (("train", "1"), ("test", "0")):
        own = [image for image in paths if chosen[image] == mark]
        splits[split] = LabelledSplit(
            [paths[image] for image in own],
            np.array([place[numbers[image]] for image in own], np.int64),
            [folder / "images" / paths[image] for image in own],
        )
    classes = tuple(names[number] for number in kept)
    splits = with_validation(splits, val_per_class, classes)
    return LabelledImages(name, splits, classes, source={"val_per_class": val_per_class})


def _pairs(file: Path, name: str) -> dict[str, str]:
    """Return the second word of each line by the first."""
    if not file.is_file():
        raise UserError(f"dataset {name!r}: {file} is missing; expected {LABELLED[name]}")
    pairs: dict[str, str] = {}
    for line in read_text(file).splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[0] in pairs:
            raise UserError(f"{file}: expected lines of a new number and one word, got {line!r}")
        pairs[words[0]] = words[1]
    return pairs
