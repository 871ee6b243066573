"""Looking into the bytes of a file in graph code."""

from __future__ import annotations

import tensorflow as tf


def first_bytes(data: tf.Tensor, count: int) -> tf.Tensor:
    """Return the first bytes of a scalar string as uint8 `[n]`, n at most `count`."""
    return tf.io.decode_raw(tf.strings.substr(data, 0, count), tf.uint8)


def byte_at(data: tf.Tensor, position: int) -> tf.Tensor:
    """Return one byte of a scalar string as an int32 scalar; 0 behind its end."""
    values = tf.pad(first_bytes(data, position + 1), [[0, position + 1]])
    return tf.cast(values[position], tf.int32)


def first(values: tf.Tensor, pattern: bytes) -> tf.Tensor:
    """Return where `pattern` first stands in `values` (uint8 `[n]`) as an int32 scalar, n if nowhere."""
    count = tf.size(values)
    windows = tf.maximum(count - len(pattern) + 1, 0)
    hits = tf.reduce_all([values[k : k + windows] == byte for k, byte in enumerate(pattern)], axis=0)
    position = tf.argmax(tf.cast(tf.concat([hits, [True]], 0), tf.uint8), output_type=tf.int32)
    return tf.where(position < windows, position, count)
