"""Least-squares adversarial losses against worked values."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.losses.least_squares_gan import discriminator_rows, distance_rows, generator_rows, per_example


def test_worked_values():
    """check figures: D(real) = .8 and D(fake) = .3 give .13 and .49; no factor of a half."""
    real, fake = (tf.fill([2, 3, 3, 1], value) for value in (0.8, 0.3))
    np.testing.assert_allclose(discriminator_rows(real, fake), [0.13, 0.13], rtol=1e-6)
    np.testing.assert_allclose(generator_rows(fake), [0.49, 0.49], rtol=1e-6)
    assert discriminator_rows(tf.ones([1, 2, 2, 1]), tf.zeros([1, 2, 2, 1])).numpy() == [0]
    assert generator_rows(tf.ones([1, 2, 2, 1])).numpy() == [0]


def test_rows_are_means_over_patches_and_of_their_own_example():
    answers = tf.constant([[1.0, 0.0], [3.0, 0.0], [1.0, 1.0]])[:, :, None, None]
    np.testing.assert_allclose(generator_rows(answers), [0.5, 2.5, 0])
    np.testing.assert_allclose(distance_rows(answers, tf.zeros_like(answers)), [0.5, 1.5, 1])
    assert per_example(tf.zeros([0, 4, 4, 3])).shape == (0,)


def test_discriminator_and_generator_pull_the_answer_apart():
    """Eq 8.1 as printed lets the discriminator maximise; minimised, it lowers D(fake) and the generator raises it."""
    fake = tf.Variable(tf.fill([1, 1, 1, 1], 0.3))
    with tf.GradientTape(persistent=True) as tape:
        against, towards = discriminator_rows(tf.ones_like(fake), fake), generator_rows(fake)
    assert tape.gradient(against, fake).numpy().item() == pytest.approx(0.6)
    assert tape.gradient(towards, fake).numpy().item() == pytest.approx(-1.4)


def test_half_precision_is_summed_in_single():
    values = tf.cast(tf.fill([1, 64, 64, 1], 0.1), tf.bfloat16)
    found = per_example(values)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, [float(tf.cast(values[0, 0, 0, 0], tf.float32))], rtol=1e-5)
