"""Least-squares adversarial losses, and the distance of images."""

from __future__ import annotations

import tensorflow as tf


def discriminator_rows(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """Return `(D(real) - 1)^2 + D(fake)^2` of each example `[n]`, the mean over its patches.

    The discriminator minimises it. Eq 8.1 of Liu 2018 is this sum, but lets the discriminator maximise it, which the
    sum of its own Eq 8.14 and LSGAN contradict.

    Args:
        real, fake: answers `[n, ...]` of the discriminator.
    """
    return per_example((real - 1) ** 2) + per_example(fake**2)


def generator_rows(fake: tf.Tensor) -> tf.Tensor:
    """Return `(D(fake) - 1)^2` of each example `[n]`, the mean over its patches (Eq 8.1, as LSGAN has it)."""
    return per_example((fake - 1) ** 2)


def distance_rows(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the mean absolute difference of two images `[n, ...]`, one number `[n]` a pair (Eq 8.2, 8.9, 8.11)."""
    return per_example(tf.abs(first - second))


def per_example(values: tf.Tensor) -> tf.Tensor:
    """Return the mean `[n]` over all axes but the first of `[n, ...]`, in float32 or more."""
    wide = tf.cast(values, tf.float32) if values.dtype.size < 4 else values
    return tf.reduce_mean(wide, axis=list(range(1, len(values.shape))))
