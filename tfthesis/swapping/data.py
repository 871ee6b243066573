"""Photos of persons, in pairs of the same clothes, as what SwapGAN trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfthesis.adversarial.data import network_values
from tfthesis.data.images import check_source, decode, read_image, resize
from tfthesis.data.person_images import BODY, MAPS, People, PersonImages, check_map
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.swapping.representations import body_mask, draw_pose, head_mask, scale_joints

#: Names of the model's inputs.
INPUTS = ("condition", "reference", "pose", "segments", "reference_mask", "condition_mask")


@dataclasses.dataclass(frozen=True)
class Opened:
    """The persons of a split at the size of the networks.

    Attributes:
        ids: of the images.
        images: uint8 `[N, H, W, 3]`.
        joints: float32 `[N, 18, 3]`, in pixels of these images.
        poses: uint8 `[N, H, W, 3]`, those of the dataset, or drawn from the joints.
        segments: uint8 `[N, H, W]`, labels of `BODY`.
        masks: bool `[N, H, W]`, True on the person: those of the dataset, or from the segments.
        heads: bool `[N, H, W]`, True on what is pasted: those of the dataset, or from the segments.
        pairs: int `[P, 2]`, rows of two images of one person in the same clothes.
        labels: int `[N]` of the clothes, where the dataset has any.
    """

    ids: list[str]
    images: np.ndarray
    joints: np.ndarray
    poses: np.ndarray
    segments: np.ndarray
    masks: np.ndarray
    heads: np.ndarray
    pairs: np.ndarray
    labels: np.ndarray | None


class _Person(NamedTuple):
    """A row of the fields of `Opened` that are named alike."""

    images: np.ndarray
    joints: np.ndarray
    poses: np.ndarray
    segments: np.ndarray
    masks: np.ndarray
    heads: np.ndarray


class SwapData:
    """Pairs of photos of one person in the same clothes; implements `tfthesis.method.Data`.

    A row is a pair. Which of the two is the reference is drawn by (seed, epoch, row) in training; elsewhere it is the
    first. A split is read when it is first asked for: images and maps are scaled to one size, their sides apart, joints
    with them, and kept in memory. Poses, masks and heads that the dataset has are scaled as photos and segments are;
    those that it lacks are derived at the networks' size. Images that cannot be decoded are skipped and listed, with
    the pairs they are in.

    Args:
        dataset: what a reader returned.
        height, width: of the networks.
    """

    def __init__(self, dataset: PersonImages, height: int, width: int):
        self.dataset, self.height, self.width = dataset, height, width
        self._opened: dict[str, Opened] = {}
        self._skipped: list[str] = []
        self.spec = Spec(
            inputs={
                "condition": (height, width, 3),
                "reference": (height, width, 3),
                "pose": (height, width, 3),
                "segments": (height, width, len(BODY)),
                "reference_mask": (height, width, 1),
                "condition_mask": (height, width, 1),
            },
            classes=tuple(dataset.classes),
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
            extra={"body": list(BODY)},
        )

    def opened(self, split: str) -> Opened:
        """Return the persons of a split; raises `UserError` for an unknown one, or one without usable images."""
        if split not in self._opened:
            self._opened[split] = self._read(split)
        return self._opened[split]

    def _read(self, split: str) -> Opened:
        people = self.dataset.split(split)
        found = [self._person(split, people, row) for row in range(len(people.ids))]
        good = np.flatnonzero([person is not None for person in found])
        if not len(good):
            raise UserError(f"{self.dataset.name}: split {split!r} has no usable image; see the skipped items")
        usable = _Person(*map(np.stack, zip(*(found[row] for row in good.tolist()), strict=True)))
        places = np.full(len(people.ids), -1)
        places[good] = np.arange(len(good))
        pairs = places[np.asarray(people.pairs, np.int64).reshape(-1, 2)]
        return Opened(
            [people.ids[row] for row in good.tolist()],
            *usable,
            pairs[(pairs >= 0).all(axis=1)],
            None if people.labels is None else np.asarray(people.labels)[good],
        )

    def _person(self, split: str, people: People, row: int) -> _Person | None:
        """Return a person at the networks' size, or nothing, with a line on what is wrong with the photo."""
        pixels = self._pixels(split, people.ids[row], people.images[row])
        if pixels is None:
            return None
        size = (self.height, self.width)
        joints = scale_joints(people.joints[row], pixels.shape[:2], size)
        segments, pose, mask, head = (self._map(people, kind, row, pixels.shape[:2]) for kind in MAPS)
        return _Person(
            _scaled_photo(pixels, size),
            joints,
            draw_pose(joints, *size) if pose is None else pose,
            segments,
            body_mask(segments) if mask is None else mask,
            head_mask(segments) if head is None else head,
        )

    def _map(self, people: People, kind: str, row: int, photo: tuple[int, ...]) -> np.ndarray | None:
        """Return a map of `MAPS` at the networks' size, where the dataset has it; `photo` is the size it must have."""
        found = people.read(kind, row)
        if found is None:
            return None
        what = f"{self.dataset.name}: {kind} of {people.ids[row]}"
        check_map(found, kind, what)
        if found.shape[:2] != photo:
            raise UserError(
                f"{what}: the image has {photo[1]} x {photo[0]} pixels, the map {found.shape[1]} x {found.shape[0]}; "
                "expected one size"
            )
        size = (self.height, self.width)
        return _scaled_photo(found, size) if kind == "poses" else _scaled_labels(found, size)

    def _pixels(self, split: str, name: str, image: Any) -> np.ndarray | None:
        """Return an image uint8 `[h, w, 3]`; one that cannot be decoded is listed."""
        if isinstance(image, np.ndarray):
            return image
        try:
            check_source(image)
            return decode(tf.constant(read_image(image))).numpy()
        except (UserError, tf.errors.InvalidArgumentError) as error:
            reason = str(error) if isinstance(error, UserError) else "it does not decode, it is damaged or cut off"
            self._skipped.append(f"{split}: image {name}: {reason}")
            return None

    def size(self, split: str) -> int:
        """Return the pairs of `split`.

        Raises:
            UserError: an unknown split, no pair to train on, or one image alone where swaps are measured.
        """
        if split not in self.dataset.splits:
            raise UserError(
                f"{self.dataset.name}: expected a split {split!r}, got {', '.join(self.dataset.splits)} alone; "
                "training needs 'train' with pairs, 'val' and 'test' (of person_folders the column split of photos.csv "
                "says which photo is where), and data without them can only be measured"
            )
        opened = self.opened(split)
        count = len(opened.pairs)
        if split == "train" and not count:
            raise UserError(
                f"{self.dataset.name}: split 'train' has no pairs; training needs two images of one person in the same "
                "clothes and different poses"
            )
        if split != "train" and len(opened.ids) < 2:
            # An epoch would be over before the measuring tells.
            raise UserError(f"{self.dataset.name}: split {split!r} has 1 usable image; a swap is of two")
        return count

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return the names of both images of each row."""
        opened = self.opened(split)
        return [" and ".join(opened.ids[place] for place in pair) for pair in opened.pairs[np.asarray(rows)].tolist()]

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too.

        Inputs: those of `tfthesis.models.SwapGAN`. Targets: "row" int64 `[n]`.
        """
        opened = self.opened(split)
        indices = [np.asarray(row, np.int64) for row in rows]

        def gather(number: np.int64) -> tuple[np.ndarray, ...]:
            batch = indices[number]
            reference, condition = self._sides(opened.pairs[batch], split, batch, key).T
            return batch, *persons(opened, reference, condition)

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, *values = tf.numpy_function(gather, [number], [tf.int64, *types])
            batch.set_shape([None])
            return network_inputs(*(tf.ensure_shape(v, shape) for v, shape in zip(values, shapes, strict=True))), {
                "row": batch
            }

        size = (None, self.height, self.width)
        shapes = [(*size, 3), (*size, 3), (*size, 3), size, size, size]
        types = [tf.uint8] * 4 + [tf.bool] * 2
        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images."""
        skipped = [*self.dataset.skipped, *self._skipped]
        return {
            "name": self.dataset.name,
            "source": self.dataset.source,
            "counts": self.dataset.counts(),
            "pairs": {name: len(split.pairs) for name, split in self.dataset.splits.items()},
            "fingerprint": self.spec.dataset["fingerprint"],
            "size": [self.height, self.width],
            "skipped": {"count": len(skipped), "items": skipped},
        }

    @staticmethod
    def _sides(pairs: np.ndarray, split: str, rows: np.ndarray, key: tuple[int, int]) -> np.ndarray:
        """Return (reference, condition) of each pair `[n, 2]`."""
        if split != "train":
            return pairs
        lots = [np.random.default_rng((*key, row)).integers(2) for row in rows.tolist()]
        return np.where(np.array(lots, bool).reshape(-1, 1), pairs[:, ::-1], pairs)


def persons(opened: Opened, reference: np.ndarray, condition: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what `network_inputs` takes of references and conditions, rows `[n]` of a split."""
    return (
        opened.images[condition],
        opened.images[reference],
        opened.poses[reference],
        opened.segments[condition],
        opened.masks[reference],
        opened.masks[condition],
    )


def network_inputs(
    condition: Any, reference: Any, pose: Any, condition_segments: Any, reference_mask: Any, condition_mask: Any
) -> dict[str, tf.Tensor]:
    """Return the inputs of `tfthesis.models.SwapGAN`.

    Args:
        condition, reference, pose: uint8 `[n, H, W, 3]`.
        condition_segments: uint8 `[n, H, W]`, labels of `BODY`.
        reference_mask, condition_mask: bool `[n, H, W]`.
    """
    masks = (tf.cast(mask, tf.float32)[..., None] for mask in (reference_mask, condition_mask))
    images = (network_values(image) for image in (condition, reference, pose))
    segments = tf.one_hot(tf.cast(condition_segments, tf.int32), len(BODY))
    return dict(zip(INPUTS, (*images, segments, *masks), strict=True))


def _scaled_photo(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 `[h, w, 3]` scaled to `size`; where it has that already nothing changes."""
    if pixels.shape[:2] == size:
        return pixels
    return tf.cast(tf.round(resize(tf.constant(pixels), *size, mode="stretch")), tf.uint8).numpy()


def _scaled_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return labels or regions `[h, w]` scaled to `size` by the nearest pixel."""
    if labels.shape == size:
        return labels
    scaled = tf.image.resize(labels[..., None].astype(np.uint8), size, method="nearest")[..., 0]
    return scaled.numpy().astype(labels.dtype)
