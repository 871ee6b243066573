"""PASCAL VOC's segmentation set, with the further training maps of the Semantic Boundaries Dataset (SBD)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tfthesis.data.files import read_text
from tfthesis.data.image_text import image_identity, required
from tfthesis.data.segmented_images import LazyMap, MapFile, SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.errors import UserError

SEGMENTED = {
    "voc_segmentation": (
        "VOCdevkit/VOC2012: JPEGImages/*.jpg, SegmentationClass/*.png and ImageSets/Segmentation/{train,val}.txt; with "
        "sbd=FOLDER also the folder dataset of SBD's benchmark_RELEASE: img/*.jpg, cls/*.mat, train.txt"
    )
}
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@dataclasses.dataclass(frozen=True)
class BoundariesMap:
    """The class map of one `.mat` file of SBD."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)

    def read(self) -> np.ndarray:
        """Return the labels uint8 `[H, W]`."""
        try:
            found = scipy.io.loadmat(self.path, squeeze_me=True, struct_as_record=False)
            labels = found["GTcls"].Segmentation
        except (OSError, ValueError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
            raise UserError(f"{self.path}: expected a struct GTcls with a field Segmentation ({error!r})") from error
        if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype != np.uint8:
            raise UserError(f"{self.path}: GTcls.Segmentation: expected a matrix of uint8")
        return labels


def open_segmented(
    name: str, directory: Path | None = None, *, sbd: str = "", val_images: int = 100
) -> SegmentedImages:
    """Return VOC's training images, those of SBD among them, and the validation images that are in neither.

    The split "test" is VOC's validation list without any image that is trained on: with SBD's training list the 904
    that the thesis measures. The split "val", which selects weights, is taken from the end of the training list.

    Args:
        name: "voc_segmentation".
        directory: of one year, such as VOC2012.
        sbd: folder of SBD; empty leaves it out.
        val_images: so many training images are held out.

    Raises:
        UserError: a list or a file is missing, or too many images are to be held out.
    """
    folder = required(directory, name, SEGMENTED[name])
    lists = folder / "ImageSets" / "Segmentation"
    own = {split: _names(lists / f"{split}.txt", name) for split in ("train", "val")}
    items: dict[str, tuple[Path, LazyMap]] = {
        image: (folder / "JPEGImages" / f"{image}.jpg", MapFile(folder / "SegmentationClass" / f"{image}.png"))
        for image in [*own["train"], *own["val"]]
    }
    train = dict.fromkeys(own["train"])
    if sbd:
        further = Path(sbd)
        for image in _names(further / "train.txt", name):
            # VOC's own map is the better one where both have the image.
            if image not in train:
                items[image] = (further / "img" / f"{image}.jpg", BoundariesMap(further / "cls" / f"{image}.mat"))
                train[image] = None
    names = list(train)
    if not 1 <= val_images < len(names):
        raise UserError(f"dataset {name!r}: val_images: expected 1 to {len(names) - 1}, got {val_images}")
    splits = {
        "train": names[: len(names) - val_images],
        "val": names[len(names) - val_images :],
        "test": [image for image in own["val"] if image not in train],
    }
    if not splits["test"]:
        raise UserError(f"dataset {name!r}: every image of {lists / 'val.txt'} is trained on")
    source = {"sbd": bool(sbd), "val_images": val_images}
    read = {split: _split(split, images, items) for split, images in splits.items()}
    return SegmentedImages(name, read, CLASSES, colour_wheel(len(CLASSES)), background=True, source=source)


def _names(file: Path, name: str) -> list[str]:
    if not file.is_file():
        raise UserError(f"dataset {name!r}: {file} is missing; expected {SEGMENTED[name]}")
    found = read_text(file).split()
    if not found:
        raise UserError(f"{file}: no images")
    return found


def _split(split: str, images: list[str], items: dict[str, tuple[Path, LazyMap]]) -> SegmentedSplit:
    pairs = [items[image] for image in images]
    for image, labels in pairs:
        for path in (image, labels.path):
            if not path.is_file():
                raise UserError(f"no file {path}, which a list of the split {split!r} names")
    return SegmentedSplit(images, [image for image, _ in pairs], [labels for _, labels in pairs])
