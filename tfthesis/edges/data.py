"""Images and their edges as what an edge network trains on and is measured by."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.edge_images import (
    SOFT_MAP_ENDINGS,
    EdgeImages,
    EdgeSplit,
    MismatchError,
    checked,
    read_soft_map,
)
from tfthesis.data.image_splits import ImageRows
from tfthesis.data.image_text import image_identity
from tfthesis.data.images import decode, read_image, upright_size
from tfthesis.data.segmented_images import SegmentedImages
from tfthesis.edges.relaxed import (
    AGREEING,
    CANNY_SIGMAS,
    MEAN_FACTORS,
    above_mean,
    agreed_edges,
    canny,
    dilate,
    packed_labels,
    relaxed_labels,
    segmentation_edges,
    unpacked_labels,
)
from tfthesis.errors import UserError
from tfthesis.losses.edge_detection import SIDES
from tfthesis.method import Spec

#: Split of the images whose coarse edges are trained on first (CEA).
COARSE = "coarse"
#: Label of a pixel that counts for nothing.
_IGNORED = 255
_MEASURED = ("val", "test")
_READERS = 4
# Images are prepared one by one: on an accelerator that would wait for the training step, and copy each there and back.
_HOST = "CPU:0"


@dataclasses.dataclass(frozen=True)
class Supervision:
    """What a training image is supervised by.

    Attributes:
        agreeing: annotators who make an edge.
        dilated: whether edges, and relaxed ones, are dilated.
        relaxed: "none", "canny" or "maps".
        maps: folder of soft edge maps `NAME.png` or `NAME.npy`, named after the images, for "maps".
    """

    agreeing: int = AGREEING
    dilated: bool = True
    relaxed: str = "none"
    maps: Path | None = None

    def labels(self, pixels: np.ndarray, annotators: np.ndarray, name: str) -> np.ndarray:
        """Return uint8 `[H, W, 1 + SIDES]`: the edges (0 and 1), and the labels of each side output (0, 1 and 2).

        Args:
            pixels: uint8 `[H, W, 3]`.
            annotators: bool `[A, H, W]`.
            name: of the image, for the file of its soft edge map.

        Raises:
            UserError: there is no such file, or it has another size.
        """
        truth = agreed_edges(annotators, self.agreeing)
        edges = (dilate(truth) if self.dilated else truth).astype(np.uint8)
        if self.relaxed == "none":
            return np.repeat(edges[..., None], 1 + SIDES, axis=2)
        if self.relaxed == "canny":
            detected = [canny(pixels, sigma) for sigma in CANNY_SIGMAS]
        else:
            soft = self._soft_map(name, truth.shape)
            detected = [above_mean(soft, factor) for factor in MEAN_FACTORS]
        return np.stack([edges, *(relaxed_labels(truth, found, dilated=self.dilated) for found in detected)], axis=2)

    def _soft_map(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        own = Path(name)
        places = [self.maps / f"{part}{ending}" for part in (own.name, own.stem) for ending in SOFT_MAP_ENDINGS]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise UserError(f"relaxed labels of {name}: expected {' or '.join(map(str, places[:2]))}, found neither")
        values = read_soft_map(file)
        if values.shape != shape:
            raise UserError(f"relaxed labels of {name}: {file} has {values.shape} pixels, the image {shape}")
        return values


@dataclasses.dataclass(frozen=True)
class Window:
    """How a training image becomes `height` x `width` pixels.

    Attributes:
        height, width: of the input.
        crop: cut out a random part, instead of stretching the image; a smaller image is filled up with its mean colour,
            and pixels that do not count.
        mirror: flip every other image, by lot.
    """

    height: int
    width: int
    crop: bool = False
    mirror: bool = False


class EdgeData(ImageRows):
    """Images with edges; implements `tfthesis.method.Data`. Its rows are images.

    Labels of training images are made once, when a split is first trained on, and kept in memory, a byte a pixel. Files
    that cannot be read are skipped and listed, and so are training images whose annotators agree on no edge; edges of
    another size than their image are an error. So are edges of the measured splits, `val` and `test`, that are empty or
    cannot be read: without such an image what a network finds in it would count nowhere, and `training.edge_evaluation`
    refuses the same files.

    Args:
        dataset: what a reader returned.
        window: of training images.
        supervision: their labels.
        coarse: a dataset of segmentations or edges, whose training images become the split `coarse`.
        test: another dataset, whose test split is measured instead of this one's.
        any_size: whether the network takes images of any size; otherwise those of `window` only.
    """

    def __init__(
        self,
        dataset: EdgeImages,
        window: Window,
        supervision: Supervision,
        coarse: SegmentedImages | EdgeImages | None = None,
        test: EdgeImages | None = None,
        any_size: bool = True,
    ):
        splits, measured, other = dict(dataset.splits), [dataset.fingerprint()], []
        if coarse is not None:
            splits[COARSE] = _coarse_split(coarse)
            other.append(coarse.fingerprint())
        if test is not None:
            own = test.split("test")
            # Two datasets may name their images alike.
            splits["test"] = dataclasses.replace(own, ids=[f"{test.name}/{name}" for name in own.ids])
            measured.append(test.fingerprint())
        if supervision.maps is not None:
            soft = [image_identity(path) for path in sorted(supervision.maps.iterdir())]
            other.append(hashlib.sha256(json.dumps(soft).encode()).hexdigest())
        super().__init__(dataclasses.replace(dataset, splits=splits))
        self.window, self.supervision = window, supervision
        self._labels: dict[str, list[np.ndarray]] = {}
        side = (None, None) if any_size else (window.height, window.width)
        self.spec = Spec(
            inputs={"image": (*side, 3)},
            dataset={
                "name": dataset.name,
                "fingerprint": "-".join([*measured, *other]),
                "counts": self.dataset.counts(),
                **({"measured": "-".join(measured)} if other else {}),
            },
        )

    def problem(self, split: str, opened: EdgeSplit, row: int) -> str:
        """Return why an image or its edges cannot be read, or an empty string.

        Raises:
            UserError: the edges have another size than the upright image; or they belong to a measured split, and are
                empty or cannot be read.
        """
        try:
            data = read_image(opened.images[row])
            size = upright_size(data)
            _decoded(data)
        except UserError as error:
            return str(error)
        except tf.errors.InvalidArgumentError:
            return "it does not decode, it is damaged or cut off"
        edges = opened.edges[row]
        try:
            edges = edges if isinstance(edges, np.ndarray) else edges.read()
        except MismatchError:
            raise
        except UserError as error:
            if split not in _MEASURED:
                return str(error)
            raise UserError(
                f"{self.dataset.name}: image {opened.ids[row]} of split {split!r} cannot be measured: {error}"
            ) from error
        if edges.shape[1:] != size:
            raise UserError(
                f"{self.dataset.name}: image {opened.ids[row]} of split {split!r} has {size[0]} x {size[1]} pixels, "
                f"its edges {edges.shape[1]} x {edges.shape[2]}; expected one size"
            )
        if split not in (*_MEASURED, COARSE) and not agreed_edges(edges, self.supervision.agreeing).any():
            agreeing = min(self.supervision.agreeing, len(edges))
            return f"no pixel on which {agreeing} of its {len(edges)} annotators agree, so nothing to find in training"
        return ""

    def image(self, split: str, row: int) -> np.ndarray:
        """Return the pixels uint8 `[H, W, 3]` of an image at its own size."""
        image = self.split(split).images[row]
        return image if isinstance(image, np.ndarray) else _decoded(read_image(image))

    def placed(self, split: str, row: int) -> np.ndarray:
        """Return an image float32 `[height, width, 3]` as training would see it, without any lot."""
        pixels = self.image(split, row)
        return self._placed(pixels, np.zeros((*pixels.shape[:2], 1), np.uint8), None)[0]

    def annotators(self, split: str, row: int) -> np.ndarray:
        """Return the edges bool `[A, H, W]` of an image."""
        edges = self.split(split).edges[row]
        return edges if isinstance(edges, np.ndarray) else edges.read()

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int] | None) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too.

        The places of crops and flips depend on `key` = (seed, epoch) and the row; without a key crops are taken in the
        middle. What is measured does not come from here: see `image` and `annotators`.

        Inputs: "image" float32 `[b, H, W, 3]` in 0..255. Targets: "edges" uint8 `[b, H, W]`, "relaxed" uint8
        `[b, H, W, 5]`, "row" int64 `[b]`.
        """
        labels = self._labels_of(split)
        indices = [np.asarray(row, np.int64) for row in rows]
        height, width = self.window.height, self.window.width

        def gather(number: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            batch = indices[number]
            images = np.zeros((len(batch), height, width, 3), np.float32)
            targets = np.zeros((len(batch), height, width, 1 + SIDES), np.uint8)
            for place, row in enumerate(batch.tolist()):
                lot = None if key is None else np.random.default_rng((*key, row))
                own = unpacked_labels(labels[row], SIDES)
                images[place], targets[place] = self._placed(self.image(split, row), own, lot)
            return batch, images, targets

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, images, targets = tf.numpy_function(gather, [number], [tf.int64, tf.float32, tf.uint8])
            batch.set_shape([None])
            images.set_shape([None, height, width, 3])
            targets.set_shape([None, height, width, 1 + SIDES])
            return {"image": images}, {"edges": targets[..., 0], "relaxed": targets[..., 1:], "row": batch}

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images."""
        return self.described(
            fingerprint=self.spec.dataset["fingerprint"],
            window=dataclasses.asdict(self.window),
            supervision={**dataclasses.asdict(self.supervision), "maps": str(self.supervision.maps or "")},
        )

    def _labels_of(self, split: str) -> list[np.ndarray]:
        """Return the labels of every image of a split, packed; see `Supervision.labels`."""
        if split not in self._labels:
            opened = self.split(split)
            # Coarse edges train the fused output alone, and are one annotator's.
            supervision = Supervision(1, self.supervision.dilated) if split == COARSE else self.supervision
            with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
                self._labels[split] = list(
                    pool.map(
                        lambda row: packed_labels(
                            supervision.labels(self.image(split, row), self.annotators(split, row), opened.ids[row])
                        ),
                        range(len(opened)),
                    )
                )
        return self._labels[split]

    def _placed(
        self, pixels: np.ndarray, labels: np.ndarray, lot: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return an image float32 and its labels uint8 in the window."""
        window = self.window
        if window.crop:
            pixels, labels = _filled(pixels, labels, window)
            room = np.array(pixels.shape[:2]) - (window.height, window.width)
            top, left = room // 2 if lot is None else lot.integers(0, room + 1)
            part = (slice(top, top + window.height), slice(left, left + window.width))
            pixels, labels = pixels[part], labels[part]
        else:
            with tf.device(_HOST):
                pixels = tf.image.resize(pixels, [window.height, window.width], antialias=True).numpy()
            labels = _stretched(labels, window.height, window.width)
        if window.mirror and lot is not None and lot.integers(2):
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        return pixels, labels


def _decoded(data: bytes) -> np.ndarray:
    """Return the pixels uint8 `[H, W, 3]` of an image file."""
    with tf.device(_HOST):
        return decode(tf.constant(data)).numpy()


# Of the labels that come to lie on one pixel an edge wins, then a relaxed label; it is its own inverse.
_RANK = np.array([0, 2, 1], np.uint8)


def _stretched(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return labels 0, 1 and 2 `[h, w, C]` as `[height, width, C]`; a line of one pixel stays whole when it shrinks."""
    ranks = _RANK[labels]
    for axis, size in ((0, height), (1, width)):
        starts = np.arange(size) * labels.shape[axis] // size
        ranks = np.maximum.reduceat(ranks, starts, axis=axis)
    return _RANK[ranks]


def _filled(pixels: np.ndarray, labels: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its labels with pixels added below and to the right up to the size of the window."""
    below, right = (
        max(want - have, 0) for want, have in zip((window.height, window.width), pixels.shape, strict=False)
    )
    if not (below or right):
        return pixels, labels
    filled = np.empty((pixels.shape[0] + below, pixels.shape[1] + right, 3), np.float32)
    filled[:] = pixels.mean(axis=(0, 1))
    filled[: pixels.shape[0], : pixels.shape[1]] = pixels
    return filled, np.pad(labels, ((0, below), (0, right), (0, 0)), constant_values=_IGNORED)


@dataclasses.dataclass(frozen=True)
class _CoarseEdges:
    """The borders of one segmentation map, as the edges of one annotator."""

    labels: Any

    def __str__(self) -> str:
        return str(self.labels)

    def identity(self) -> list[Any]:
        """Return JSON values that change with the edges."""
        return self.labels.identity()

    def read(self) -> np.ndarray:
        """Return the edges bool `[1, H, W]`; raises `UserError` for a map that cannot be read or has one class only."""
        return checked([segmentation_edges(self.labels.read())], str(self.labels))


def _coarse_split(dataset: SegmentedImages | EdgeImages) -> EdgeSplit:
    split = dataset.split("train")
    ids = [f"{COARSE}/{name}" for name in split.ids]
    if isinstance(dataset, EdgeImages):
        return dataclasses.replace(split, ids=ids)
    if isinstance(split.maps, np.ndarray):
        edges = [segmentation_edges(labels)[None] for labels in split.maps]
        with_edges = [row for row, found in enumerate(edges) if found.any()]
        return EdgeSplit(ids, split.images, edges).take(np.array(with_edges, np.int64))
    return EdgeSplit(ids, split.images, [_CoarseEdges(labels) for labels in split.maps])
