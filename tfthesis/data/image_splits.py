"""What datasets of images share whatever stands beside their images: splits, and rows that may turn out unusable."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from tfthesis.errors import UserError, closest
from tfthesis.lazy import tf

_READERS = 4
#: Metadata of a field of a split that does not have one entry for each image.
NOT_PER_IMAGE = MappingProxyType({"per_image": False})


@dataclasses.dataclass
class ImageSplits:
    """A dataset of images in splits; its subclasses say what a split has beside `ids` and `images`.

    A part of a split has one entry for each image, or is None where a dataset has nothing of the kind, or is a field
    with `NOT_PER_IMAGE` as its metadata.

    Attributes:
        name: of the reader that made it.
        splits: "train", "val", "test"; a dataset may lack some.
        skipped: one line for each image that was left out, with the reason.
        source: what the reader was asked for and did, as JSON values.

    Raises:
        UserError: parts of a split differ in length, or an id occurs twice.
    """

    name: str
    splits: dict[str, Any]
    skipped: list[str] = dataclasses.field(default_factory=list, kw_only=True)
    source: dict[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)

    def __post_init__(self):
        seen: set[str] = set()
        for name, split in self.splits.items():
            fields = [field.name for field in dataclasses.fields(split) if field.metadata.get("per_image", True)]
            lengths = {field: len(getattr(split, field)) for field in fields if getattr(split, field) is not None}
            if len(set(lengths.values())) > 1:
                raise UserError(f"{self.name}: split {name!r}: expected as many {' as '.join(lengths)}, got {lengths}")
            twice = seen.intersection(split.ids)
            if twice or len(set(split.ids)) < len(split.ids):
                raise UserError(f"{self.name}: image ids occur twice, in or before split {name!r}: {sorted(twice)[:3]}")
            seen.update(split.ids)

    def split(self, name: str) -> Any:
        """Return a split.

        Raises:
            UserError: the dataset has no such split.
        """
        if name not in self.splits:
            raise closest(name, list(self.splits), f"split of {self.name}")
        return self.splits[name]

    def counts(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {name: len(split) for name, split in self.splits.items()}

    def fingerprint(self) -> str:
        """Return a digest of all that the dataset holds; of files that of names, sizes and some bytes."""
        raise NotImplementedError(f"{type(self).__name__} does not define its fingerprint")


class ImageRows:
    """The part of `tfthesis.method.Data` that does not depend on what stands beside the images. Rows are images.

    Images that cannot be used are skipped and listed: those in files when a split is first asked for, by `problem`;
    those whose bytes do not decode to their end when they come, by `list_bad`.
    """

    def __init__(self, dataset: ImageSplits):
        self.dataset = dataset
        self._opened: dict[str, Any] = {}
        self._skipped: list[str] = []

    def problem(self, split: str, opened: Any, row: int) -> str:
        """Return why an image in a file cannot be used, or an empty string; raises `UserError` to stop."""
        raise NotImplementedError(f"{type(self).__name__} does not say which images it can use")

    def split(self, name: str) -> Any:
        """Return the usable images of a split; raises `UserError` for an unknown one, or one without any."""
        if name not in self._opened:
            split = self.dataset.split(name)
            if not isinstance(split.images, np.ndarray):
                split = split.take(self._usable(name, lambda row: self.problem(name, split, row), split.ids))
            self._opened[name] = split
        return self._opened[name]

    def size(self, split: str) -> int:
        """Return the number of images of `split`."""
        return len(self.split(split))

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return the names of `rows`."""
        ids = self.split(split).ids
        return [ids[row] for row in np.asarray(rows).tolist()]

    def described(self, **more: Any) -> dict[str, Any]:
        """Return counts, source and skipped images, with what the caller adds."""
        skipped = [*self.dataset.skipped, *self._skipped]
        return {
            "name": self.dataset.name,
            "source": self.dataset.source,
            "counts": self.dataset.counts(),
            **more,
            "skipped": {"count": len(skipped), "items": skipped},
        }

    def list_bad(self, split: str, rows: tf.Tensor, good: tf.Tensor) -> None:
        """List those of `rows` `[b]` that are not `good` (bool `[b]`); works in a graph."""

        def note(rows: np.ndarray, good: np.ndarray) -> np.ndarray:
            for name in self.item_ids(split, rows[~good]):
                line = f"{split}: image {name}: it does not decode, it is damaged or cut off"
                if line not in self._skipped:
                    self._skipped.append(line)
            return good

        tf.numpy_function(note, [rows, good], tf.bool)

    def _usable(self, name: str, problem: Callable[[int], str], ids: list[str]) -> np.ndarray:
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(problem, range(len(ids))))
        self._skipped += [f"{name}: image {ids[row]}: {reason}" for row, reason in enumerate(found) if reason]
        good = np.array([row for row, reason in enumerate(found) if not reason], np.int64)
        if not len(good):
            raise UserError(f"{self.dataset.name}: split {name!r} has no usable image; see the skipped items")
        return good
