"""Images of two domains as what generators and discriminators train on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.data.domain_images import TwoDomains
from tfthesis.data.image_files import drawn_by_lot
from tfthesis.data.image_splits import ImageRows
from tfthesis.data.images import ImageSource, check_source, decode_batch, read_image
from tfthesis.data.segmented_images import SegmentedImages
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.segmentation.data import SegmentationData
from tfthesis.segmentation.fields import Field

#: Names of the model's inputs.
DOMAINS = ("a", "b")
#: Words for the domains of a segmentation dataset.
PHOTO, LABEL = "photo", "label"
#: Colour of pixels without a class in a drawing of labels.
UNKNOWN = (255, 255, 255)
_DECODED_AT_ONCE = 32


def draw_labels(labels: np.ndarray, colours: Sequence[Sequence[int]]) -> np.ndarray:
    """Return labels uint8 `[...]` in the colours of their classes, uint8 `[..., 3]`; others are `UNKNOWN`."""
    palette = np.full((256, 3), UNKNOWN, np.uint8)
    palette[: len(colours)] = colours
    return palette[labels]


def network_values(pixels: Any) -> tf.Tensor:
    """Return pixels in 0..255 as the float32 in -1..1 that networks take and return."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1


def pixel_values(values: Any) -> tf.Tensor:
    """Return what a network made, -1..1, as pixels uint8."""
    return tf.cast(tf.round(tf.clip_by_value((tf.cast(values, tf.float32) + 1) * 127.5, 0, 255)), tf.uint8)


@dataclasses.dataclass(frozen=True)
class Opened:
    """The images of a split at the size of the networks.

    Attributes:
        ids: of the images of each domain.
        images: uint8 `[N, H, W, 3]` of each.
        labels: uint8 `[N, H, W]`, those of the photos, where the dataset has any.
    """

    ids: tuple[list[str], list[str]]
    images: tuple[np.ndarray, np.ndarray]
    labels: np.ndarray | None = None


class DomainRows(ImageRows):
    """The images of one domain whose headers can be read; others are skipped and listed."""

    def problem(self, split: str, opened: Any, row: int) -> str:
        """Return why an image cannot be read, or an empty string."""
        try:
            check_source(opened.images[row])
        except UserError as error:
            return str(error)
        return ""


class TranslationData:
    """Images of two domains, "a" and "b"; implements `tfthesis.method.Data`.

    A row of an epoch is an image of each. There are as many as the larger domain has images; those of the smaller one
    come again. Which images meet is drawn by (seed, epoch), so that nothing is learnt from a pairing. A split is read
    when it is first asked for: its images are scaled to one size, their sides apart, and kept in memory.

    Of a segmentation dataset "a" are the photos and "b" the maps, each class in its colour. A map of another size than
    its photo, or with a label that is no class, is an error. Images that cannot be decoded are skipped and listed.

    Args:
        dataset: what a reader returned.
        height, width: of the networks.
        mirror: flip every other training image, by a lot that depends on seed, epoch, row and domain alone.
        disjoint: of a segmentation dataset, train on the photos of one half of the pairs and on the maps of the other,
            so that no photo's own map is ever seen.

    Raises:
        UserError: `disjoint` where there are no pairs.
    """

    def __init__(
        self,
        dataset: SegmentedImages | TwoDomains,
        height: int,
        width: int,
        mirror: bool = False,
        disjoint: bool = False,
    ):
        self.dataset, self.height, self.width = dataset, height, width
        self.mirror, self.disjoint = mirror, disjoint
        self.labelled = isinstance(dataset, SegmentedImages)
        if disjoint and not self.labelled:
            raise UserError(f"{dataset.name}: disjoint halves need photos with maps; nothing is paired there anyway")
        self._opened: dict[str, Opened] = {}
        self._skipped: list[str] = []
        #: Networks that measure on these data, by their options; see `tfthesis.adversarial.scorer`.
        self.scorers: dict[Any, keras.Model] = {}
        if self.labelled:
            self._rows = (SegmentationData(dataset, Field(height, width)),)
            self.names = (PHOTO, LABEL)
        else:
            self._rows = (DomainRows(dataset.a), DomainRows(dataset.b))
            self.names = dataset.domains
        self.spec = Spec(
            inputs=dict.fromkeys(DOMAINS, (height, width, 3)),
            classes=dataset.classes if self.labelled else (),
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
            extra={"domains": list(self.names)} | ({"colours": dataset.colours} if self.labelled else {}),
        )

    def opened(self, split: str) -> Opened:
        """Return the images of a split; raises `UserError` for an unknown one, or a domain without usable images."""
        if split not in self._opened:
            self._opened[split] = self._read_pairs(split) if self.labelled else self._read_domains(split)
        return self._opened[split]

    def _read_domains(self, split: str) -> Opened:
        ids, images = [], []
        for name, rows in zip(self.names, self._rows, strict=True):
            found = rows.split(split)
            pixels, good = self._pixels(found.images, found.ids, f"{split}, domain {name}")
            ids.append([found.ids[row] for row in good])
            images.append(pixels)
        return Opened(tuple(ids), tuple(images))

    def _read_pairs(self, split: str) -> Opened:
        photos = self._rows[0]
        found = photos.split(split)
        pixels, good = self._pixels(found.images, found.ids, split)
        labels = np.stack([self._scaled_labels(photos.map(split, row)) for row in good.tolist()])
        ids = [found.ids[row] for row in good]
        drawn = draw_labels(labels, self.dataset.colours)
        return Opened((ids, ids), (pixels, drawn), labels)

    def _scaled_labels(self, labels: np.ndarray) -> np.ndarray:
        size = [self.height, self.width]
        return tf.image.resize(labels[..., None], size, method="nearest")[..., 0].numpy()

    def _pixels(
        self, images: np.ndarray | list[ImageSource], ids: list[str], what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 `[n, H, W, 3]` and which of `images` they are; bad ones are left out and listed."""
        if isinstance(images, np.ndarray):
            if images.shape[1:] != (self.height, self.width, 3):
                raise UserError(
                    f"{self.dataset.name}: the images of split {what} are {list(images.shape[1:])}, the network takes "
                    f"{[self.height, self.width, 3]}"
                )
            return images, np.arange(len(images))
        pixels, kept = [], []
        for start in range(0, len(images), _DECODED_AT_ONCE):
            data = tf.constant([read_image(image) for image in images[start : start + _DECODED_AT_ONCE]])
            values, good = decode_batch(data, self.height, self.width, mode="stretch")
            pixels.append(tf.cast(tf.round(values), tf.uint8).numpy())
            kept.append(good.numpy())
        good = np.concatenate(kept)
        self._skipped += [
            f"{what}: image {ids[row]}: it does not decode, it is damaged or cut off" for row in np.flatnonzero(~good)
        ]
        if not good.any():
            raise UserError(f"{self.dataset.name}: no image of split {what} decodes; see the skipped items")
        return np.concatenate(pixels)[good], np.flatnonzero(good)

    def trained_on(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return which images of each domain the rows of `split` hold: all, or disjoint halves for training."""
        opened = self.opened(split)
        if not self.disjoint or split != "train":
            return tuple(np.arange(len(ids)) for ids in opened.ids)
        order = np.array(drawn_by_lot(opened.ids[0], 0))
        if len(order) < 2:
            raise UserError(f"{self.dataset.name}: disjoint halves need two training images or more, got {len(order)}")
        half = (len(order) + 1) // 2
        return np.sort(order[:half]), np.sort(order[half:])

    def size(self, split: str) -> int:
        """Return the rows of `split`: the images of its larger domain."""
        return max(map(len, self.trained_on(split)))

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return a name for each row; which images it holds changes from epoch to epoch."""
        self.opened(split)
        return [f"{split}, row {row}" for row in np.asarray(rows).tolist()]

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too.

        Inputs: "a" and "b" float32 `[n, H, W, 3]` in -1..1. Targets: "row" int64 `[n]`.
        """
        images = self.opened(split).images
        orders = [
            np.random.default_rng((*key, domain)).permutation(chosen)
            for domain, chosen in enumerate(self.trained_on(split))
        ]
        indices = [np.asarray(row, np.int64) for row in rows]

        def gather(number: np.int64) -> tuple[np.ndarray, ...]:
            batch = indices[number]
            flips = self._flips(split, batch, key)
            found = []
            for domain, order in enumerate(orders):
                pixels = images[domain][order[batch % len(order)]]
                found.append(np.where(flips[:, domain, None, None, None], pixels[:, :, ::-1], pixels))
            return batch, *found

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, *pixels = tf.numpy_function(gather, [number], [tf.int64, tf.uint8, tf.uint8])
            batch.set_shape([None])
            for values in pixels:
                values.set_shape([None, self.height, self.width, 3])
            return dict(zip(DOMAINS, map(network_values, pixels), strict=True)), {"row": batch}

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def labelled_batches(self, split: str, rows: Sequence[np.ndarray]) -> tf.data.Dataset:
        """Return photos with their labels, which is what a segmentation network trains on.

        Inputs: "image" float32 `[n, H, W, 3]` in 0..255. Targets: "labels" uint8 `[n, H, W]`.
        """
        opened = self.opened(split)
        indices = [np.asarray(row, np.int64) for row in rows]

        def gather(number: np.int64) -> tuple[np.ndarray, np.ndarray]:
            batch = indices[number]
            return opened.images[0][batch], opened.labels[batch]

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            pixels, labels = tf.numpy_function(gather, [number], [tf.uint8, tf.uint8])
            pixels.set_shape([None, self.height, self.width, 3])
            labels.set_shape([None, self.height, self.width])
            return {"image": tf.cast(pixels, tf.float32)}, {"labels": labels}

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images."""
        skipped = [line for rows in self._rows for line in rows.described()["skipped"]["items"]] + self._skipped
        return {
            "name": self.dataset.name,
            "source": self.dataset.source,
            "counts": self.dataset.counts(),
            "fingerprint": self.spec.dataset["fingerprint"],
            "domains": list(self.names),
            "size": [self.height, self.width],
            "mirror": self.mirror,
            "disjoint": self.disjoint,
            "skipped": {"count": len(skipped), "items": skipped},
        }

    def _flips(self, split: str, rows: np.ndarray, key: tuple[int, int]) -> np.ndarray:
        """Return whether to flip the image of each domain, bool `[n, 2]`."""
        if not self.mirror or split != "train":
            return np.zeros((len(rows), 2), bool)
        return np.array(
            [np.random.default_rng((*key, 2, row)).integers(2, size=2) for row in rows.tolist()], bool
        ).reshape(-1, 2)
