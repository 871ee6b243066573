"""Photos of persons with their joints and body parts, as the readers of clothing datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfthesis.data.image_splits import NOT_PER_IMAGE, ImageSplits
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.segmented_images import LazyMap
from tfthesis.errors import UserError

if TYPE_CHECKING:
    from tfthesis.data.images import ImageSource

#: Labels of a segmentation in their order (Liu 2018, section 8.2.1); the first is what is no person.
BODY = ("background", "head", "arms", "legs", "upper", "lower")
#: Fields of `People` beside the photos, a map for each: the first has labels of `BODY`, the others may be None, which
#: are then derived from it and from the joints.
MAPS = ("segments", "poses", "masks", "heads")
#: The 18 key points in OpenPose's order for COCO; right and left are the person's.
JOINTS = (
    *("nose", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)


@dataclasses.dataclass(frozen=True)
class People:
    """One split.

    Attributes:
        ids: a name for each image, unique within a dataset.
        images: uint8 `[N, H, W, 3]`, or a source each.
        joints: float32 `[N, 18, 3]` in the order of `JOINTS`: x from the left and y from the top edge in pixels of the
            image (the middle of its first pixel is .5), and a confidence, 0 where the joint was not found.
        segments: uint8 `[N, H, W]`, or maps that are read when they are needed; labels of `BODY`.
        pairs: int32 `[P, 2]`, rows of two images of one person in the same clothes and different poses. Without any the
            images can be swapped, but nothing can be trained on them.
        labels: int32 `[N]`, the class of the clothes, or None.
        poses: uint8 `[N, H, W, 3]`, drawings of the joints, or what is read as such when it is needed; None where they
            are drawn (`tfthesis.swapping.representations.draw_pose`).
        masks: bool `[N, H, W]`, True on the person, or what is read as such; None where the segments tell it.
        heads: bool `[N, H, W]`, True on the head and hair, or what is read as such; None where the segments tell it.
    """

    ids: list[str]
    images: np.ndarray | list[ImageSource]
    joints: np.ndarray
    segments: np.ndarray | list[LazyMap]
    pairs: np.ndarray = dataclasses.field(metadata=NOT_PER_IMAGE)
    labels: np.ndarray | None = None
    poses: np.ndarray | list[LazyMap] | None = None
    masks: np.ndarray | list[LazyMap] | None = None
    heads: np.ndarray | list[LazyMap] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def segment(self, row: int) -> np.ndarray:
        """Return the body parts of an image, uint8 `[H, W]`; raises `UserError` for a file that cannot be read."""
        return self.read("segments", row)

    def read(self, kind: str, row: int) -> np.ndarray | None:
        """Return what `kind`, one of `MAPS`, has for an image, or None where the dataset has none of it.

        Raises:
            UserError: a file that cannot be read, or holds other things.
        """
        values = getattr(self, kind)
        if isinstance(values, list):
            return values[row].read()
        return None if values is None else values[row]

    def take(self, rows: Sequence[int] | np.ndarray) -> People:
        """Return the images of `rows`, in their order, and the pairs of which both are among them."""
        rows = np.asarray(rows, np.int64)
        places = np.full(len(self), -1, np.int32)
        places[rows] = np.arange(len(rows), dtype=np.int32)
        pairs = places[self.pairs]
        each = [field.name for field in dataclasses.fields(self) if field.metadata.get("per_image", True)]
        taken = {name: _taken(getattr(self, name), rows) for name in each}
        return People(**taken, pairs=pairs[(pairs >= 0).all(axis=1)])


def _taken(values: np.ndarray | list[Any] | None, rows: np.ndarray) -> np.ndarray | list[Any] | None:
    if isinstance(values, list):
        return [values[row] for row in rows.tolist()]
    return None if values is None else values[rows]


@dataclasses.dataclass
class PersonImages(ImageSplits):
    """A dataset of persons; its splits are `People`.

    Attributes:
        classes: names of the labels of the clothes; empty without labels.

    Raises:
        UserError: see `ImageSplits`; or joints, pairs or labels of another shape or range, or maps in memory of another
            size than their images or with other values than theirs.
    """

    classes: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        for name, split in self.splits.items():
            what = f"{self.name}: split {name!r}"
            if split.joints.shape != (len(split), len(JOINTS), 3) or not np.isfinite(split.joints).all():
                raise UserError(
                    f"{what}: joints: expected finite numbers {[len(split), len(JOINTS), 3]} (x, y and confidence), "
                    f"got {list(split.joints.shape)}"
                )
            self._check_pairs(split, what)
            self._check_labels(split, what)
            for kind in MAPS:
                if isinstance(getattr(split, kind), np.ndarray):
                    self._check_maps(split, kind, what)

    @staticmethod
    def _check_pairs(split: People, what: str) -> None:
        pairs = split.pairs
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise UserError(f"{what}: pairs: expected two rows each, [P, 2], got {list(pairs.shape)}")
        wrong = pairs[(pairs < 0).any(axis=1) | (pairs >= len(split)).any(axis=1) | (pairs[:, 0] == pairs[:, 1])]
        if len(wrong):
            raise UserError(
                f"{what}: pairs: expected two different images, rows 0 to {len(split) - 1}, got {wrong[0].tolist()}"
            )

    def _check_labels(self, split: People, what: str) -> None:
        if (split.labels is None) == bool(self.classes):
            raise UserError(f"{what}: expected labels and the names of their classes, or neither")
        if (
            split.labels is not None
            and len(split)
            and not 0 <= split.labels.min() <= split.labels.max() < len(self.classes)
        ):
            raise UserError(
                f"{what}: labels: expected 0 to {len(self.classes) - 1}, got {split.labels.min()} to "
                f"{split.labels.max()}"
            )

    @staticmethod
    def _check_maps(split: People, kind: str, what: str) -> None:
        maps = getattr(split, kind)
        if isinstance(split.images, np.ndarray) and maps.shape[:3] != split.images.shape[:3]:
            raise UserError(
                f"{what}: {kind}: expected maps of the size of the images, {list(split.images.shape[:3])}, got "
                f"{list(maps.shape[:3])}"
            )
        check_map(maps, kind, f"{what}: {kind}", batch=1)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that the dataset holds; of files that of names, sizes and some bytes."""
        digest = hashlib.sha256(json.dumps([self.name, self.classes, self.source], sort_keys=True).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.ids, np.asarray(split.pairs).tolist()]).encode())
            digest.update(np.ascontiguousarray(split.joints, np.float32))
            if split.labels is not None:
                digest.update(np.ascontiguousarray(split.labels, np.int32))
            _add(digest, split.images, image_identity)
            _add(digest, split.segments, lambda found: found.identity())
            for kind in MAPS[1:]:
                if getattr(split, kind) is not None:
                    digest.update(kind.encode())
                    _add(digest, getattr(split, kind), lambda found: found.identity())
        return digest.hexdigest()


def check_map(values: np.ndarray, kind: str, what: str, batch: int = 0) -> None:
    """Raise `UserError` if a map has another type, number of axes or values than those of its kind in `MAPS`.

    Args:
        values: `[H, W]`, of poses `[H, W, 3]`, behind `batch` further axes.
        kind: whose maps these are.
        what: names it in the message.
        batch: number of axes before height and width.
    """
    dtype, channels = (bool, ()) if kind in ("masks", "heads") else (np.uint8, (3,) if kind == "poses" else ())
    if values.dtype != dtype or values.ndim != batch + 2 + len(channels) or values.shape[batch + 2 :] != channels:
        axes = ", ".join(["N", "H", "W", *map(str, channels)][1 - batch :])
        raise UserError(
            f"{what}: expected {np.dtype(dtype).name} [{axes}], got {values.dtype.name} {list(values.shape)}"
        )
    if kind == "segments" and values.size and values.max() >= len(BODY):
        raise UserError(f"{what}: expected labels 0 to {len(BODY) - 1} ({', '.join(BODY)}), got {values.max()}")


def _add(digest: Any, values: np.ndarray | list[Any], identity: Callable[[Any], list[Any]]) -> None:
    """Let a digest take in an array, or what tells files and other sources apart."""
    if isinstance(values, np.ndarray):
        digest.update(np.ascontiguousarray(values))
    else:
        digest.update(json.dumps([identity(value) for value in values]).encode())


def person_names() -> dict[str, str]:
    """Return what each known dataset of persons reads, in one sentence."""
    return {name: module.PEOPLE[name] for name, module in sorted(readers_of("PEOPLE").items())}


def open_people(name: str, directory: Path | str | None = None, **options: Any) -> PersonImages:
    """Open a dataset of persons by name.

    A reader is a file of `tfthesis/data/readers` that defines `PEOPLE` (names, each with a sentence on what must lie in
    the folder) and `open_people(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    return open_by_name("PEOPLE", "open_people", "dataset of persons", name, directory, options)
