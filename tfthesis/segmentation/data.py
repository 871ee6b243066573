"""Images and their maps of labels as what a network of one input size trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.image_splits import ImageRows
from tfthesis.data.images import decode, read_image, robust_map, upright_size
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.segmentation.fields import Field


class SegmentationData(ImageRows):
    """Images with a class at each pixel; implements `tfthesis.method.Data`. Its rows are images.

    Files are read once when a split is first asked for: an image or a map that cannot be read is skipped and listed, a
    map of another size than its image, or with a label that is no class, is an error. Images whose bytes do not
    decode to their end are left out of their batch and listed.

    Args:
        dataset: what a reader returned.
        field: the size that the network takes.
        mirror: flip every other training image, by a lot that depends on seed, epoch and row alone.

    Raises:
        UserError: images in memory have another size than `field`.
    """

    def __init__(self, dataset: SegmentedImages, field: Field, mirror: bool = False):
        super().__init__(dataset)
        self.field, self.mirror = field, mirror
        for name, split in dataset.splits.items():
            for values in (split.images, split.maps):
                if isinstance(values, np.ndarray) and values.shape[1:3] != (field.height, field.width):
                    raise UserError(
                        f"{dataset.name}: split {name!r} has {values.shape[1]} x {values.shape[2]} pixels, the network "
                        f"takes {field.height} x {field.width}; set height and width"
                    )
        self.spec = Spec(
            inputs={"image": (field.height, field.width, 3)},
            classes=dataset.classes,
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
            extra={"colours": dataset.colours, "background": dataset.background},
        )

    def problem(self, split: str, opened: SegmentedSplit, row: int) -> str:
        """Return why an image or its map cannot be read, or an empty string.

        Raises:
            UserError: the map has another size than the upright image, or a label that is no class.
        """
        try:
            size = upright_size(read_image(opened.images[row]))
            labels = opened.maps[row].read()
        except UserError as error:
            return str(error)
        if labels.shape != size:
            raise UserError(
                f"{self.dataset.name}: image {opened.ids[row]} of split {split!r} has {size[0]} x {size[1]} pixels, "
                f"its map {labels.shape[0]} x {labels.shape[1]}; expected one size"
            )
        self.dataset.check_labels(labels, f"{opened.ids[row]}, split {split!r}")
        return ""

    def map(self, split: str, row: int) -> np.ndarray:
        """Return the labels uint8 `[h, w]` of an image at its own size."""
        labels = self.split(split).maps[row]
        return labels if isinstance(labels, np.ndarray) else labels.read()

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int] | None) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too.

        Without a `key` training images are not mirrored either, as for evaluation.

        Inputs: "image" float32 `[b, H, W, 3]` in 0..255. Targets: "labels" uint8 `[b, H, W]`, "size" int32 `[b, 2]`,
        height and width of the image before it was placed, "row" int64 `[b]`.
        """
        opened = self.split(split)
        indices = [np.asarray(row, np.int64) for row in rows]
        in_memory = isinstance(opened.images, np.ndarray)
        kinds = [
            tf.int64,
            tf.int32,
            tf.uint8 if in_memory else tf.string,
            tf.uint8 if in_memory else tf.string,
            tf.bool,
        ]

        def gather(number: np.int64) -> tuple[np.ndarray, ...]:
            batch = indices[number]
            if in_memory:
                images, maps = opened.images[batch], opened.maps[batch]
                sizes = np.broadcast_to(np.int32(maps.shape[1:]), (len(batch), 2))
            else:
                labels = [opened.maps[row].read() for row in batch.tolist()]
                sizes = np.array([own.shape for own in labels], np.int32).reshape(-1, 2)
                maps = np.array([own.tobytes() for own in labels], object)
                images = np.array([read_image(opened.images[row]) for row in batch.tolist()], object)
            return batch, sizes, images, maps, self._lots(split, batch, key)

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, size, images, maps, lots = tf.numpy_function(gather, [number], kinds)
            for value in (batch, lots):
                value.set_shape([None])
            size.set_shape([None, 2])
            height, width = self.field.height, self.field.width
            if in_memory:
                pixels, labels = tf.cast(images, tf.float32), maps
            else:
                images.set_shape([None])
                maps.set_shape([None])
                pixels, good = robust_map(lambda data: self.field.place_image(decode(data)), images, [height, width, 3])
                self.list_bad(split, batch, good)
                pixels, batch, size, maps, lots = (
                    tf.boolean_mask(value, good) for value in (pixels, batch, size, maps, lots)
                )
                labels = self._placed_labels(maps, size)
            pixels.set_shape([None, height, width, 3])
            labels.set_shape([None, height, width])
            if self.mirror:
                pixels, labels = self._mirrored(pixels, size, lots), self._mirrored(labels, size, lots)
            return {"image": pixels}, {"labels": labels, "size": size, "row": batch}

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images."""
        return self.described(
            fingerprint=self.spec.dataset["fingerprint"],
            classes=len(self.dataset.classes),
            field=[self.field.height, self.field.width],
            mirror=self.mirror,
        )

    def _lots(self, split: str, rows: np.ndarray, key: tuple[int, int] | None) -> np.ndarray:
        """Return whether to mirror each of `rows`."""
        if not self.mirror or split != "train" or key is None:
            return np.zeros(len(rows), bool)
        return np.array([np.random.default_rng((*key, row)).integers(2) > 0 for row in rows.tolist()], bool)

    def _placed_labels(self, maps: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        def one(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            values, size = item
            return self.field.place_labels(tf.reshape(tf.io.decode_raw(values, tf.uint8), size))

        spec = tf.TensorSpec([self.field.height, self.field.width], tf.uint8)
        return tf.map_fn(one, (maps, sizes), fn_output_signature=spec)

    def _mirrored(self, values: tf.Tensor, sizes: tf.Tensor, lots: tf.Tensor) -> tf.Tensor:
        def one(item: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
            value, size, lot = item
            return tf.cond(lot, lambda: self.field.mirror(value, size), lambda: value)

        return tf.map_fn(one, (values, sizes, lots), fn_output_signature=tf.TensorSpec(values.shape[1:], values.dtype))
