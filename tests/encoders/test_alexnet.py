"""AlexNet in Caffe's form, narrow and with random weights, against loops in numpy."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_open_encoder import png
from tfthesis.encoders import alexnet, open_encoder, reopen
from tfthesis.encoders.alexnet import PLAN, Convolution, Plan, convolve, local_response_normalization, shapes
from tfthesis.errors import UserError

WIDTHS = (8, 12, 6, 10, 4)
NARROW = Plan(
    tuple(layer._replace(channels=width) for layer, width in zip(PLAN.convolutions, WIDTHS, strict=True)), (14, 9, 5)
)


def random_arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        key: (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
        for key, shape in shapes(NARROW).items()
    }


@pytest.fixture
def arrays(monkeypatch):
    monkeypatch.setattr(alexnet, "PLAN", NARROW)
    return random_arrays()


@pytest.fixture
def weights(tmp_path, arrays):
    np.savez(tmp_path / "w.npz", **arrays)
    return tmp_path / "w.npz"


def photo(seed=0, size=(90, 140)):
    return tf.io.encode_png(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).numpy()


def slow_convolution(x, kernel, bias, stride, pad, groups):
    """One image `[h, w, C]`, position by position and output by output; each output sees its own group alone."""
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    size, inputs, outputs = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    side = (x.shape[0] - size) // stride + 1
    result = np.zeros((side, side, outputs))
    for output in range(outputs):
        first = output // (outputs // groups) * inputs
        for i in range(side):
            for j in range(side):
                window = x[i * stride : i * stride + size, j * stride : j * stride + size, first : first + inputs]
                result[i, j, output] = (window * kernel[..., output]).sum() + bias[output]
    return result


def slow_normalization(x):
    """Caffe's formula: local size 5, alpha 0.0001, beta 0.75, k 1."""
    result = np.empty_like(x)
    for channel in range(x.shape[-1]):
        near = x[..., max(channel - 2, 0) : channel + 3]
        result[..., channel] = x[..., channel] / (1 + 1e-4 / 5 * (near**2).sum(axis=-1)) ** 0.75
    return result


def slow_pooling(x):
    side = -(-(x.shape[0] - 3) // 2) + 1  # rounded up, as Caffe does
    return np.array([[x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(side)] for i in range(side)])


def test_counts_of_the_released_network():
    """Krizhevsky's 60 million: 60,965,224 in Caffe's file, and 4,097,000 fewer without the classifier."""
    sizes = {key: int(np.prod(shape)) for key, shape in shapes(PLAN).items()}
    assert sum(sizes.values()) == 60_965_224
    assert sum(size for key, size in sizes.items() if not key.startswith("fc8")) == 56_868_224
    assert shapes(PLAN)["conv1/kernel"] == (11, 11, 3, 96)
    assert shapes(PLAN)["conv2/kernel"] == (5, 5, 48, 256)
    assert shapes(PLAN)["conv3/kernel"] == (3, 3, 256, 384)
    assert shapes(PLAN)["conv4/kernel"] == (3, 3, 192, 384)
    assert shapes(PLAN)["conv5/kernel"] == (3, 3, 192, 256)
    assert shapes(PLAN)["fc6/kernel"] == (6, 6, 256, 4096)
    assert shapes(PLAN)["fc8/kernel"] == (4096, 1000)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_convolution(groups):
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(2, 9, 9, 6)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 6 // groups, 12)).astype(np.float32)
    bias = rng.normal(size=12).astype(np.float32)
    layer = Convolution(12, 3, stride=2, pad=1, groups=groups)
    found = convolve(tf.constant(x), tf.constant(kernel), tf.constant(bias), layer)
    expected = [slow_convolution(image, kernel, bias, 2, 1, groups) for image in x]
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-4)


def test_local_response_normalization():
    x = 300 * np.random.default_rng(0).normal(size=(2, 3, 3, 9)).astype(np.float32)
    found = local_response_normalization(tf.constant(x)).numpy()
    np.testing.assert_allclose(found, slow_normalization(x.astype(np.float64)), rtol=1e-4)
    assert np.abs(found / x - 1).max() > 0.5


def test_the_order_is_rectifier_normalization_pooling():
    rng = np.random.default_rng(1)
    x = 200 * rng.normal(size=(1, 9, 9, 4)).astype(np.float32)
    kernel, bias = rng.normal(size=(3, 3, 4, 6)).astype(np.float32), np.zeros(6, np.float32)
    found = convolve(x, tf.constant(kernel), tf.constant(bias), Convolution(6, 3, normalised=True, pooled=True))
    rectified = np.maximum(slow_convolution(x[0], kernel, bias, 1, 0, 1), 0)
    np.testing.assert_allclose(found[0], slow_pooling(slow_normalization(rectified)), rtol=1e-3)
    assert np.abs(found[0] - slow_normalization(slow_pooling(rectified))).max() > 1


def slow_features(image, arrays, layer):
    """The whole network in numpy."""
    x = image[..., ::-1].astype(np.float64) - [104, 117, 123]
    for number, plan in enumerate(NARROW.convolutions, start=1):
        kernel, bias = arrays[f"conv{number}/kernel"], arrays[f"conv{number}/bias"]
        x = np.maximum(slow_convolution(x, kernel, bias, plan.stride, plan.pad, plan.groups), 0)
        x = slow_normalization(x) if plan.normalised else x
        x = slow_pooling(x) if plan.pooled else x
    assert x.shape == (6, 6, WIDTHS[-1])
    x = np.maximum(np.einsum("hwc,hwcu->u", x, arrays["fc6/kernel"]) + arrays["fc6/bias"], 0)
    return x if layer == "fc6" else np.maximum(x @ arrays["fc7/kernel"] + arrays["fc7/bias"], 0)


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_features_are_those_of_the_loops(weights, arrays, layer):
    encoder = open_encoder("alexnet", weights, layer=layer)
    image = photo()
    pixels = encoder.prepare(tf.constant(image)).numpy()
    found = encoder(tf.constant([image])).numpy()
    assert found.shape == (1, NARROW.units[0 if layer == "fc6" else 1]) == (1, encoder.dimension)
    expected = slow_features(pixels, arrays, layer)
    assert (expected > 0).any()
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-3)


def test_input_is_the_middle_of_a_stretched_image(weights):
    encoder = open_encoder("alexnet", weights)
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    file = tf.io.encode_png(np.stack([rows, columns, np.zeros_like(rows)], axis=-1))
    pixels = encoder.prepare(file).numpy()
    assert pixels.shape == (227, 227, 3)
    assert pixels[0, 0].tolist() == [14, 14, 0] and pixels[-1, -1].tolist() == [240, 240, 0]
    wide = encoder.prepare(tf.constant(png((10, 20, 30), (40, 300)))).numpy()
    np.testing.assert_allclose(wide, np.broadcast_to([10, 20, 30], wide.shape), atol=1e-3)


def test_default_is_fc7_and_layers_differ(weights):
    default, other = open_encoder("alexnet", weights), open_encoder("alexnet", weights, layer="fc6")
    assert default.layer == "fc7" and default.chosen() == {"layer": "fc7"}
    assert default.fingerprint != other.fingerprint
    again = reopen(other.describe())
    assert again.describe() == other.describe()
    np.testing.assert_array_equal(again(tf.constant([photo()])), other(tf.constant([photo()])))


def test_logits(tmp_path, weights, arrays):
    encoder = open_encoder("alexnet", weights)
    features = encoder(tf.constant([photo(), photo(1)]))
    np.testing.assert_allclose(
        encoder.logits(features), features.numpy() @ arrays["fc8/kernel"] + arrays["fc8/bias"], rtol=1e-4, atol=1e-5
    )
    np.savez(tmp_path / "trunk.npz", **{key: array for key, array in arrays.items() if not key.startswith("fc8")})
    trunk = open_encoder("alexnet", tmp_path / "trunk.npz")
    np.testing.assert_array_equal(trunk(tf.constant([photo()])), features[:1])
    for without in (trunk, open_encoder("alexnet", weights, layer="fc6")):
        with pytest.raises(UserError, match="logits need the layer fc7 and weights with fc8"):
            without.logits(features)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.pop("conv2/kernel"), "missing are conv2/kernel"),
        (lambda a: [a.pop("conv4/bias"), a.pop("fc8/bias")], "missing are conv4/bias, fc8/bias"),
        (
            lambda a: a.update({"conv4/kernel": np.zeros((3, 3, 6, 10), np.float32)}),
            "conv4/kernel of shape (3, 3, 3, 10), got (3, 3, 6, 10)",
        ),
        (
            lambda a: a.update({"fc6/kernel": a["fc6/kernel"].reshape(-1, 14), "fc7/bias": np.zeros(1, np.float32)}),
            "fc6/kernel of shape (6, 6, 4, 14), got (144, 14); fc7/bias of shape (9,), got (1,)",
        ),
        (lambda a: a.update({"conv1/bias": np.array(list("abcdefgh"))}), "expected float arrays conv1/bias"),
    ],
)
def test_arrays_that_do_not_fit_are_all_named(tmp_path, arrays, spoil, message):
    spoil(arrays)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(UserError, match=re.escape(message)):
        open_encoder("alexnet", tmp_path / "w.npz")


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "objects.npz", **{"conv1/kernel": np.array([{}], object)}, allow_pickle=True)
    for name, message in (("text.npz", "cannot be read"), ("objects.npz", "cannot be read"), ("no.npz", "no file")):
        with pytest.raises(UserError, match=message):
            open_encoder("alexnet", tmp_path / name)
    with pytest.raises(UserError, match="give its weights, an .npz file"):
        open_encoder("alexnet")
    with pytest.raises(UserError, match="Did you mean 'fc7'"):
        open_encoder("alexnet", tmp_path / "no.npz", layer="fc77")


def test_a_saved_model_answers_alike_in_a_session(tmp_path, weights):
    encoder = open_encoder("alexnet", weights)
    signature = [tf.TensorSpec([None], tf.string, name="raw")]
    module = tf.Module()
    module.tracked = encoder.trackables()
    serve = tf.function(lambda raw: {"feature": encoder(raw)}, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serve": serve})
    images = [photo(), photo(1)]
    expected = encoder(tf.constant(images)).numpy()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model")).signature_def["serve"]
        (feed,) = loaded.inputs.values()
        found = session.run(loaded.outputs["feature"].name, {feed.name: images})
        assert session.run(loaded.outputs["feature"].name, {feed.name: np.array([], object)}).shape == (0, 9)
    np.testing.assert_allclose(found, expected, atol=1e-5)
