"""Flowers-102 and CUB-200-2011 with ten descriptions an image in Reed's text files.

Sources: Reed et al., "Learning Deep Representations of Fine-grained Visual Descriptions", 2016 (`text_c10`, class
lists); Nilsback and Zisserman 2008; Wah et al. 2011; used in Liu 2018, section 7.4.1.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfthesis.data.files import IMAGE_SUFFIXES, check_image, image_root, read_captions, read_lines
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

DATASETS = {
    "flowers": "text_c10/<class>/<image>.txt, the images in jpg/, and class lists or setid.mat",
    "cub": "text_c10/<class>/<image>.txt, images in [CUB_200_2011/]images/, and class lists or train_test_split.txt",
}
_IMAGE_FOLDERS = {"flowers": ("jpg", "images", "."), "cub": ("images", "CUB_200_2011/images", ".")}


def open_dataset(
    name: str,
    directory: Path | None,
    *,
    split: str = "classes",
    captions: int = 10,
    val_per_class: int = 1,
) -> ImageTextDataset:
    """Return images of birds or flowers with their descriptions; the label is the class.

    Args:
        name: "flowers" or "cub".
        directory: holds `text_c10`.
        split: "classes" (Reed's lists `{train,val,test}classes.txt`: no class is in two splits), "official"
            (`setid.mat`, its train and val both as training data as in Liu 2018; or `train_test_split.txt`), or a
            folder inside `directory` with `{train,val,test}.txt`, one `<class>/<image>` or `<image>` a line.
        captions: of each image at most.
        val_per_class: with "official", the number of training images of each class that become "val".

    Raises:
        UserError: missing files, a broken caption line, or a split that names unknown images. Missing and empty images
            are skipped and listed.
    """
    directory = required(directory, name, DATASETS[name])
    texts = {f"{path.parent.name}/{path.stem}": path for path in sorted((directory / "text_c10").glob("*/*.txt"))}
    if not texts:
        raise UserError(f"{directory / 'text_c10'}: no <class>/<image>.txt there; expected {DATASETS[name]}")
    assign = _assignment(name, directory, split, texts, val_per_class)
    probes = [location for key in list(texts)[:20] for location in _locations(key)]
    root = image_root(directory, _IMAGE_FOLDERS[name], probes)
    splits: dict[str, list[ImageTextItem]] = {part: [] for part in SPLITS}
    skipped = []
    for key, path in texts.items():
        part = assign(key)
        if part is None:
            continue
        image = next((root / place for place in _locations(key) if (root / place).is_file()), None)
        reason = check_image(image) if image else "no image file"
        if reason:
            skipped.append(f"{part}: image {key}: {reason}")
        else:
            label = key.split("/")[0]
            splits[part].append(ImageTextItem(key, image, tuple(read_captions(path)[:captions]), (label,)))
    return ImageTextDataset(
        name,
        {part: items for part, items in splits.items() if items},
        classes=tuple(sorted({key.split("/")[0] for key in texts})),
        skipped=skipped,
        source={"split": split, "captions": captions, "val_per_class": val_per_class if split == "official" else None},
    )


def _locations(key: str) -> list[str]:
    """Return where the image `<class>/<image>` may lie in the image folder."""
    return [f"{place}{suffix}" for place in (key, key.split("/")[1]) for suffix in IMAGE_SUFFIXES]


Assignment = Callable[[str], str | None]


def _assignment(name: str, directory: Path, split: str, texts: Mapping[str, Path], val_per_class: int) -> Assignment:
    """Return the function from `<class>/<image>` to its split; None leaves the image out."""
    if split == "classes":
        return _by_class(directory, texts)
    if split == "official":
        official = _flowers_parts(directory) if name == "flowers" else _cub_parts(directory)
        return _hold_out(official, texts, val_per_class)
    return _by_list(directory / split, texts)


def _by_class(directory: Path, texts: Mapping[str, Path]) -> Assignment:
    known = {key.split("/")[0] for key in texts}
    parts: dict[str, str] = {}
    for part in SPLITS:
        path = directory / f"{part}classes.txt"
        for number, label in enumerate(read_lines(path), 1):
            if label not in known:
                raise UserError(f"{path}:{number}: class {label!r} has no folder in text_c10")
            if label in parts:
                raise UserError(f"{path}:{number}: class {label!r} is in {parts[label]!r} already")
            parts[label] = part
    return lambda key: parts.get(key.split("/")[0])


def _by_list(folder: Path, texts: Mapping[str, Path]) -> Assignment:
    keys = {key.split("/")[1]: key for key in texts}
    parts: dict[str, str] = {}
    for part in SPLITS:
        path = folder / f"{part}.txt"
        for number, line in enumerate(read_lines(path), 1):
            stem = line.removesuffix(next((suffix for suffix in IMAGE_SUFFIXES if line.endswith(suffix)), ""))
            key = stem if stem in texts else keys.get(stem)
            if key is None:
                raise UserError(f"{path}:{number}: image {line!r} has no description in text_c10")
            if key in parts:
                raise UserError(f"{path}:{number}: image {line!r} is in {parts[key]!r} already")
            parts[key] = part
    return parts.get


def _flowers_parts(directory: Path) -> dict[str, str]:
    """Return "train" or "test" by image name, from `setid.mat`."""
    from scipy.io import loadmat

    path = directory / "setid.mat"
    if not path.is_file():
        raise UserError(f"{path}: no such file; it holds the official split of Flowers")
    try:
        sets = loadmat(path)
        groups = {"trnid": "train", "valid": "train", "tstid": "test"}
        return {f"image_{int(i):05d}": part for field, part in groups.items() for i in np.ravel(sets[field])}
    except (KeyError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: expected a MATLAB file with trnid, valid and tstid: {error}") from error


def _cub_parts(directory: Path) -> dict[str, str]:
    """Return "train" or "test" by image name, from `images.txt` and `train_test_split.txt`."""
    folder = next((f for f in (directory, directory / "CUB_200_2011") if (f / "train_test_split.txt").is_file()), None)
    if folder is None:
        raise UserError(f"{directory}: no train_test_split.txt there or in CUB_200_2011/")
    names, flags = (_table(folder / file) for file in ("images.txt", "train_test_split.txt"))
    if names.keys() != flags.keys():
        raise UserError(f"{folder}: images.txt has {len(names)} images, train_test_split.txt {len(flags)}")
    return {Path(name).stem: "train" if flags[number] == "1" else "test" for number, name in names.items()}


def _table(path: Path) -> dict[str, str]:
    rows = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if len(fields) != 2:
            raise UserError(f"{path}:{number}: expected an image number and one value, got {line!r}")
        rows[fields[0]] = fields[1]
    return rows


def _hold_out(official: Mapping[str, str], texts: Mapping[str, Path], val_per_class: int) -> Assignment:
    """Move the last `val_per_class` training images of each class to "val"."""
    parts = {key: official.get(key.split("/")[1]) for key in texts}
    training: dict[str, list[str]] = collections.defaultdict(list)
    for key, part in parts.items():
        if part == "train":
            training[key.split("/")[0]].append(key)
    for label, keys in training.items():
        if val_per_class >= len(keys):
            raise UserError(
                f"val_per_class: class {label!r} has {len(keys)} training images, {val_per_class} asked for"
            )
        parts.update(dict.fromkeys(sorted(keys)[len(keys) - val_per_class :], "val"))
    return parts.get
