"""A folder a class, as ImageNet's images are usually kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfthesis.data.image_files import ENDINGS
from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, held_out
from tfthesis.errors import UserError

LABELLED = {
    "image_folders": (
        "train/CLASS/*.jpg, test/CLASS/*.jpg and val/CLASS/*.jpg, or val_per_class (also .jpeg, .png, .bmp, .gif; "
        "ImageNet's validation images are the test split), and perhaps classes.json with a name for each folder"
    )
}


def open_labelled(name: str, directory: Path | None = None, *, val_per_class: int = 0) -> LabelledImages:
    """Return the images of a folder for each class and split; the classes are the folders of `train`, sorted.

    Args:
        name: "image_folders".
        directory: with the splits.
        val_per_class: hold so many training images of each class out, where there is no folder `val`.

    Raises:
        UserError: a split or a class has no folder or no images.
    """
    folder = required(directory, name, LABELLED[name])
    if not (folder / "train").is_dir():
        raise UserError(f"dataset {name!r}: {folder / 'train'} is missing; expected {LABELLED[name]}")
    keys = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    if len(keys) < 2:
        raise UserError(f"dataset {name!r}: {folder / 'train'} has {len(keys)} class folders, expected two or more")
    splits = {
        split: _read(folder / split, split, keys) for split in ("train", "val", "test") if (folder / split).is_dir()
    }
    if "val" not in splits and not val_per_class:
        raise UserError(
            f"dataset {name!r}: weights are selected by validation images: give {folder / 'val'}, or hold some of each "
            "class out with --set reader=val_per_class=10"
        )
    if "test" not in splits:
        raise UserError(f"dataset {name!r}: {folder / 'test'} is missing; expected {LABELLED[name]}")
    classes = _names(folder / "classes.json", keys)
    if val_per_class:
        if "val" in splits:
            raise UserError(f"dataset {name!r}: val_per_class {val_per_class}: {folder / 'val'} is there already")
        splits["train"], splits["val"] = held_out(splits["train"], val_per_class, classes)
    return LabelledImages(name, splits, classes, source={"val_per_class": val_per_class})


def _read(folder: Path, split: str, keys: list[str]) -> LabelledSplit:
    unknown = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in keys)
    if unknown:
        raise UserError(f"{folder}: classes {unknown[:5]} are not among the folders of train")
    files, labels = [], []
    for label, key in enumerate(keys):
        if not (folder / key).is_dir():
            raise UserError(f"{folder / key}: the folder of this class is missing; train has it")
        own = sorted(path for path in (folder / key).iterdir() if path.suffix.lower() in ENDINGS)
        if not own:
            raise UserError(f"{folder / key}: no images; they end in {', '.join(ENDINGS)}")
        files += own
        labels += [label] * len(own)
    ids = [f"{split}/{file.parent.name}/{file.name}" for file in files]
    return LabelledSplit(ids, np.array(labels, np.int64), files)


def _names(file: Path, keys: list[str]) -> tuple[str, ...]:
    if not file.is_file():
        return tuple(keys)
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(names.get(key), str) for key in keys):
        raise UserError(f"{file}: expected an object with a name for each class folder, such as {keys[0]!r}")
    return tuple(names[key] for key in keys)
