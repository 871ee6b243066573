"""The layers of generators and discriminators: normalisations, mirrored borders, the pool of images."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.adversarial.networks import instance_normalization
from tfthesis.layers import ImagePool, ReflectionPadding, SpectralConvolution

GOLDEN = Path(__file__).parents[1] / "golden" / "addons.npz"


def test_instance_normalization_against_addons():
    """tests/golden/make_addons.py tells how the numbers were made."""
    with np.load(GOLDEN) as golden:
        assert str(golden["addons"]) == "0.23.0"
        plain = instance_normalization(False, "plain", "float64")
        np.testing.assert_allclose(plain(golden["maps"]), golden["plain"], rtol=1e-6, atol=1e-7)
        assert not plain.weights
        layer = instance_normalization(True, "affine", "float64")
        layer.build(golden["maps"].shape)
        layer.set_weights([golden["scale"], golden["offset"]])
        np.testing.assert_allclose(layer(golden["maps"]), golden["affine"], rtol=1e-6, atol=1e-6)


def spectral(golden):
    layer = SpectralConvolution(3, 2, strides=2, dtype="float64")
    layer.build(golden["maps"].shape)
    layer.set_weights([golden["kernel"], golden["bias"], golden["vector"]])
    return layer


def test_spectral_convolution_against_addons():
    with np.load(GOLDEN) as golden:
        layer = spectral(golden)
        for step in range(3):
            np.testing.assert_allclose(layer(golden["maps"], training=True), golden[f"spectral_{step}"], rtol=1e-6)
            np.testing.assert_allclose(layer.vector, golden[f"vector_{step}"], rtol=1e-6)
            np.testing.assert_array_equal(layer.kernel, golden["kernel"])
        again = layer(golden["maps"])
        np.testing.assert_allclose(layer.vector, golden["vector_2"], rtol=1e-6)
        np.testing.assert_allclose(again, layer(golden["maps"]), rtol=1e-12)


def test_spectral_convolution_finds_the_largest_singular_value():
    with np.load(GOLDEN) as golden:
        layer, maps = spectral(golden), golden["maps"]
    for _ in range(1000):
        layer(maps, training=True)
    kernel = np.asarray(layer.kernel)
    largest = np.linalg.svd(kernel.reshape(-1, 3), compute_uv=False)[0]
    bias = np.asarray(layer.bias)
    expected = tf.nn.conv2d(maps, kernel / largest, 2, "VALID") + bias
    np.testing.assert_allclose(layer(maps), expected, rtol=1e-6, atol=1e-9)
    # The norm cannot be changed by the length of the kernel, so that no gradient points along it.
    with tf.GradientTape() as tape:
        value = tf.reduce_sum((layer(maps) - bias) ** 3)
    gradient = np.asarray(tape.gradient(value, layer.kernel.value))
    assert abs((gradient * kernel).sum()) < 1e-8 * np.abs(gradient).max() and np.abs(gradient).max() > 1e-3


def test_spectral_convolution_is_saved_with_its_vector(tmp_path):
    model = keras.Sequential([keras.Input((6, 5, 4)), SpectralConvolution(3, 2)])
    image = tf.random.normal([2, 6, 5, 4], seed=0)
    model(image, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(image), model(image))


def test_reflection_padding():
    image = np.arange(12.0).reshape(1, 3, 4, 1)
    layer = ReflectionPadding(2)
    np.testing.assert_array_equal(layer(image)[0, ..., 0], np.pad(image[0, ..., 0], 2, mode="reflect"))
    assert layer.compute_output_shape((None, None, 4, 1)) == (None, None, 8, 1)
    assert ReflectionPadding.from_config(layer.get_config()).width == 2
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ReflectionPadding(0)
    with pytest.raises(ValueError, match="cannot mirror 2 pixels of a map of 2 x 4"):
        layer.compute_output_shape((None, 2, 4, 1))


def numbered(start, count):
    return np.arange(start, start + count, dtype=np.float32).reshape(-1, 1, 1, 1) + np.zeros((1, 2, 2, 1), np.float32)


def read(images):
    return np.asarray(images)[:, 0, 0, 0].tolist()


def replayed(size, seed, count):
    """Return what a pool of `size` returns for the images 1, 2 ... `count`, one by one, and what it keeps."""
    kept, returned = [], []
    for place in range(count):
        lots = tf.random.stateless_uniform([2], [seed, place]).numpy()
        new = float(place + 1)
        if len(kept) < size:
            kept.append(new)
        elif lots[0] >= 0.5:
            slot = int(lots[1] * size)
            kept[slot], new = new, kept[slot]
        returned.append(new)
    return returned, kept


@pytest.mark.parametrize("batches", [[1] * 40, [3, 7, 0, 1, 20, 9], [40]])
def test_image_pool_against_a_list(batches):
    pool, returned, start = ImagePool(5, seed=7), [], 1
    call = tf.function(pool.__call__, input_signature=[tf.TensorSpec([None, 2, 2, 1])])
    pool.build((None, 2, 2, 1))
    for count in batches:
        images = call(numbered(start, count))
        assert images.shape == (count, 2, 2, 1)
        returned += read(images)
        start += count
    expected, kept = replayed(5, 7, 40)
    assert returned == expected and read(pool.images) == kept and int(pool.count) == 40
    # Old images came back, and new ones passed.
    later = [value != number for number, value in enumerate(returned, start=1)][5:]
    assert 8 < sum(later) < 28


def test_image_pool_without_room_returns_its_input():
    pool = ImagePool(0)
    image = tf.Variable(numbered(1, 3))
    with tf.GradientTape() as tape:
        returned = pool(image)
    assert read(returned) == [1, 2, 3] and not pool.weights and tape.gradient(returned, image) is None
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        ImagePool(-1)


def test_image_pool_is_the_same_on_two_devices(logical_devices):
    strategy = tf.distribute.MirroredStrategy(logical_devices[:2], tf.distribute.HierarchicalCopyAllReduce())
    with strategy.scope():
        pool = ImagePool(3, seed=2)
        pool.build((None, 2, 2, 1))

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1]), tf.TensorSpec([None, 2, 2, 1])])
    def step(first, second):
        def call():
            context = tf.distribute.get_replica_context()
            mine = tf.cond(tf.equal(context.replica_id_in_sync_group, 0), lambda: first, lambda: second)
            return pool(mine)

        return strategy.experimental_local_results(strategy.run(call))

    returned = []
    for start in range(1, 31, 3):
        # The second device has fewer images, at last none.
        shares = (numbered(start, 2), numbered(start + 2, 1)) if start < 28 else (numbered(start, 3), numbered(0, 0))
        returned += [value for part in step(*shares) for value in read(part)]
    expected, kept = replayed(3, 2, 30)
    assert returned == expected and read(pool.images) == kept


def test_image_pool_is_saved(tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2, 2, 1)), ImagePool(2)])
    for start in range(1, 9):
        model(numbered(start, 1))
    model.save(tmp_path / "pool.keras")
    again = keras.saving.load_model(tmp_path / "pool.keras", safe_mode=True)
    for start in range(9, 20):
        assert read(model(numbered(start, 1))) == read(again(numbered(start, 1)))
