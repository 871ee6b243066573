"""What a segmentation network serves: the map of a photo of any size."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfthesis.data.images import decode
from tfthesis.method import Served, Signature, Spec
from tfthesis.segmentation.fields import Field


def segment_signatures(model: keras.Model, spec: Spec) -> Served:
    """Return `segment`, which takes encoded images `[B]`.

    It gives for each image, at its own size, `map_bytes`, a grey PNG whose values are class numbers, and
    `overlay_bytes`, a PNG of the image in the colours of its classes; and `labels` and `shares` `[B, C]`, the classes
    by the share of pixels that they take, the largest first.
    """
    height, width = spec.inputs["image"][:2]
    field = Field(height, width)
    colours = tf.constant(np.array(spec.extra["colours"], np.float32))
    names = tf.constant(list(spec.classes))
    count = len(spec.classes)

    def one(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels = decode(data)
        scores = model({"image": field.place_image(pixels)[None]}, training=False)["scores"]
        found = tf.cast(tf.argmax(scores[0], axis=-1), tf.uint8)
        labels = field.take_back(found, tf.shape(pixels)[:2])
        mixed = (tf.cast(pixels, tf.float32) + tf.gather(colours, tf.cast(labels, tf.int32))) / 2
        counts = tf.math.bincount(tf.cast(tf.reshape(labels, [-1]), tf.int32), minlength=count, maxlength=count)
        share = tf.cast(counts, tf.float32) / tf.cast(tf.size(labels), tf.float32)
        overlay = tf.io.encode_png(tf.cast(tf.round(mixed), tf.uint8))
        return tf.io.encode_png(labels[..., None]), overlay, share

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        specs = (tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.string), tf.TensorSpec([count], tf.float32))
        # One at a time: images differ in size, and their scores may be large.
        maps, overlays, shares = tf.map_fn(one, image, fn_output_signature=specs)
        order = tf.argsort(shares, axis=1, direction="DESCENDING", stable=True)
        return {
            "map_bytes": maps,
            "overlay_bytes": overlays,
            "labels": tf.gather(names, order),
            "shares": tf.gather(shares, order, batch_dims=1),
        }

    grey = tf.io.encode_jpeg(np.full((40, 50, 3), 128, np.uint8)).numpy()
    signature = Signature(
        segment,
        {"image": tf.TensorSpec([None], tf.string, name="image")},
        {"image": np.array([grey], object)},
        "class of every pixel of encoded images (JPEG, PNG, BMP, GIF) of any size",
    )
    return Served({"segment": signature}, [model])
