"""Compact bilinear pooling against the count sketch of the outer product (Liu 2018, Algorithm 2)."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfthesis.layers.compact_bilinear_pooling import CompactBilinearPooling
from tfthesis.layers.signed_square_root import SignedSquareRoot

WIDTH, DIMENSION = 7, 16
values = st.floats(-10, 10, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
vectors = arrays(np.float32, (3, WIDTH), elements=values)


def sketch_of_outer_product(x, y, layer):
    """Send the product of components i and j to bin (h1[i] + h2[j]) mod D with sign s1[i] s2[j]."""
    (h1, h2), (s1, s2) = ([np.asarray(v, np.float64) for v in pair] for pair in (layer.hashes, layer.signs))
    bins = np.add.outer(h1, h2).astype(int).ravel() % layer.dimension
    products = [np.outer(s1 * one, s2 * other).ravel() for one, other in zip(x, y, strict=True)]
    return np.stack([np.bincount(bins, row, layer.dimension) for row in products])


@pytest.fixture(scope="module")
def layer():
    layer = CompactBilinearPooling(DIMENSION, seed=5, dtype="float64")
    layer.build([(None, WIDTH), (None, WIDTH)])
    return layer


@settings(max_examples=40, deadline=None)
@given(x=vectors, y=vectors)
def test_equals_count_sketch_of_outer_product(layer, x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    expected = sketch_of_outer_product(x, y, layer)
    scale = max(1.0, np.abs(x).max() * np.abs(y).max() * WIDTH)
    np.testing.assert_allclose(layer([tf.constant(x), tf.constant(y)]), expected, rtol=1e-5, atol=1e-10 * scale)


def test_float32_is_the_float64_sketch_at_the_widths_of_the_thesis():
    layer = CompactBilinearPooling(2048, seed=5)
    layer.build([(None, 512), (None, 512)])
    x, y = np.random.default_rng(0).normal(size=(2, 5, 512)).astype(np.float32)
    result = layer([tf.constant(x), tf.constant(y)]).numpy()
    expected = sketch_of_outer_product(x.astype(np.float64), y.astype(np.float64), layer)
    assert result.dtype == np.float32
    errors = np.linalg.norm(result - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() < 1e-5


def test_sketches_keep_inner_products_in_the_mean_and_within_the_variance_bound():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, WIDTH)).astype(np.float32)
    inner, norms = float((x * y).sum()), float((x * x).sum() * (y * y).sum())
    products = []
    one = np.eye(1, WIDTH, dtype=np.float32)
    for seed in range(400):
        layer = CompactBilinearPooling(DIMENSION, seed=seed)
        layer.build([(None, WIDTH), (None, WIDTH)])
        # Paired with the same unit vector, both sketches are only shifted and signed alike.
        products.append(float(np.sum(layer([x, one]).numpy() * layer([y, one]).numpy())))
    bound = (inner**2 + norms) / DIMENSION
    assert abs(np.mean(products) - inner) < 4 * np.sqrt(bound / len(products))
    assert np.var(products) <= 1.2 * bound


def test_gradient_is_finite_at_zero_and_hashes_do_not_train(layer):
    x, y = tf.zeros([2, WIDTH]), tf.ones([2, WIDTH])
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = tf.reduce_sum(layer([x, y]) ** 2)
    assert np.isfinite(tape.gradient(result, x)).all()
    assert not layer.trainable_weights
    assert [weight.dtype for weight in layer.weights] == ["int64", "float32", "int64", "float32"]


@pytest.fixture(scope="module")
def chain():
    """The pooling and both normalisations after it, in float32, with which MMC-Net's classifier begins."""
    layers = [CompactBilinearPooling(DIMENSION, seed=5), SignedSquareRoot(), keras.layers.UnitNormalization()]

    def gradients(x, y):
        x, y = tf.constant(x, tf.float32), tf.constant(y, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            result = [x, y]
            for layer in layers:
                result = layer(result)
            # The squares of a unit vector have the same sum everywhere; this sum has not.
            total = tf.reduce_sum(result * tf.range(1.0, DIMENSION + 1))
        return tape.gradient(total, [x, y])

    return gradients


@pytest.mark.parametrize("sizes", [(0, 0), (0, 1), (1e-20, 1e-20), (1e-20, 1)])
def test_gradient_of_the_normalised_pooling_is_finite_at_zero_and_near_it(chain, sizes):
    vectors = np.random.default_rng(0).normal(size=(2, 3, WIDTH))
    gradients = chain(*(size * vector for size, vector in zip(sizes, vectors, strict=True)))
    assert np.isfinite(gradients).all()


@given(x=vectors, y=vectors)
def test_gradient_of_the_normalised_pooling_is_finite(chain, x, y):
    assert np.isfinite(chain(x, y)).all()


def test_hashes_survive_saving(tmp_path):
    inputs = [keras.Input((WIDTH,)), keras.Input((WIDTH,))]
    model = keras.Model(inputs, CompactBilinearPooling(DIMENSION)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for before, after in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(before, after)


def test_refuses_other_than_two_inputs_and_no_width():
    with pytest.raises(ValueError, match="expected two inputs, got 3"):
        CompactBilinearPooling(4).build([(None, 2)] * 3)
    with pytest.raises(ValueError, match="dimension must be positive, got 0"):
        CompactBilinearPooling(0)
