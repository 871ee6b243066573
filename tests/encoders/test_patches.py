"""Features of patches: what a network sees of each, several layers in one pass, and what does not fit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_alexnet import arrays as alexnet_arrays  # noqa: F401, a fixture
from tests.encoders.test_keras_applications import applications, trained  # noqa: F401, fixtures
from tfthesis.encoders import open_encoder, patches, reopen
from tfthesis.encoders.efficientnet_lite import efficientnet_lite
from tfthesis.errors import UserError
from tfthesis.inverted_index.pyramid import pyramid_boxes


def picture(height=30, width=42, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def png(pixels):
    return tf.io.encode_png(pixels).numpy()


def test_each_patch_is_what_the_encoder_says_of_it_alone():
    """Pixels stretch what they are given, so that the encoder of whole images sees the patches cut by hand."""
    encoder, whole = open_encoder("pixels_patches"), open_encoder("pixels")
    pixels = picture()
    (features,) = encoder.split(encoder(tf.constant([png(pixels)])))
    assert features.shape == (1, 14, 64)
    for place, (top, left, bottom, right) in enumerate(pyramid_boxes(30, 42)):
        alone = whole(tf.constant([png(pixels[top:bottom, left:right])]))
        np.testing.assert_allclose(features[0, place], alone[0], atol=0.03)


def test_layers_of_one_pass_and_levels():
    encoder = open_encoder("pixels_patches", layers=["pixels", "projection"], levels=[2, 1])
    assert (encoder.widths, encoder.patches, encoder.dimension) == ((192, 64), 5, 5 * 256)
    raw = tf.constant([png(picture(seed=seed, height=9 + seed)) for seed in range(3)])
    first, second = encoder.split(encoder(raw))
    assert first.shape == (3, 5, 192) and second.shape == (3, 5, 64)
    for layer, features in (("pixels", first), ("projection", second)):
        alone = open_encoder("pixels_patches", layers=[layer], levels=[2, 1])
        np.testing.assert_allclose(alone.split(alone(raw))[0], features, atol=1e-6)
    assert first.numpy().min() >= 0 and first.numpy().max() <= 1
    again = reopen(encoder.describe())
    assert again.fingerprint == encoder.fingerprint != open_encoder("pixels_patches").fingerprint
    assert encoder(tf.constant([], tf.string)).shape == (0, encoder.dimension)


def test_an_image_that_cannot_be_cut_fails():
    encoder = open_encoder("pixels_patches")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at least 3 pixels .* got height and width\W+2, 9\n"):
        encoder(tf.constant([png(picture(2, 9))]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["projections"]}, "unknown layer of pixels 'projections'. Did you mean 'projection'"),
        ({"levels": [0]}, "levels of the pyramid: expected positive whole numbers"),
        ({"levels": []}, "levels of the pyramid: expected positive whole numbers"),
        ({"sizes": 1}, "has no option 'sizes'; it takes: layers, levels"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        open_encoder("pixels_patches", **options)


def test_efficientnet_lite_gives_the_layers_of_its_network(tmp_path):
    keras.utils.set_random_seed(3)
    network = efficientnet_lite("efficientnet_lite0")
    arrays = {
        f"{layer.name}/{variable.name}": variable.numpy() for layer in network.layers for variable in layer.weights
    }
    np.savez(tmp_path / "w.npz", **arrays)
    layers = ["block01_expand_bn_relu", "feature"]
    encoder = open_encoder("efficientnet_lite0_patches", tmp_path / "w.npz", layers=layers, levels=[1])
    assert encoder.widths == (96, 1280)
    pixels = picture(224, 224)
    middle, last = encoder.split(encoder(tf.constant([png(pixels)])))
    taps = keras.Model(network.input, [network.get_layer(name).output for name in layers])
    maps, feature = taps((pixels[None].astype(np.float32) - 127) / 128, training=False)
    np.testing.assert_allclose(middle[0, 0], np.mean(maps[0], axis=(0, 1)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(last[0], feature, rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match="unknown layer of efficientnet_lite0 'features'. Did you mean 'feature'"):
        open_encoder("efficientnet_lite0_patches", tmp_path / "w.npz", layers=["features"])


def test_layers_of_keras_applications_under_the_names_of_the_thesis(tmp_path, applications, trained):  # noqa: F811
    trained.save_weights(tmp_path / "w.weights.h5")
    encoder = open_encoder("vgg19_patches", tmp_path / "w.weights.h5", layers=["fc18", "last"], levels=[1])
    assert encoder.widths == (5, 6)
    pixels = picture(32, 32)
    found, last = encoder.split(encoder(tf.constant([png(pixels)])))
    taps = keras.Model(trained.input, [trained.get_layer("fc2").output, trained.get_layer("last").output])
    vector, maps = taps(pixels[None, ..., ::-1].astype(np.float32) - 100.0, training=False)
    np.testing.assert_allclose(found[0], vector, rtol=1e-5)
    np.testing.assert_allclose(last[0, 0], np.mean(maps[0], axis=(0, 1)), rtol=1e-5)


def test_fc6_and_fc7_of_alexnet_in_one_pass(tmp_path, alexnet_arrays):  # noqa: F811
    np.savez(tmp_path / "alexnet.npz", **alexnet_arrays)
    both = open_encoder("alexnet_patches", tmp_path / "alexnet.npz", layers=["fc6", "fc7"], levels=[1])
    raw = tf.constant([png(picture(227, 227))])
    for features, layer in zip(both.split(both(raw)), ("fc6", "fc7"), strict=True):
        alone = open_encoder("alexnet_patches", tmp_path / "alexnet.npz", layers=[layer], levels=[1])
        np.testing.assert_allclose(features, alone.split(alone(raw))[0], rtol=1e-5)
        assert features.shape[-1] == alone.widths[0]
    with pytest.raises(UserError, match="unknown layer of alexnet 'fc8'"):
        open_encoder("alexnet_patches", tmp_path / "alexnet.npz", layers=["fc8"])


def test_every_network_has_a_default_layer():
    assert set(patches._NETWORKS) == set(patches._DEFAULT_LAYERS)
