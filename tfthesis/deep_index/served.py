"""What DeepIndex serves: the best images of its index, words, and global signatures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from tfthesis.data.images import ImageSource, decode, read_image
from tfthesis.deep_index.data import IndexedImageData
from tfthesis.deep_index.graph_search import GraphSearch, IndexedImages
from tfthesis.deep_index.model import layers
from tfthesis.deep_index.searching import Rules, build_searcher
from tfthesis.method import Served, Signature, Spec

RESULTS = 20
_HELP = "encoded images (JPEG, PNG, BMP, GIF)"


def image_gallery(
    model: keras.Model, data: IndexedImageData, split: str, rules: Rules, thumbnail: int
) -> dict[str, IndexedImages]:
    """Return the images of `split` in their index.

    Args:
        thumbnail: longer side of the small pictures that a search returns, in pixels; 0 leaves them out.
    """
    searcher = build_searcher(model, data, split, rules)
    small = [_thumbnail(image, thumbnail) for image in data.split(split).images] if thumbnail else []
    return {"image": IndexedImages(searcher, small)}


def _thumbnail(image: ImageSource, side: int) -> bytes:
    with tf.device("CPU"):
        picture = Image.fromarray(decode(tf.constant(read_image(image))).numpy())
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def index_signatures(
    model: keras.Model, spec: Spec, rules: Rules, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return `search_by_image`, `words_of_image` and, with a patch that is the whole image, `encode_image`.

    `search_by_image` gives `ids`, `scores`, `payload` and perhaps `thumbnail_bytes` `[B, 20]`; `words_of_image` gives
    `words` `[B, P, axes]`; `encode_image` the global signatures of all axes side by side, roots of length one, as
    `embedding` `[B, axes M]`, whose inner product is the mean Hellinger kernel.
    """
    found: GraphSearch = index["image"]

    def features(image: tf.Tensor) -> list[tf.Tensor]:
        by_network = {name: encoder.split(encoder(image)) for name, encoder in encoders.items()}
        own = [by_network[axis["network"]][axis["layer"]] for axis in spec.extra["axes"]]
        return [layer(part) for layer, part in zip(layers(model), own, strict=True)]

    def encode(image: tf.Tensor) -> dict[str, tf.Tensor]:
        wholes = [part[:, rules.whole] for part in features(image)]
        roots = [tf.sign(part) * tf.sqrt(tf.abs(part)) for part in wholes]
        return {"embedding": tf.concat([tf.nn.l2_normalize(part, 1) for part in roots], 1) / np.sqrt(len(roots))}

    inputs = {"image": tf.TensorSpec([None], tf.string, name="image")}
    grey = tf.io.encode_jpeg(np.full((32, 32, 3), 128, np.uint8)).numpy()
    example = {"image": np.array([grey], object)}
    signatures = {
        "search_by_image": Signature(
            lambda image: found.search(features(image), RESULTS),
            inputs,
            example,
            f"best images for {_HELP}",
        ),
        "words_of_image": Signature(
            lambda image: {"words": found.words(features(image))}, inputs, example, f"word of every patch of {_HELP}"
        ),
    }
    if rules.whole is not None:
        signatures["encode_image"] = Signature(encode, inputs, example, f"roots of global signatures of {_HELP}")
    return Served(signatures, [model, *encoders.values(), found])
