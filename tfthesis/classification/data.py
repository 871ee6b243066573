"""Labelled images as what a network trains on: pixels, cropped and mirrored by lot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.image_splits import ImageRows
from tfthesis.data.images import DamagedImageError, ImageSource, check_source, decode_batch, read_image
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit
from tfthesis.errors import UserError
from tfthesis.method import Spec


@dataclasses.dataclass(frozen=True)
class Crops:
    """How a training image becomes an input.

    Attributes:
        size: side of the network's input in pixels.
        resize: side to which image files are stretched first.
        pad: zeros added on every side before a crop is taken.
        random: crop at a random place, instead of the middle.
        mirror: flip every other image, by lot.
    """

    size: int
    resize: int
    pad: int = 0
    random: bool = False
    mirror: bool = False


class ImageClassData(ImageRows):
    """Images with their classes; implements `tfthesis.method.Data`. Its rows are images.

    Only training images are cropped and mirrored by lot; the lot of an image depends on seed, epoch and row alone.
    Files that cannot be read, or whose header is no image, are skipped when a split is first asked for, which reads
    the beginning of every file; damaged ones, and those that do not decode to their end, are left out of their batch
    and listed.

    Raises:
        UserError: images in memory are not of the side that the network takes.
    """

    def __init__(self, dataset: LabelledImages, crops: Crops):
        super().__init__(dataset)
        self.crops = crops
        for name, split in dataset.splits.items():
            if isinstance(split.images, np.ndarray) and split.images.shape[1:3] != (crops.resize, crops.resize):
                height, width = split.images.shape[1:3]
                raise UserError(
                    f"{dataset.name}: images of split {name!r} have {height} x {width} pixels, the network takes "
                    f"{crops.resize} x {crops.resize}; choose another network or dataset"
                )
        if crops.size > crops.resize + 2 * crops.pad:
            raise UserError(f"crops of {crops.size} pixels do not fit into {crops.resize} + 2 x {crops.pad}")
        self.spec = Spec(
            inputs={"image": (crops.size, crops.size, 3)},
            classes=dataset.classes,
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
            extra={"resize": crops.resize},
        )

    def problem(self, split: str, opened: LabelledSplit, row: int) -> str:
        """Return why the beginning of an image's file is no image, or an empty string."""
        try:
            check_source(opened.images[row])
        except UserError as error:
            return str(error)
        return ""

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int] | None) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too.

        Without a `key` training images are not cropped and mirrored by lot either, as for evaluation.

        Inputs: "image" float32 `[b, size, size, 3]` in 0..255. Targets: "label" int64 `[b]`, "row" int64 `[b]`.
        """
        opened, indices = self.split(split), [np.asarray(row, np.int64) for row in rows]
        in_memory = isinstance(opened.images, np.ndarray)
        kind = tf.uint8 if in_memory else tf.string

        def gather(number: np.int64) -> tuple[np.ndarray, ...]:
            batch = indices[number]
            if in_memory:
                images = opened.images[batch]
            else:
                images = np.array([_read(opened.images[row]) for row in batch.tolist()], object)
            return batch, opened.labels[batch], images, self._lots(split, batch, key)

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, label, images, lots = tf.numpy_function(gather, [number], [tf.int64, tf.int64, kind, tf.int64])
            for value in (batch, label):
                value.set_shape([None])
            lots.set_shape([None, 3])
            side = self.crops.resize
            if in_memory:
                images.set_shape([None, side, side, 3])
                pixels = tf.cast(images, tf.float32)
            else:
                images.set_shape([None])
                pixels, good = decode_batch(images, side, side, mode="stretch")
                self.list_bad(split, batch, good)
                pixels, batch, label, lots = (tf.boolean_mask(value, good) for value in (pixels, batch, label, lots))
            return {"image": self._cropped(pixels, lots)}, {"label": label, "row": batch}

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images."""
        return self.described(
            fingerprint=self.spec.dataset["fingerprint"],
            classes=len(self.dataset.classes),
            crops=dataclasses.asdict(self.crops),
        )

    def _lots(self, split: str, rows: np.ndarray, key: tuple[int, int] | None) -> np.ndarray:
        """Return upper edge, left edge and whether to mirror, int64 `[b, 3]`."""
        room = self.crops.resize + 2 * self.crops.pad - self.crops.size
        lots = np.full((len(rows), 3), room // 2, np.int64)
        lots[:, 2] = 0
        if split != "train" or key is None:
            return lots
        for place, row in enumerate(rows.tolist()):
            random = np.random.default_rng((*key, row))
            if self.crops.random:
                lots[place, :2] = random.integers(0, room + 1, 2)
            if self.crops.mirror:
                lots[place, 2] = random.integers(0, 2)
        return lots

    def _cropped(self, pixels: tf.Tensor, lots: tf.Tensor) -> tf.Tensor:
        size, pad = self.crops.size, self.crops.pad
        if pad:
            pixels = tf.pad(pixels, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        if size == self.crops.resize + 2 * pad and not self.crops.mirror:
            return pixels

        def one(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, lot = item
            crop = tf.slice(image, [lot[0], lot[1], tf.constant(0, tf.int64)], [size, size, 3])
            return tf.cond(lot[2] > 0, lambda: tf.reverse(crop, [1]), lambda: crop)

        return tf.map_fn(one, (pixels, lots), fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))


def _read(image: ImageSource) -> bytes:
    """Return the bytes of an image file; none of a damaged one, which does not decode then."""
    try:
        return read_image(image)
    except DamagedImageError:
        return b""
