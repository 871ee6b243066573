"""Classification losses, one value an example."""

from __future__ import annotations

import tensorflow as tf


def single_label_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the softmax cross-entropy `[n]` of integer labels `[n]` and logits `[n, C]` (Eq 7.9, 7.10)."""
    logits = tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def multi_label_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the sigmoid cross-entropy summed over classes `[n]`, of labels and logits `[n, C]`.

    Source: Liu 2018, Eq 7.11 and 7.12; the text's "K terms" are the C classes.
    """
    logits = tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits
    labels = tf.cast(labels, logits.dtype)
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), axis=1)
