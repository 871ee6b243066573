"""Images with a class at each pixel, as the readers of segmentation datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfthesis.data.image_files import read_stored
from tfthesis.data.image_splits import ImageSplits
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.images import ImageSource
from tfthesis.errors import UserError

#: Label of a pixel that has no class.
IGNORED = 255


class LazyMap(Protocol):
    """A map of an image that is made when it is read."""

    def identity(self) -> list[Any]:
        """Return JSON values that change with the map."""

    def read(self) -> np.ndarray:
        """Return the map `[H, W]`, uint8 labels if nothing else is said; raises `UserError` for a file not readable."""


@dataclasses.dataclass(frozen=True)
class MapFile:
    """A PNG whose grey or palette values are labels.

    Attributes:
        path: of the file.
        ignored: value of pixels without a class, which become `IGNORED`.
    """

    path: Path
    ignored: int = IGNORED

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)

    def read(self) -> np.ndarray:
        """Return the labels uint8 `[H, W]`.

        Raises:
            UserError: the file is no picture, or its values are no labels.
        """
        picture = read_stored(self.path)
        labels = picture.values
        if picture.mode not in ("P", "L"):
            raise UserError(
                f"{self.path}: expected grey or palette values that are labels, got an image of mode {picture.mode}"
            )
        if picture.mode == "L" and picture.bits < 8:
            # Grey values of fewer bits come spread over 0..255.
            labels = labels // (255 // (2**picture.bits - 1))
        return np.where(labels == self.ignored, IGNORED, labels).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class SegmentedSplit:
    """One split; images and maps are arrays where all have one size and fit into memory, otherwise a source each.

    Attributes:
        ids: a name for each image, unique within a dataset.
        images: uint8 `[N, H, W, 3]` or sources.
        maps: uint8 `[N, H, W]` or sources; places in the dataset's classes, or `IGNORED`.
    """

    ids: list[str]
    images: np.ndarray | list[ImageSource]
    maps: np.ndarray | list[LazyMap]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> SegmentedSplit:
        """Return the images of `rows`, in their order."""
        picked = [
            values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
            for values in (self.images, self.maps)
        ]
        return SegmentedSplit([self.ids[row] for row in rows], *picked)


@dataclasses.dataclass
class SegmentedImages(ImageSplits):
    """A segmentation dataset; its splits are `SegmentedSplit`.

    Attributes:
        classes: names in the order of their labels.
        colours: red, green and blue (0..255) of each class, for pictures.
        background: whether the first class is the absence of all others.

    Raises:
        UserError: see `ImageSplits`; or there are more classes than labels, two of one name, or labels in memory that
            are out of range.
    """

    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    background: bool = False

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.classes)) < len(self.classes) or len(self.colours) != len(self.classes):
            raise UserError(
                f"{self.name}: expected class names that differ and a colour for each, got {len(self.colours)} colours "
                f"of {list(self.classes)}"
            )
        if len(self.classes) > IGNORED:
            raise UserError(f"{self.name}: expected at most {IGNORED} classes, got {len(self.classes)}")
        for split in self.splits.values():
            if isinstance(split.maps, np.ndarray):
                for identity, labels in zip(split.ids, split.maps, strict=True):
                    self.check_labels(labels, identity)

    def check_labels(self, labels: np.ndarray, name: str) -> None:
        """Raise `UserError` if a label of the map `name` is no class and not `IGNORED`."""
        outside = np.unique(labels[(labels >= len(self.classes)) & (labels != IGNORED)])
        if len(outside):
            raise UserError(
                f"{self.name}: the map of {name} has the labels {outside[:5].tolist()}, expected 0 to "
                f"{len(self.classes) - 1}, or {IGNORED} for pixels without a class"
            )

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, pixels, labels and source; of files that of names, sizes and some bytes."""
        digest = hashlib.sha256(json.dumps([self.name, self.classes, self.source], sort_keys=True).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.ids]).encode())
            for values, identity in ((split.images, image_identity), (split.maps, lambda found: found.identity())):
                if isinstance(values, np.ndarray):
                    digest.update(np.ascontiguousarray(values))
                else:
                    digest.update(json.dumps([identity(value) for value in values]).encode())
        return digest.hexdigest()


def colour_wheel(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the colours that VOC gives its first `count` labels: black, dark red, dark green ...

    Label bits 0, 1, 2 are the highest bits of red, green and blue, bits 3, 4, 5 the next ones.
    """
    colours = []
    for label in range(count):
        red = green = blue = 0
        for place in range(8):
            triple = label >> 3 * place
            red |= (triple & 1) << 7 - place
            green |= (triple >> 1 & 1) << 7 - place
            blue |= (triple >> 2 & 1) << 7 - place
        colours.append((red, green, blue))
    return tuple(colours)


def segmented_names() -> dict[str, str]:
    """Return what each known segmentation dataset reads, in one sentence."""
    return {name: module.SEGMENTED[name] for name, module in sorted(readers_of("SEGMENTED").items())}


def open_segmented(name: str, directory: Path | str | None = None, **options: Any) -> SegmentedImages:
    """Open a segmentation dataset by name.

    A reader is a file of `tfthesis/data/readers` that defines `SEGMENTED` (names, each with a sentence on what must lie
    in the folder) and `open_segmented(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    return open_by_name("SEGMENTED", "open_segmented", "segmentation dataset", name, directory, options)
