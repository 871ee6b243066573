"""CaffeSGD against the update rule written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.optimizers import CaffeSGD


def variables():
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 3))
    return layer.weights


def test_decay_goes_through_the_momentum_with_multipliers_by_name():
    kernel, bias = variables()
    w, b = kernel.numpy().astype(np.float64), np.zeros(2)
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    optimizer = CaffeSGD(0.1, 0.9, 0.01, {"bias": 2.0}, {"kernel": 1.0, "": 0.0})
    optimizer.build([kernel, bias])
    rng = np.random.default_rng(0)
    for step in range(5):
        gw, gb = rng.normal(size=(3, 2)), rng.normal(size=2)
        rate = 0.1 if step < 3 else 0.01
        optimizer.learning_rate = rate
        optimizer.apply_gradients([(tf.constant(gw, tf.float32), kernel), (tf.constant(gb, tf.float32), bias)])
        vw = 0.9 * vw - rate * (gw + 0.01 * w)
        vb = 0.9 * vb - 2 * rate * gb
        w, b = w + vw, b + vb
    np.testing.assert_allclose(kernel, w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bias, b, rtol=1e-5, atol=1e-6)


def test_without_decay_it_is_keras_sgd():
    ours, theirs = variables(), variables()
    for mine, other in zip(ours, theirs, strict=True):
        other.assign(mine)
    pairs = (CaffeSGD(0.1, 0.9), ours), (keras.optimizers.SGD(0.1, 0.9), theirs)
    for _ in range(3):
        for optimizer, weights in pairs:
            optimizer.apply_gradients([(tf.ones(weight.shape), weight) for weight in weights])
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_round_trip_and_refusals():
    optimizer = CaffeSGD(0.2, 0.8, 0.001, {"bias": 2.0}, {"": 0.0})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.get_config() == optimizer.get_config()
    with pytest.raises(ValueError, match="use `decay`"):
        CaffeSGD(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match="got 1.5"):
        CaffeSGD(0.1, 1.5)
