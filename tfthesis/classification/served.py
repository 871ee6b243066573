"""What a classifier of images serves: classes, features, and the nearest images by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.classification.data import ImageClassData
from tfthesis.classification.evaluation import predict
from tfthesis.data.images import decode_and_resize
from tfthesis.method import Gallery, Served, Signature, Spec

LABELS = 5
RESULTS = 20
_HELP = "encoded images (JPEG, PNG, BMP, GIF), prepared as those of training are"


def class_gallery(model: keras.Model, data: ImageClassData, split: str) -> dict[str, Gallery]:
    """Return the images of `split` by their L2-normalised features, with their classes as payload."""
    found, classes = predict(model, data, split), data.spec.classes
    lengths = np.maximum(np.linalg.norm(found.features, axis=1, keepdims=True), 1e-12)
    ids, payload = data.item_ids(split, found.rows), [classes[label] for label in found.labels]
    return {"image": Gallery(ids, found.features / lengths, payload)}


def class_signatures(model: keras.Model, spec: Spec, index: Mapping[str, Any]) -> Served:
    """Return `classify`, `encode_image` and, with an index of images, `search_by_image`; all take encoded images.

    `classify` gives `labels`, `probabilities` and `predicted` `[B, min(5, C)]`, the surest classes first;
    `encode_image` the L2-normalised feature `embedding` `[B, K]`; `search_by_image` `ids`, `scores` and `payload`
    `[B, 20]` of the nearest.
    """
    count = min(LABELS, len(spec.classes))
    classes = tf.constant(list(spec.classes))

    def outputs(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return model({"image": _pixels(image, spec)}, training=False)

    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        best = tf.math.top_k(tf.nn.softmax(tf.cast(outputs(image)["logits"], tf.float32)), count)
        predicted = tf.broadcast_to(tf.range(count) == 0, tf.shape(best.values))
        return {"labels": tf.gather(classes, best.indices), "probabilities": best.values, "predicted": predicted}

    def encode(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tf.nn.l2_normalize(tf.cast(outputs(image)["feature"], tf.float32), axis=1)}

    inputs = {"image": tf.TensorSpec([None], tf.string, name="image")}
    grey = tf.io.encode_jpeg(np.full((32, 32, 3), 128, np.uint8)).numpy()
    example = {"image": np.array([grey], object)}
    signatures = {
        "classify": Signature(classify, inputs, example, f"the {count} surest classes of {_HELP}"),
        "encode_image": Signature(encode, inputs, example, f"normalised features of {_HELP}"),
    }
    if "image" in index:
        neighbours = index["image"]
        signatures["search_by_image"] = Signature(
            lambda image: neighbours.search(encode(image)["embedding"], RESULTS),
            inputs,
            example,
            f"nearest images by their features, of {_HELP}",
        )
    return Served(signatures, [model, *index.values()])


def _pixels(images: tf.Tensor, spec: Spec) -> tf.Tensor:
    """Return encoded images `[B]` as the network's input `[B, size, size, 3]`; the middle of what is larger."""
    size, side = spec.inputs["image"][0], spec.extra["resize"]
    first = (side - size) // 2

    def one(data: tf.Tensor) -> tf.Tensor:
        return decode_and_resize(data, side, side, mode="stretch")[first : first + size, first : first + size]

    return tf.map_fn(one, images, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
