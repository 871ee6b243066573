"""Images with one class each, as the readers of classification datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.image_splits import ImageSplits
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.images import ImageSource, LazyImages
from tfthesis.errors import UserError


@dataclasses.dataclass(frozen=True)
class LabelledSplit:
    """One split.

    Attributes:
        ids: a name for each image, unique within a dataset.
        labels: int64 `[N]`, places in the dataset's classes.
        images: uint8 `[N, H, W, 3]` where all have one size and fit into memory; otherwise a source each.
    """

    ids: list[str]
    labels: np.ndarray
    images: np.ndarray | list[ImageSource] | LazyImages

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> LabelledSplit:
        """Return the images of `rows`, in their order."""
        if isinstance(self.images, np.ndarray):
            images = self.images[rows]
        elif isinstance(self.images, list):
            images = [self.images[row] for row in rows]
        else:
            images = self.images.take(rows)
        return LabelledSplit([self.ids[row] for row in rows], self.labels[rows], images)


@dataclasses.dataclass
class LabelledImages(ImageSplits):
    """A classification dataset; its splits are `LabelledSplit`.

    Attributes:
        classes: label names in their fixed order.

    Raises:
        UserError: see `ImageSplits`; or a label is no place in `classes`.
    """

    classes: tuple[str, ...]

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.classes)) < len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise UserError(f"{self.name}: classes share a name: {twice[:5]}; give each its own")
        for name, split in self.splits.items():
            outside = np.flatnonzero((split.labels < 0) | (split.labels >= len(self.classes)))
            if len(outside):
                raise UserError(
                    f"{self.name}: image {split.ids[outside[0]]!r} of split {name!r} has the label "
                    f"{split.labels[outside[0]]}, expected 0 to {len(self.classes) - 1}"
                )

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, labels, pixels in memory, and source; of files names, sizes and some bytes."""
        digest = hashlib.sha256(json.dumps([self.name, self.classes, self.source], sort_keys=True).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.ids]).encode())
            digest.update(np.ascontiguousarray(split.labels, np.int64))
            if isinstance(split.images, np.ndarray):
                digest.update(np.ascontiguousarray(split.images))
            else:
                # One at a time: a list of a million would take as much memory again as the dataset.
                for image in split.images:
                    digest.update(json.dumps(image_identity(image)).encode())
        return digest.hexdigest()


def held_out(split: LabelledSplit, per_class: int, classes: Sequence[str]) -> tuple[LabelledSplit, LabelledSplit]:
    """Return `split` without, and with only, the last `per_class` images of each class.

    Raises:
        UserError: a class has no image left to train on.
    """
    last = np.zeros(len(split), bool)
    for label, name in enumerate(classes):
        own = np.flatnonzero(split.labels == label)
        if per_class >= len(own):
            raise UserError(f"class {name!r} has {len(own)} images, {per_class} of them cannot be held out")
        last[own[len(own) - per_class :]] = True
    return split.take(np.flatnonzero(~last)), split.take(np.flatnonzero(last))


def with_validation(
    splits: dict[str, LabelledSplit], per_class: int, classes: Sequence[str]
) -> dict[str, LabelledSplit]:
    """Return `splits` with the last `per_class` training images of each class as "val"; 0 leaves them as they are.

    Raises:
        UserError: the number is negative, or a class has no image left to train on.
    """
    if per_class < 0:
        raise UserError(f"val_per_class: expected 0 or more, got {per_class}")
    if not per_class:
        return splits
    train, val = held_out(splits["train"], per_class, classes)
    return {**splits, "train": train, "val": val}


def first_of_each(split: LabelledSplit, per_class: int | None, classes: Sequence[str]) -> LabelledSplit:
    """Return the first `per_class` images of each class, in the order of the split; None returns them all.

    Raises:
        UserError: a class has fewer.
    """
    if per_class is None:
        return split
    kept = np.zeros(len(split), bool)
    for label, name in enumerate(classes):
        own = np.flatnonzero(split.labels == label)
        if not 1 <= per_class <= len(own):
            raise UserError(f"class {name!r} has {len(own)} images, asked for are {per_class}")
        kept[own[:per_class]] = True
    return split.take(np.flatnonzero(kept))


def labelled_names() -> dict[str, str]:
    """Return what each known classification dataset reads, in one sentence."""
    return {name: module.LABELLED[name] for name, module in sorted(readers_of("LABELLED").items())}


def open_labelled(name: str, directory: Path | str | None = None, **options: Any) -> LabelledImages:
    """Open a classification dataset by name.

    A reader is a file of `tfthesis/data/readers` that defines `LABELLED` (names, each with a sentence on what must lie
    in the folder) and `open_labelled(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    return open_by_name("LABELLED", "open_labelled", "classification dataset", name, directory, options)
