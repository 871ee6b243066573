"""Images with their captions and labels, as every reader returns them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfthesis.errors import UserError, closest

if TYPE_CHECKING:
    from tfthesis.data.images import ImageSource

FOLD = "fold"
# What is read of an image file for its fingerprint: evenly spaced blocks, the first and the last bytes among them. A
# compressed picture that changes differs from there to its end; in an uncompressed one a change may hide between them.
_BLOCKS, _BLOCK_BYTES = 8, 4096


@dataclasses.dataclass(frozen=True)
class ImageTextItem:
    """An image with its captions.

    Attributes:
        id: unique within a dataset.
        image: a path, bytes, or a `LazyImage`; None where only features are known.
        captions: its sentences.
        labels: names of its classes; exactly one in a single-label dataset.
    """

    id: str
    image: ImageSource | None
    captions: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclasses.dataclass
class ImageTextDataset:
    """Items by split, and what is known of them all.

    Attributes:
        name: of the reader that made it.
        splits: items of "train", "val", "test"; a dataset may lack some.
        classes: label names in their fixed order; empty without labels.
        multi_label: whether an item may carry several of the classes.
        skipped: one line for each item that was left out, with the reason.
        features: precomputed `features["image"][split]` `[N, D]` and `features["text"][split]` `[M, D]`, one row an
            image and a caption; a modality may be missing.
        source: what the reader was asked for and did (options, versions), as JSON values.

    Raises:
        UserError: an id occurs twice, a label is unknown, or features do not fit the items.
    """

    name: str
    splits: dict[str, list[ImageTextItem]]
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    skipped: list[str] = dataclasses.field(default_factory=list)
    features: dict[str, dict[str, np.ndarray]] | None = None
    source: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self._fingerprint: str | None = None
        self._check_items()
        for modality, arrays in (self.features or {}).items():
            for split, array in arrays.items():
                items = self.items(split)
                expected = len(items) if modality == "image" else sum(len(item.captions) for item in items)
                if array.ndim != 2 or len(array) != expected:
                    raise UserError(
                        f"{self.name}: {modality} features of split {split!r}: expected {expected} rows, "
                        f"one for each {'image' if modality == 'image' else 'caption'}, got shape {array.shape}"
                    )

    def _check_items(self) -> None:
        seen: dict[str, str] = {}
        known = set(self.classes)
        for split, items in self.splits.items():
            for item in items:
                if item.id in seen:
                    raise UserError(f"{self.name}: image {item.id!r} is in {seen[item.id]!r} and again in {split!r}")
                seen[item.id] = split
                if not item.captions:
                    raise UserError(f"{self.name}: image {item.id!r} of split {split!r} has no caption")
                if not known.issuperset(item.labels):
                    raise UserError(f"{self.name}: image {item.id!r} has unknown labels {set(item.labels) - known}")
                if known and not self.multi_label and len(item.labels) != 1:
                    raise UserError(f"{self.name}: image {item.id!r}: expected one label, got {item.labels}")

    def items(self, split: str) -> list[ImageTextItem]:
        """Return the items of a split.

        Raises:
            UserError: the dataset has no such split.
        """
        if split not in self.splits:
            raise closest(split, list(self.splits), f"split of {self.name}")
        return self.splits[split]

    def fingerprint(self) -> str:
        """Return the SHA-256 of items, images, labels, features and source, in hexadecimal.

        Of image files the name, the size and some of the bytes enter (all of a small file), so that a folder may be
        moved and a large one is opened quickly.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(_json([self.name, self.classes, self.multi_label, self.source]))
            for split, items in self.splits.items():
                for item in items:
                    digest.update(_json([split, item.id, item.captions, item.labels, image_identity(item.image)]))
            for modality, arrays in (self.features or {}).items():
                for split, array in arrays.items():
                    digest.update(_json([modality, split, array.shape, str(array.dtype)]))
                    digest.update(np.ascontiguousarray(array))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def modality_fingerprint(self, modality: str, split: str) -> str:
        """Return the SHA-256 of the images or of the captions of a split alone: all that their features depend on."""
        items = self.items(split)
        parts = [image_identity(item.image) if modality == "image" else item.captions for item in items]
        return hashlib.sha256(_json([modality, parts])).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images and captions of each split."""
        return {
            split: {"images": len(items), "captions": sum(len(item.captions) for item in items)}
            for split, items in self.splits.items()
        }


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def image_identity(image: ImageSource | None) -> list[Any]:
    """Return what enters a dataset's fingerprint for an image: its name, and size and some of the bytes of a file."""
    if image is None:
        return []
    if isinstance(image, bytes):
        return [hashlib.sha256(image).hexdigest()]
    if not isinstance(image, Path):
        return [image.name]
    try:
        with image.open("rb") as file:
            size = file.seek(0, 2)
            digest = hashlib.sha256()
            for start in np.linspace(0, max(size - _BLOCK_BYTES, 0), _BLOCKS).astype(int).tolist():
                file.seek(start)
                digest.update(file.read(_BLOCK_BYTES))
            return [image.name, size, digest.hexdigest()]
    except OSError:
        return [image.name, None]


def readers_of(kind: str) -> dict[str, ModuleType]:
    """Return the reader of each dataset name: the files of `tfthesis/data/readers` that define `kind`."""
    import tfthesis.data.readers as package

    found = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{package.__name__}.{file}")
        found.update(dict.fromkeys(getattr(module, kind, {}), module))
    return found


def open_by_name(
    kind: str,
    function: str,
    what: str,
    name: str,
    directory: Path | str | None,
    options: Mapping[str, Any],
    *,
    further: Sequence[str] = (),
) -> Any:
    """Return what the reader of dataset `name` returns.

    Args:
        kind: what readers call the names that they know, such as "DATASETS"; see `readers_of`.
        function: of the reader, called with name, folder and options.
        what: word for such a dataset in messages.
        name: of the dataset.
        directory: where it lies, if it lies anywhere.
        options: keyword arguments of the function.
        further: options that the caller knows beside them, for messages.

    Raises:
        UserError: unknown name or option, or no such folder; and what the reader raises.
    """
    readers = readers_of(kind)
    if name not in readers:
        raise closest(name, sorted(readers), what)
    reader = readers[name]
    opened = getattr(reader, function)
    known = list(inspect.signature(opened).parameters)[2:]
    for option in options:
        if option not in known:
            raise closest(option, [*known, *further], f"option of dataset {name!r}")
    folder = None if directory is None else Path(directory)
    if folder is not None and not folder.is_dir():
        raise UserError(f"dataset {name!r}: no folder {folder}; expected {getattr(reader, kind)[name]}")
    return opened(name, folder, **options)


def dataset_names() -> dict[str, str]:
    """Return what each known dataset name reads, in one sentence."""
    return {name: module.DATASETS[name] for name, module in sorted(readers_of("DATASETS").items())}


def open_image_text(name: str, directory: Path | str | None = None, **options: Any) -> ImageTextDataset:
    """Open a dataset by name.

    Args:
        name: one of `dataset_names()`.
        directory: where it lies, in its own published layout; not needed for drawn scenes.
        options: keyword arguments of the reader's `open_dataset`; for every reader also `fold`, such as "0/5",
            which divides `train` and `val` anew (see `tfthesis.data.folds.take_fold`).

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    fold = options.pop(FOLD, None)
    dataset = open_by_name("DATASETS", "open_dataset", "dataset", name, directory, options, further=(FOLD,))
    if fold is None:
        return dataset
    from tfthesis.data.folds import take_fold

    return take_fold(dataset, fold)


def required(directory: Path | None, name: str, layout: str) -> Path:
    """Return `directory`, or raise the `UserError` that says what should lie there."""
    if directory is None:
        raise UserError(f"dataset {name!r}: give its folder (--data-dir); expected {layout}")
    return directory
