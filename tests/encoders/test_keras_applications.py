"""ResNet-152 and VGG-19: wiring and weights, with random weights saved to files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.encoders import keras_applications, open_encoder
from tfthesis.encoders.keras_applications import APPLICATIONS, Application
from tfthesis.errors import UserError


def jpeg(height=40, width=60, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return tf.io.encode_jpeg(pixels, quality=95).numpy()


def small_network(*, weights=None, include_top=True, input_shape=(32, 32, 3)):
    """A network with the layer names of an application and the same choice of a classifier."""
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", name="conv1")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", name="last")(x)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dense(5, name="fc2")(x)
        x = keras.layers.Dense(3, name="predictions")(x)
    return keras.Model(image, x, name="small")


@pytest.fixture
def applications(monkeypatch):
    """Stand-ins of the two encoders, small enough to run."""

    def flip(pixels):
        return pixels[..., ::-1] - 100.0

    monkeypatch.setitem(APPLICATIONS, "resnet152", Application(small_network, flip, "last", "shorter", 32))
    monkeypatch.setitem(APPLICATIONS, "vgg19", Application(small_network, flip, "fc2", "crop", 32))


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(5)
    network = small_network()
    for variable in network.weights:
        variable.assign(keras.random.uniform(variable.shape, 0.1, 0.5))
    return network


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("top", [True, False])
def test_fully_convolutional_features_from_every_kind_of_file(tmp_path, applications, trained, suffix, top):
    saved = small_network(include_top=top, input_shape=(32, 32, 3))
    for layer in saved.layers:
        layer.set_weights(trained.get_layer(layer.name).get_weights() if layer.weights else [])
    path = tmp_path / f"w{suffix}"
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    encoder = open_encoder("resnet152", path)
    images = [jpeg(40, 60), jpeg(70, 50)]
    features = encoder(tf.constant(images)).numpy()
    assert features.shape == (2, 6)
    for image, feature in zip(images, features, strict=True):
        pixels = encoder.prepare(tf.constant(image))
        assert min(pixels.shape[:2]) == 32 and max(pixels.shape[:2]) > 32
        x = pixels[None, ..., ::-1] - 100.0
        for name in ("conv1", "bn", "last"):
            x = trained.get_layer(name)(x)
        np.testing.assert_allclose(feature, np.mean(x, (0, 1, 2)), rtol=1e-5)


def test_input_of_the_real_networks_is_bgr_without_the_mean_of_imagenet():
    for application in APPLICATIONS.values():
        pixel = application.preprocess(tf.constant([[[[10.0, 20.0, 30.0]]]]))
        np.testing.assert_allclose(pixel[0, 0, 0], [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-6)


def test_features_of_a_hidden_layer(tmp_path, applications, trained):
    trained.save_weights(tmp_path / "w.weights.h5")
    encoder = open_encoder("vgg19", tmp_path / "w.weights.h5")
    image = tf.constant([jpeg()])
    pixels = encoder.prepare(image[0])[None, ..., ::-1] - 100.0
    expected = keras.Model(trained.input, trained.get_layer("fc2").output)(pixels)
    np.testing.assert_allclose(encoder(image), expected, rtol=1e-5)


# Keras warns of containers that a file lacks; the layers are visited before them, and a file that lacks one is refused.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_that_do_not_fit(tmp_path, applications):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", name="conv1")(image)
    other = keras.Model(image, keras.layers.BatchNormalization(name="bn")(x))
    other.save_weights(tmp_path / "other.weights.h5")
    other.save(tmp_path / "other.h5")
    other.save(tmp_path / "other.keras")
    (tmp_path / "text.weights.h5").write_text("text")
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "weights.bin").write_text("text")
    others = ["other.weights.h5", "other.h5", "other.keras"]
    for name in (*others, "text.weights.h5", "text.keras", "weights.bin", "absent.h5"):
        with pytest.raises(UserError, match=name):
            open_encoder("resnet152", tmp_path / name)


def test_offline_download_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org: -1 -- no route")

    for name in ("resnet152", "vgg19"):
        monkeypatch.setitem(APPLICATIONS, name, APPLICATIONS[name]._replace(build=offline))
        with pytest.raises(UserError, match=r"could not be downloaded.*give the file as weights"):
            open_encoder(name)


def test_other_dtype_policies_are_refused(tmp_path, applications, trained):
    trained.save_weights(tmp_path / "w.weights.h5")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(UserError, match="float32"):
            open_encoder("vgg19", tmp_path / "w.weights.h5")
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dimension"), [("resnet152", 2048), ("vgg19", 4096)])
def test_real_networks_with_random_weights(tmp_path, monkeypatch, name, dimension):
    application = APPLICATIONS[name]
    keras_applications._build(application, None, name == "vgg19").save_weights(tmp_path / "w.weights.h5")
    if name == "resnet152":
        monkeypatch.setitem(APPLICATIONS, name, application._replace(size=64))
    encoder = open_encoder(name, tmp_path / "w.weights.h5")
    features = encoder(tf.constant([jpeg(80, 120), jpeg(90, 60)])).numpy()
    assert features.shape == (2, dimension)
    assert np.isfinite(features).all() and np.std(features) > 0
