"""Bilinear upsampling: against Keras' transposed convolution, interpolation, and what trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.layers import BilinearUpsampling
from tfthesis.layers.bilinear_upsampling import bilinear_kernel


def test_kernels_of_the_released_networks():
    np.testing.assert_allclose(bilinear_kernel(4)[0], [0.0625, 0.1875, 0.1875, 0.0625])
    np.testing.assert_allclose(bilinear_kernel(3), np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    # The four upsamplings of HED and RDS.
    assert sum(bilinear_kernel(2 * factor).size for factor in (2, 4, 8, 16)) == 1360


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_against_a_transposed_convolution_with_a_diagonal_kernel(factor, padding):
    maps = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    layer = BilinearUpsampling(factor, padding)
    found = layer(maps)
    kernel = np.random.default_rng(1).normal(size=layer.kernel.shape).astype(np.float32)
    layer.set_weights([kernel])
    full = keras.layers.Conv2DTranspose(3, layer.width, factor, padding, use_bias=False)
    full.build(maps.shape)
    full.set_weights([kernel[..., 0][:, :, :, None] * np.eye(3)])
    np.testing.assert_allclose(layer(maps), full(maps), rtol=1e-4, atol=1e-5)
    assert tuple(found.shape) == layer.compute_output_shape(maps.shape) == tuple(full.compute_output_shape(maps.shape))


def test_a_plane_stays_a_plane_and_borders_fade():
    rows, columns = np.mgrid[0:6, 0:7].astype(np.float32)
    plane = (2 * rows - columns)[None, ..., None]
    found = np.asarray(BilinearUpsampling(2, "same")(plane))[0, ..., 0]
    rows, columns = (np.mgrid[0:12, 0:14] - 0.5) / 2
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inside], (2 * rows - columns)[inside], atol=1e-5)
    flat = np.asarray(BilinearUpsampling(2)(np.ones((1, 3, 3, 1), np.float32)))[0, ..., 0]
    assert flat.shape == (8, 8)
    np.testing.assert_allclose(flat[2:-2, 2:-2], 1, atol=1e-6)
    assert flat[0, 0] == 0.0625


def test_only_trains_when_asked():
    maps = tf.random.normal([1, 3, 3, 2])
    for train in (False, True):
        layer = BilinearUpsampling(4, train=train)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(maps) ** 2)
        assert len(layer.trainable_variables) == int(train)
        if train:
            (gradient,) = tape.gradient(loss, [layer.kernel.value])
            step = np.zeros(gradient.shape, np.float32)
            step[1, 2, 1, 0] = 0.01
            sides = []
            for sign in (1, -1):
                moved = BilinearUpsampling(4)
                moved(maps)
                moved.set_weights([np.asarray(layer.kernel) + sign * step])
                sides.append(float(tf.reduce_sum(moved(maps) ** 2)))
            assert float(gradient[1, 2, 1, 0]) == pytest.approx((sides[0] - sides[1]) / 0.02, rel=1e-2)


def test_saved_and_unknown_sizes(tmp_path):
    image = keras.Input((None, None, 2))
    model = keras.Model(image, BilinearUpsampling(3, "same", True, name="up")(image))
    assert model.output_shape == (None, None, None, 2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("up").get_config()["train"] is True
    maps = np.random.default_rng(0).normal(size=(1, 4, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(model(maps), again(maps))


def test_bad_options():
    with pytest.raises(ValueError, match="2 or more, got 1"):
        BilinearUpsampling(1)
    with pytest.raises(ValueError, match="got 'full'"):
        BilinearUpsampling(2, "full")
