"""Images and their maps of labels as what a network of one input size trains on."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.images import decode, read_image, robust_map, upright_size
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.segmentation.fields import Field

_READERS = 4


class SegmentationData:
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
        self.dataset, self.field, self.mirror = dataset, field, mirror
        for name, split in dataset.splits.items():
            for values in (split.images, split.maps):
                if isinstance(values, np.ndarray) and values.shape[1:3] != (field.height, field.width):
                    raise UserError(
                        f"{dataset.name}: split {name!r} has {values.shape[1]} x {values.shape[2]} pixels, the network "
                        f"takes {field.height} x {field.width}; set height and width"
                    )
        self._opened: dict[str, tuple[SegmentedSplit, np.ndarray]] = {}
        self._skipped: list[str] = []
        self.spec = Spec(
            inputs={"image": (field.height, field.width, 3)},
            classes=dataset.classes,
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
            extra={"colours": dataset.colours, "background": dataset.background},
        )

    def split(self, name: str) -> SegmentedSplit:
        """Return the usable images of a split; raises `UserError` for an unknown one, or one without any."""
        return self._open(name)[0]

    def size(self, split: str) -> int:
        """Return the number of images of `split`."""
        return len(self.split(split))

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return the names of `rows`."""
        ids = self.split(split).ids
        return [ids[row] for row in np.asarray(rows).tolist()]

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
        opened, sizes = self._open(split)
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
            else:
                images = np.array([read_image(opened.images[row]) for row in batch.tolist()], object)
                maps = np.array([opened.maps[row].read().tobytes() for row in batch.tolist()], object)
            return batch, sizes[batch], images, maps, self._lots(split, batch, key)

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
                self._list_bad(split, batch, good)
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
        skipped = [*self.dataset.skipped, *self._skipped]
        return {
            "name": self.dataset.name,
            "fingerprint": self.spec.dataset["fingerprint"],
            "source": self.dataset.source,
            "counts": self.dataset.counts(),
            "classes": len(self.dataset.classes),
            "field": [self.field.height, self.field.width],
            "mirror": self.mirror,
            "skipped": {"count": len(skipped), "items": skipped},
        }

    def _open(self, name: str) -> tuple[SegmentedSplit, np.ndarray]:
        """Return the usable images of a split and their heights and widths int32 `[N, 2]`."""
        if name not in self._opened:
            split = self.dataset.split(name)
            if isinstance(split.images, np.ndarray):
                sizes = np.broadcast_to(np.int32([self.field.height, self.field.width]), (len(split), 2))
                self._opened[name] = split, sizes
            else:
                self._opened[name] = self._usable(name, split)
        return self._opened[name]

    def _usable(self, name: str, split: SegmentedSplit) -> tuple[SegmentedSplit, np.ndarray]:
        def look(row: int) -> tuple[int, int] | str:
            try:
                height, width = upright_size(read_image(split.images[row]))
                labels = split.maps[row].read()
            except UserError as error:
                return f"{name}: image {split.ids[row]}: {error}"
            if labels.shape != (height, width):
                raise UserError(
                    f"{self.dataset.name}: image {split.ids[row]} of split {name!r} has {height} x {width} pixels, its "
                    f"map {labels.shape[0]} x {labels.shape[1]}; expected one size"
                )
            self.dataset.check_labels(labels, f"{split.ids[row]}, split {name!r}")
            return height, width

        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(look, range(len(split))))
        self._skipped += [line for line in found if isinstance(line, str)]
        good = [row for row, size in enumerate(found) if not isinstance(size, str)]
        if not good:
            raise UserError(f"{self.dataset.name}: split {name!r} has no usable image; see the skipped items")
        return split.take(np.array(good)), np.array([found[row] for row in good], np.int32)

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

    def _list_bad(self, split: str, rows: tf.Tensor, good: tf.Tensor) -> None:
        def note(rows: np.ndarray, good: np.ndarray) -> np.ndarray:
            for name in self.item_ids(split, rows[~good]):
                line = f"{split}: image {name}: it does not decode, it is damaged or cut off"
                if line not in self._skipped:
                    self._skipped.append(line)
            return good

        tf.numpy_function(note, [rows, good], tf.bool)
