"""A folder a class without splits, such as Scene-15's: a number of images of each class is drawn for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.data.image_files import drawn_by_lot, grouped_files
from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, with_validation
from tfthesis.errors import UserError

LABELLED = {
    "class_folders": (
        "CLASS/*.jpg (also .jpeg, .png, .bmp, .gif), or all files in one folder with a pattern that finds the class; "
        "train_per_class of each are drawn for training, the others are the test split"
    ),
    "scene15": "the 15 folders of Scene-15; 100 images of each are drawn for training, the others are the test split",
}
SCENE15_CLASSES, SCENE15_TRAIN = 15, 100


def open_labelled(
    name: str,
    directory: Path | None = None,
    *,
    train_per_class: int | None = None,
    val_per_class: int = 0,
    pattern: str = "",
    seed: int = 0,
) -> LabelledImages:
    """Return images of classes that have no published split.

    Args:
        name: "class_folders" or "scene15".
        directory: with the folders.
        train_per_class: images of each class that are drawn for training; None takes 100 of Scene-15's, which gives
            the 1,500 of Liu 2018, Table 2.5.
        val_per_class: of them, so many that are held out to select weights by; methods that train on the dataset need
            some.
        pattern: of `tfthesis.data.image_files.grouped_files`.
        seed: another one draws other images.

    Raises:
        UserError: images are missing, or a class has too few of them.
    """
    folder = required(directory, name, LABELLED[name])
    groups = grouped_files(folder, pattern)
    if name == "scene15":
        train_per_class = SCENE15_TRAIN if train_per_class is None else train_per_class
        if len(groups) != SCENE15_CLASSES:
            raise UserError(f"dataset {name!r}: expected {SCENE15_CLASSES} folders of images, got {len(groups)}")
    if len(groups) < 2:
        raise UserError(f"dataset {name!r}: {folder} has {len(groups)} class, expected two or more")
    if train_per_class is None or train_per_class < 1:
        raise UserError(f"dataset {name!r}: train_per_class: expected a number from 1, got {train_per_class}")
    rows: dict[str, list[tuple[str, int, Path]]] = {"train": [], "test": []}
    for label, (key, files) in enumerate(groups.items()):
        if len(files) <= train_per_class:
            raise UserError(
                f"dataset {name!r}: class {key!r} has {len(files)} images, {train_per_class} for training leave none "
                "to test on"
            )
        ids = [file.relative_to(folder).as_posix() for file in files]
        drawn = set(drawn_by_lot(ids, seed)[:train_per_class])
        for place, (own, file) in enumerate(zip(ids, files, strict=True)):
            rows["train" if place in drawn else "test"].append((own, label, file))
    splits = {}
    for split, found in rows.items():
        ids, labels, files = zip(*found, strict=True)
        splits[split] = LabelledSplit(list(ids), np.array(labels, np.int64), list(files))
    source = {"train_per_class": train_per_class, "val_per_class": val_per_class, "pattern": pattern, "seed": seed}
    return LabelledImages(name, with_validation(splits, val_per_class, tuple(groups)), tuple(groups), source=source)
