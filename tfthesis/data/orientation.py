"""EXIF orientation of JPEG files, in graph code."""

from __future__ import annotations

import tensorflow as tf

from tfthesis.data.byte_search import first, first_bytes

# The EXIF block follows the start of the file, behind at most a JFIF block and a small profile.
_SEARCHED_BYTES = 16384
# For each byte order: how the block begins, the entry of tag 0x0112 (one SHORT), and where its value stands.
_BYTE_ORDERS = (
    (b"Exif\0\0II*\0", b"\x12\x01\x03\0\x01\0\0\0", 8),
    (b"Exif\0\0MM\0*", b"\x01\x12\0\x03\0\0\0\x01", 9),
)


def exif_orientation(data: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation 1..8 (int32 scalar) of JPEG bytes (scalar string); 1 without one."""
    head = first_bytes(data, _SEARCHED_BYTES)
    found = tf.constant(1)
    for start, tag, offset in _BYTE_ORDERS:
        block = head[first(head, start) :]
        value = tf.cast(tf.pad(block, [[0, offset + 1]])[first(block, tag) + offset], tf.int32)
        found = tf.where((value >= 1) & (value <= 8), value, found)
    return found


def upright(image: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Return `image` `[h, w, 3]` turned as the EXIF orientation of its file `data` asks."""
    orientation = exif_orientation(data)

    def turned() -> tf.Tensor:
        result = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        result = tf.cond(_among(orientation, [2, 3, 6, 7]), lambda: tf.reverse(result, [1]), lambda: result)
        return tf.cond(_among(orientation, [3, 4, 7, 8]), lambda: tf.reverse(result, [0]), lambda: result)

    return tf.cond(orientation > 1, turned, lambda: image)


def _among(value: tf.Tensor, choices: list[int]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, choices))
