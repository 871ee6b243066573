"""The classifier whose probabilities make an inception score: Inception-v3, or a small one of the dataset's clothes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.encoders.cache_folder import default_cache
from tfthesis.encoders.kept_weights import load_or_train
from tfthesis.errors import UserError, closest

KINDS = ("clothes", "inception_v3")
#: The name under which keras.applications downloads its own weights.
DOWNLOAD = "imagenet"
_INCEPTION_SIDE = 299
_AT_ONCE = 64
# Training images move by up to one of so many parts of their height.
_SHIFT = 16
# Raise it when the same options and images give another network.
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """Which classifier, and how the small one is trained.

    Attributes:
        kind: "clothes" learns the labels of the training images; "inception_v3" knows the 1,000 classes of ImageNet.
            Its weights are those of keras.applications, where the score's authors have a network of their own.
        weights: of Inception-v3 with its classifier: a `.weights.h5`, `.h5` or `.keras` file, or "imagenet", which
            downloads them.
        filters: of the first convolution of the small network.
        epochs: over the training images, mirrored and moved by lot.
        batch_size: images.
        learning_rate: of Adam, in the first half of the epochs; a tenth of it in the second.
    """

    kind: str = "clothes"
    weights: str = DOWNLOAD
    filters: int = 16
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 0.002


class ClothesClassifier:
    """A network that gives images probabilities.

    Attributes:
        name: what a protocol calls it.
        classes: names of the dataset's labels that it learnt; none for ImageNet's.
        network: maps pixels 0..255 float32 `[n, H, W, 3]` to probabilities `[n, K]`.
    """

    def __init__(self, name: str, network: keras.Model, classes: Sequence[str] = ()):
        self.name, self.network, self.classes = name, network, tuple(classes)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return p(y|x) float32 `[n, K]` of images uint8 `[n, H, W, 3]`."""
        parts = [
            np.asarray(self.network(tf.cast(images[start : start + _AT_ONCE], tf.float32), training=False))
            for start in range(0, len(images), _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.network.output_shape[-1]), np.float32)

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of images uint8 `[n, H, W, 3]` whose label is the most probable class."""
        return float(np.mean(self.probabilities(images).argmax(axis=1) == labels))


def open_classifier(
    options: ClassifierOptions,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    cache: Path | None = None,
) -> ClothesClassifier:
    """Return a classifier; that of clothes is trained once for images and options, and kept.

    Runs that differ in their generators, or in their seed, are measured by the same network: its first weights and the
    order of its images do not depend on the run. Inception-v3 sees images at 299 x 299 pixels.

    Args:
        options: which one.
        images: for training, uint8 `[N, H, W, 3]`; Inception-v3 needs none.
        labels: their classes, int `[N]`; None where the dataset has none.
        classes: names of the labels.
        cache: parent of the folder in which weights are kept; None takes
            `tfthesis.encoders.cache_folder.default_cache`.

    Raises:
        UserError: an unknown kind, images without labels, or weights that are missing, cannot be downloaded or belong
            to another network.
    """
    if options.kind not in KINDS:
        raise closest(options.kind, KINDS, "classifier of the inception score")
    if options.kind == "inception_v3":
        weights = "" if options.weights == DOWNLOAD else f" with weights {Path(options.weights).name}"
        return ClothesClassifier(f"keras.applications' Inception-v3{weights}", _inception(options.weights))
    if images is None or labels is None or len(classes) < 2:
        raise UserError(
            "the classifier of clothes needs labels of two classes or more, which the dataset does not have; take "
            "inception_v3"
        )
    network = _network(images.shape[1:], len(classes), options.filters)
    path = (cache or default_cache()) / f"clothes-classifier-{_key(options, images, labels)[:20]}" / "weights.npz"
    what = f"the classifier of clothes on {len(images)} images"
    load_or_train(network, path, lambda: _train(network, images, labels, options), what)
    return ClothesClassifier(f"a small network that names {len(classes)} classes of clothes", network, classes)


def check_weights_file(weights: str) -> None:
    """Raise `UserError` if `weights` name a file of Inception-v3 that is not there."""
    if weights != DOWNLOAD and not Path(weights).is_file():
        raise UserError(f"classifier 'inception_v3': no file {weights}")


def _network(shape: tuple[int, ...], classes: int, filters: int) -> keras.Model:
    """Return four convolutions with stride 2, each normalised, and a dense layer of their mean and greatest values."""
    values = inputs = keras.Input(shape, name="image")
    values = keras.layers.Rescaling(1 / 127.5, -1)(values)
    for width in (filters, 2 * filters, 4 * filters, 4 * filters):
        values = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(values)
        values = keras.layers.BatchNormalization(momentum=0.9)(values)
        values = keras.layers.ReLU()(values)
    pooled = [keras.layers.GlobalAveragePooling2D()(values), keras.layers.GlobalMaxPooling2D()(values)]
    scores = keras.layers.Dense(classes)(keras.layers.Concatenate()(pooled))
    network = keras.Model(inputs, keras.layers.Softmax(dtype="float32")(scores), name="clothes_classifier")
    random = np.random.default_rng(0)
    for variable in network.trainable_variables:
        if variable.name == "kernel":
            deviation = math.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(random.normal(scale=deviation, size=variable.shape))
    return network


def _train(network: keras.Model, images: np.ndarray, labels: np.ndarray, options: ClassifierOptions) -> None:
    network.compile(keras.optimizers.Adam(options.learning_rate), "sparse_categorical_crossentropy")
    for epoch in range(options.epochs):
        random = np.random.default_rng((0, epoch))
        order = random.permutation(len(images))
        seen = np.stack([_moved(images[row], random) for row in order]).astype(np.float32)
        late = epoch >= options.epochs // 2
        network.optimizer.learning_rate = options.learning_rate * (0.1 if late else 1)
        network.fit(seen, labels[order], batch_size=options.batch_size, verbose=0, shuffle=False)


def _moved(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return an image uint8 `[H, W, 3]` mirrored or not, and moved a little; at its border it goes on as it ends."""
    if random.integers(2):
        image = image[:, ::-1]
    reach = max(image.shape[0] // _SHIFT, 1)
    down, right = random.integers(0, 2 * reach + 1, size=2)
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge")
    return wide[down : down + image.shape[0], right : right + image.shape[1]]


def _inception(weights: str) -> keras.Model:
    """Return Inception-v3 behind what its inputs need."""
    check_weights_file(weights)
    try:
        network = keras.applications.InceptionV3(weights=DOWNLOAD if weights == DOWNLOAD else None)
    except Exception as error:  # keras.utils.get_file raises a bare Exception when the network fails
        raise UserError(
            f"classifier 'inception_v3': the ImageNet weights could not be downloaded ({error}). Download them "
            "elsewhere and give the file as weights, or take the classifier of clothes."
        ) from error
    if weights != DOWNLOAD:
        try:
            network.load_weights(weights)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"weights {weights} do not fit Inception-v3 with its classifier: {error}") from error
    inputs = keras.Input((None, None, 3), name="image")
    scaled = keras.layers.Resizing(_INCEPTION_SIDE, _INCEPTION_SIDE)(inputs)
    return keras.Model(inputs, network(keras.layers.Rescaling(1 / 127.5, -1)(scaled)))


def _key(options: ClassifierOptions, images: np.ndarray, labels: np.ndarray) -> str:
    parts: list[Any] = [_VERSION, dataclasses.asdict(options), list(images.shape)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images))
    digest.update(np.ascontiguousarray(labels, np.int64))
    return digest.hexdigest()
