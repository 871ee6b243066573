"""CIFAR-10 and CIFAR-100: the published binary files, or one .npz file a split."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfthesis.data.files import read_lines
from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, first_of_each, held_out
from tfthesis.errors import UserError

_LAYOUT = (
    "the binary files ({}) or {}_train.npz and {}_test.npz, with `labels` and either `images` [N, 32, 32, 3] or JPEG "
    "files end to end in `jpeg` with their `offsets`"
)
LABELLED = {
    "cifar10": _LAYOUT.format(
        "data_batch_1.bin to data_batch_5.bin, test_batch.bin, batches.meta.txt", *["cifar10"] * 2
    ),
    "cifar100": _LAYOUT.format("train.bin, test.bin, fine_label_names.txt", *["cifar100"] * 2),
}
SIDE = 32
_PIXELS = 3 * SIDE * SIDE
# Files of each split, labels before an image, the place of the one that counts, and the file of the names.
_BINARY = {
    "cifar10": ([f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"], 1, 0, "batches.meta.txt"),
    "cifar100": (["train.bin"], ["test.bin"], 2, 1, "fine_label_names.txt"),
}


def open_labelled(
    name: str,
    directory: Path | None = None,
    *,
    train_per_class: int | None = None,
    val_per_class: int = 250,
    test_per_class: int | None = None,
) -> LabelledImages:
    """Return CIFAR-10 or CIFAR-100, by whichever of the two layouts lies in `directory`.

    Args:
        name: "cifar10" or "cifar100".
        directory: with the files.
        train_per_class: the first so many training images of each class, validation images included; None takes all.
        val_per_class: of them, so many that are held out to select weights by, at least one; the thesis selects
            nothing and trains on all.
        test_per_class: the first so many test images of each class; None takes all.

    Raises:
        UserError: files are missing or damaged, or a class has too few images.
    """
    folder = required(directory, name, LABELLED[name])
    as_npz = (folder / f"{name}_train.npz").is_file()
    read = _read_npz if as_npz else _read_binary
    train, test, classes = read(name, folder)
    train = first_of_each(train, train_per_class, classes)
    test = first_of_each(test, test_per_class, classes)
    if val_per_class < 1:
        raise UserError(f"dataset {name!r}: val_per_class: expected at least 1, got {val_per_class}")
    train, val = held_out(train, val_per_class, classes)
    splits = {"train": train, "val": val, "test": test}
    counts = {"train_per_class": train_per_class, "val_per_class": val_per_class, "test_per_class": test_per_class}
    layout = "npz" if as_npz else "binary"
    return LabelledImages(name, splits, classes, source={"layout": layout, **counts})


def _read_binary(name: str, folder: Path) -> tuple[LabelledSplit, LabelledSplit, tuple[str, ...]]:
    train_files, test_files, count, place, names = _BINARY[name]
    for file in (*train_files, *test_files, names):
        if not (folder / file).is_file():
            raise UserError(f"dataset {name!r}: {folder / file} is missing; expected {LABELLED[name]}")
    classes = tuple(read_lines(folder / names))

    def read(files: list[str], split: str) -> LabelledSplit:
        records = np.concatenate([_records(folder / file, count) for file in files])
        planes = records[:, count:].reshape(-1, 3, SIDE, SIDE)
        ids = [f"{split}-{number:05d}" for number in range(len(records))]
        return LabelledSplit(
            ids, records[:, place].astype(np.int64), np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        )

    return read(train_files, "train"), read(test_files, "test"), classes


def _records(file: Path, labels: int) -> np.ndarray:
    data = np.fromfile(file, np.uint8)
    if not len(data) or len(data) % (labels + _PIXELS):
        raise UserError(f"{file}: expected records of {labels + _PIXELS} bytes, got {len(data)} bytes")
    return data.reshape(-1, labels + _PIXELS)


def _read_npz(name: str, folder: Path) -> tuple[LabelledSplit, LabelledSplit, tuple[str, ...]]:
    splits, names = {}, {}
    for split in ("train", "test"):
        file = folder / f"{name}_{split}.npz"
        try:
            with np.load(file, allow_pickle=False) as arrays:
                labels = arrays["labels"].astype(np.int64)
                images = arrays["images"] if "images" in arrays else _decode(arrays["jpeg"], arrays["offsets"])
                names[split] = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else ()
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise UserError(f"{file}: {error}; expected {LABELLED[name]}") from error
        if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
            raise UserError(f"{file}: expected uint8 images of {SIDE} x {SIDE} x 3, got {images.dtype} {images.shape}")
        splits[split] = LabelledSplit([f"{split}-{number:05d}" for number in range(len(labels))], labels, images)
    classes = names["train"] or tuple(map(str, range(int(splits["train"].labels.max()) + 1)))
    return splits["train"], splits["test"], classes


def _decode(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    files = [data[start:end].tobytes() for start, end in itertools.pairwise(offsets)]
    decoded = (
        tf.data.Dataset.from_tensor_slices(files)
        .map(lambda file: tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"), num_parallel_calls=2)
        .batch(1000)
    )
    return np.concatenate(list(decoded.as_numpy_iterator()))
