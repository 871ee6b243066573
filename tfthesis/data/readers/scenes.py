"""The default data: drawn scenes with captions by five annotators; needs no files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.edge_images import EdgeImages, EdgeSplit
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit
from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.captions import describe
from tfthesis.data.scenes.outlines import draw_outlines
from tfthesis.data.scenes.render import render
from tfthesis.data.scenes.scene import Scene, sample_scene
from tfthesis.data.scenes.shapes import KINDS
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.errors import UserError, closest
from tfthesis.method import SPLITS

DATASETS = LABELLED = SEGMENTED = EDGES = {"scenes": "no folder: the scenes are drawn"}
LABELS = ("objects", "category")
MIN_SIZE = 16


@dataclasses.dataclass(frozen=True)
class DrawnImage:
    """A scene that is drawn when its bytes are asked for."""

    name: str
    scene: Scene
    size: int

    def __fspath__(self) -> str:
        """Return the name under which caches know the picture; there is no such file."""
        return self.name

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """Return the picture as PNG."""
        return _png(self.scene, self.size)


@functools.lru_cache(maxsize=256)
def _png(scene: Scene, size: int) -> bytes:
    import tensorflow as tf

    return tf.io.encode_png(render(scene, size).image, compression=1).numpy()


def open_dataset(
    name: str,
    directory: Path | None = None,
    *,
    images: Sequence[int] = (1000, 200, 500),
    captions: int = 5,
    labels: str = "objects",
    objects: Sequence[int] = (2, 4),
    size: int = 128,
    seed: int = 0,
) -> ImageTextDataset:
    """Return drawn scenes.

    Args:
        name: "scenes".
        directory: must be None.
        images: number of training, validation and test images.
        captions: of each image, at most 5 (one an annotator).
        labels: "objects" (multi-label: all kinds in the scene) or "category" (the kind of its largest object).
        objects: smallest and largest number of objects.
        size: side of an image in pixels.
        seed: another one gives other scenes of the same kind.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    if directory is not None:
        raise UserError(f"dataset 'scenes' is drawn, not read: leave out the folder {directory}")
    if labels not in LABELS:
        raise closest(labels, LABELS, "labels of scenes")
    if len(images) != 3 or min(images) < 1:
        raise UserError(f"scenes: images: expected three counts (train, val, test) of at least 1, got {images}")
    if not 1 <= captions <= 5:
        raise UserError(f"scenes: captions: expected 1 to 5, got {captions}")
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= 4:
        raise UserError(f"scenes: objects: expected two numbers between 1 and 4, got {objects}")
    if size < MIN_SIZE or seed < 0:
        raise UserError(f"scenes: expected size >= {MIN_SIZE} and seed >= 0, got size {size} and seed {seed}")
    options = {"images": list(images), "captions": captions, "labels": labels, "objects": list(objects)}
    options.update(size=size, seed=seed)

    def item(split: int, index: int) -> ImageTextItem:
        scene = sample_scene((seed, split, index), tuple(objects))
        identity = f"{SPLITS[split]}-{index:06d}"
        image = DrawnImage(f"scene-v{VERSION}-{seed}-{objects[0]}-{objects[1]}-{size}-{identity}.png", scene, size)
        kinds = scene.kinds if labels == "objects" else (scene.category,)
        return ImageTextItem(identity, image, describe(scene)[:captions], kinds)

    return ImageTextDataset(
        name=name,
        splits={split: [item(number, i) for i in range(images[number])] for number, split in enumerate(SPLITS)},
        classes=tuple(KINDS),
        multi_label=labels == "objects",
        source={"version": VERSION, **options},
    )


def open_labelled(
    name: str,
    directory: Path | None = None,
    *,
    images: Sequence[int] = (2500, 300, 500),
    objects: Sequence[int] = (1, 1),
    size: int = 32,
    seed: int = 0,
) -> LabelledImages:
    """Return drawn scenes whose class is the kind of their largest object; see `open_dataset` for the options.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    drawn = open_dataset(
        name, directory, images=images, captions=1, labels="category", objects=objects, size=size, seed=seed
    )
    place = {kind: number for number, kind in enumerate(drawn.classes)}
    splits = {}
    for split, items in drawn.splits.items():
        pixels = np.stack([render(item.image.scene, size).image for item in items])
        labels = np.array([place[item.labels[0]] for item in items], np.int64)
        splits[split] = LabelledSplit([item.id for item in items], labels, pixels)
    return LabelledImages(name, splits, drawn.classes, source=drawn.source)


def open_segmented(
    name: str,
    directory: Path | None = None,
    *,
    images: Sequence[int] = (400, 100, 200),
    objects: Sequence[int] = (2, 4),
    size: int = 64,
    seed: int = 0,
) -> SegmentedImages:
    """Return drawn scenes with the kind of the object at each pixel; see `open_dataset` for the options.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    drawn = open_dataset(name, directory, images=images, captions=1, objects=objects, size=size, seed=seed)
    classes = ("background", *drawn.classes)
    place = {kind: number for number, kind in enumerate(classes)}
    splits = {}
    for split, items in drawn.splits.items():
        rendered = [(item.image.scene, render(item.image.scene, size)) for item in items]
        pixels = np.stack([picture.image for _, picture in rendered])
        labels = [
            np.array([0, *(place[thing.kind] for thing in scene.objects)], np.uint8)[picture.objects]
            for scene, picture in rendered
        ]
        splits[split] = SegmentedSplit([item.id for item in items], pixels, np.stack(labels))
    return SegmentedImages(name, splits, classes, colour_wheel(len(classes)), background=True, source=drawn.source)


def open_edges(
    name: str,
    directory: Path | None = None,
    *,
    images: Sequence[int] = (200, 50, 100),
    objects: Sequence[int] = (2, 4),
    size: int = 96,
    seed: int = 0,
    annotators: int = 5,
) -> EdgeImages:
    """Return drawn scenes with the outlines of their objects; see `open_dataset` for the other options.

    Args:
        annotators: of each image, at least 1.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    if annotators < 1:
        raise UserError(f"scenes: annotators: expected at least 1, got {annotators}")
    drawn = open_dataset(name, directory, images=images, captions=1, objects=objects, size=size, seed=seed)
    splits = {}
    for split, items in drawn.splits.items():
        rendered = [(item.image.scene, render(item.image.scene, size)) for item in items]
        pixels = np.stack([picture.image for _, picture in rendered])
        edges = [draw_outlines(scene, picture.objects, annotators) for scene, picture in rendered]
        splits[split] = EdgeSplit([item.id for item in items], pixels, edges)
    return EdgeImages(name, splits, source={**drawn.source, "annotators": annotators})
