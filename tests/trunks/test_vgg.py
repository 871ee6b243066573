"""VGG-16 as a trunk: shapes, counts, and where its weights go."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.trunks import vgg


def trunk(name="vgg16", side=32, **options):
    image = keras.Input((side, side, 3), name="image")
    maps = vgg.trunk_maps(image, vgg.TRUNKS[name], **options)
    return keras.Model(image, maps)


def test_count_and_maps_of_the_thesis_trunk():
    model = trunk(side=64)
    assert model.count_params() == 14_714_688
    shapes = {name: output.shape[1:] for name, output in model.output.items()}
    assert shapes["conv1"] == (64, 64, 64) and shapes["conv5"] == (4, 4, 512) and shapes["pool5"] == (2, 2, 512)


def test_maps_of_500_pixels_with_the_border_of_fcn():
    """698, 349, 175, 88, 44, 22 pixels: poolings of an odd number keep the last one."""
    model = trunk("tiny", 500, border=100)
    assert [model.output[f"{kind}"].shape[1] for kind in ("conv1", "pool1", "pool2", "pool3", "pool4", "pool5")] == [
        698,
        349,
        175,
        88,
        44,
        22,
    ]


def test_the_mean_is_zero_inside_and_the_border_too():
    model = trunk("vgg16", 8, border=3)
    scaled = keras.Model(model.input, model.get_layer("border").output)
    pixels = np.broadcast_to(np.float32(vgg.MEAN), (1, 8, 8, 3))
    np.testing.assert_allclose(scaled(pixels), np.zeros((1, 14, 14, 3)), atol=1e-4)
    brighter = np.asarray(scaled(pixels + np.float32([1, 2, 3])))
    np.testing.assert_allclose(brighter[0, 3:-3, 3:-3], np.broadcast_to([1, 2, 3], (8, 8, 3)), atol=1e-4)


def test_weights_of_keras_applications_give_its_maps(tmp_path, monkeypatch):
    """Ours takes RGB in 0..255, theirs what its own preprocessing makes of it."""
    keras.utils.set_random_seed(0)
    theirs = keras.applications.VGG16(weights=None, include_top=False)
    theirs.save_weights(tmp_path / "vgg.weights.h5")
    ours = trunk()
    vgg.load_vgg16(ours, str(tmp_path / "vgg.weights.h5"))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    expected = theirs(keras.applications.vgg16.preprocess_input(pixels.copy()))
    found = ours(pixels)["pool5"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(UserError, match="are not those of VGG-16"):
        vgg.load_vgg16(ours, str(tmp_path / "other.weights.h5"))
    with pytest.raises(UserError, match="no file"):
        vgg.load_vgg16(ours, str(tmp_path / "nowhere.h5"))

    def offline(*arguments, **options):
        raise Exception("no network")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(UserError, match=r"could not be downloaded \(no network\)"):
        vgg.load_vgg16(ours, "imagenet")


@pytest.mark.slow
def test_the_head_of_keras_applications_gives_its_features(tmp_path):
    """134 million weights of a whole network, through a file of 550 MB: `fc2` of a photo of 224 pixels is our fc7."""
    keras.utils.set_random_seed(0)
    theirs = keras.applications.VGG16(weights=None)
    for name in ("fc1", "fc2"):
        # A network that starts by lot has no biases, which would hide those that went astray.
        layer = theirs.get_layer(name)
        layer.bias.assign(keras.random.normal(layer.bias.shape, stddev=0.1))
    theirs.save_weights(tmp_path / "vgg.weights.h5")
    image = keras.Input((224, 224, 3), name="image")
    x = vgg.trunk_maps(image, vgg.TRUNKS["vgg16"])["pool5"]
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        x = vgg.convolution(4096, kernel, name, padding="valid", dtype="float32")(x)
    ours = keras.Model(image, x)
    vgg.load_vgg16(ours, str(tmp_path / "vgg.weights.h5"))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    features = keras.Model(theirs.input, theirs.get_layer("fc2").output)
    expected = features(keras.applications.vgg16.preprocess_input(pixels.copy()))
    assert np.count_nonzero(expected) > 1000
    np.testing.assert_allclose(ours(pixels)[:, 0, 0], expected, rtol=1e-3, atol=1e-4 * float(np.max(expected)))
    keras.applications.VGG16(weights=None, include_top=False).save_weights(tmp_path / "headless.weights.h5")
    with pytest.raises(UserError, match="with its classifier, which fc6 and fc7 are made of"):
        vgg.load_vgg16(ours, str(tmp_path / "headless.weights.h5"))


def test_fully_connected_layers_become_convolutions():
    """A dense layer over 7 x 7 maps and a 7 x 7 convolution of them are one."""
    generator = np.random.default_rng(0)
    dense = [generator.normal(size=(7 * 7 * 6, 5)).astype(np.float32), generator.normal(size=5).astype(np.float32)]
    maps = keras.Input((7, 7, 6))
    model = keras.Model(maps, keras.layers.Conv2D(5, 7, name="fc6")(maps))
    vgg.copy_weights({"fc1": dense}, {"fc1": "fc6"}, model)
    values = generator.normal(size=(2, 7, 7, 6)).astype(np.float32)
    expected = values.reshape(2, -1) @ dense[0] + dense[1]
    np.testing.assert_allclose(np.reshape(model(values), (2, 5)), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"fc1 has the shape \(294, 4\), the model's fc6 \(7, 7, 6, 5\)"):
        vgg.copy_weights({"fc1": [dense[0][:, :4], dense[1]]}, {"fc1": "fc6"}, model)
