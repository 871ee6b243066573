"""Pascal Sentence: 1,000 photos in 20 class folders, five sentences each.

Source: Rashtchian et al., "Collecting Image Annotations Using Amazon's Mechanical Turk", 2010; used in Liu 2018,
section 7.4.1 with 40 training, 5 validation and 5 test images of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.files import IMAGE_SUFFIXES, check_image, read_captions
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

DATASETS = {"pascal_sentence": "<class>/<image>.jpg and <class>/<image>.txt, side by side or in dataset/ and sentence/"}
_FOLDERS = ((".", "."), ("dataset", "sentence"), ("images", "sentences"))


def open_dataset(
    name: str, directory: Path | None, *, per_class: Sequence[int] = (40, 5, 5), captions: int = 5, seed: int = 0
) -> ImageTextDataset:
    """Return the images of each class divided at random; the label is the class.

    Args:
        name: "pascal_sentence".
        directory: class folders with images and text files of the same name, one sentence a line.
        per_class: number of training, validation and test images of each class.
        captions: of each image at most.
        seed: of the division.

    Raises:
        UserError: missing files, a broken caption line, or too few images in a class. Images that are empty or have no
            text file are skipped and listed.
    """
    directory = required(directory, name, DATASETS[name])
    if len(per_class) != 3 or min(per_class) < 0 or per_class[0] < 1:
        raise UserError(f"{name}: per_class: expected three counts (train, val, test), got {per_class}")
    image_root, text_root = _roots(directory)
    classes = sorted(folder.name for folder in image_root.iterdir() if _images(folder))
    splits: dict[str, list[ImageTextItem]] = {split: [] for split in SPLITS}
    skipped: list[str] = []
    random = np.random.default_rng(seed)
    for label in classes:
        items = _items(image_root / label, text_root / label, captions, skipped)
        if len(items) < sum(per_class):
            raise UserError(f"{image_root / label}: {len(items)} usable images; per_class {per_class} asks for more")
        order = random.permutation(len(items))
        stops = np.cumsum(per_class)
        for split, chosen in zip(SPLITS, np.split(order[: stops[-1]], stops[:-1]), strict=True):
            splits[split] += [items[index] for index in sorted(chosen)]
    source = {"per_class": list(per_class), "captions": captions, "seed": seed}
    filled = {split: items for split, items in splits.items() if items}
    return ImageTextDataset(name, filled, classes=tuple(classes), skipped=skipped, source=source)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _roots(directory: Path) -> tuple[Path, Path]:
    for images, texts in _FOLDERS:
        image_root, text_root = directory / images, directory / texts
        if image_root.is_dir() and text_root.is_dir() and any(_images(folder) for folder in image_root.iterdir()):
            return image_root, text_root
    raise UserError(f"{directory}: no class folders with images; expected {DATASETS['pascal_sentence']}")


def _items(image_folder: Path, text_folder: Path, captions: int, skipped: list[str]) -> list[ImageTextItem]:
    items = []
    for image in _images(image_folder):
        text = text_folder / f"{image.stem}.txt"
        reason = check_image(image) or (None if text.is_file() else f"no sentences {text}")
        if reason:
            skipped.append(f"image {image_folder.name}/{image.name}: {reason}")
            continue
        sentences = tuple(read_captions(text)[:captions])
        items.append(ImageTextItem(f"{image_folder.name}/{image.stem}", image, sentences, (image_folder.name,)))
    return items
