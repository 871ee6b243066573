"""What an edge network serves: the edge map of a photo of any size."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfthesis.data.images import decode
from tfthesis.edges.detection import EdgeDetector
from tfthesis.edges.recipe import EdgeRecipe
from tfthesis.method import Served, Signature


def edge_signatures(model: keras.Model, recipe: EdgeRecipe) -> Served:
    """Return `detect_edges` and `edge_probabilities`, which take encoded images `[B]`.

    `detect_edges` gives `edges_bytes` `[B]`, grey PNG files of each image's size, white where an edge is certain;
    `edge_probabilities` gives `edges` float32 `[B, H, W]`, of the largest height and width among the images and zero
    outside of each, and `size` int32 `[B, 2]`, their heights and widths. Both are before non-maximum suppression.
    """
    detector = EdgeDetector(model, recipe.test_scales)

    def as_png(data: tf.Tensor) -> tf.Tensor:
        edges = detector.probabilities(decode(data))
        return tf.io.encode_png(tf.cast(tf.round(255 * edges), tf.uint8)[..., None])

    def as_rows(data: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_tensor(detector.probabilities(decode(data)))

    def detect_edges(image: tf.Tensor) -> dict[str, tf.Tensor]:
        # One at a time: images differ in size.
        return {"edges_bytes": tf.map_fn(as_png, image, fn_output_signature=tf.TensorSpec([], tf.string))}

    def edge_probabilities(image: tf.Tensor) -> dict[str, tf.Tensor]:
        ragged = tf.RaggedTensorSpec([None, None], tf.float32, ragged_rank=1, row_splits_dtype=tf.int64)
        maps = tf.map_fn(as_rows, image, fn_output_signature=ragged)
        height, width = maps.row_lengths(), tf.reduce_max(maps.row_lengths(axis=2), axis=1)
        size = tf.cast(tf.stack([height, width], axis=1), tf.int32)
        return {"edges": maps.to_tensor(0.0), "size": size}

    grey = tf.io.encode_jpeg(np.full((40, 50, 3), 128, np.uint8)).numpy()
    inputs = {"image": tf.TensorSpec([None], tf.string, name="image")}
    example = {"image": np.array([grey], object)}
    of = "of encoded images (JPEG, PNG, BMP, GIF) of any size"
    return Served(
        {
            "detect_edges": Signature(detect_edges, inputs, example, f"edge map as PNG {of}"),
            "edge_probabilities": Signature(edge_probabilities, inputs, example, f"edge map as numbers {of}"),
        },
        [model],
    )
