"""Opening encoders by name, their descriptions, and the tiny image encoder."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import tfthesis.encoders
from tests.encoders.test_word_vectors import write_arrays
from tfthesis.encoders import encoder_names, open_encoder, reopen
from tfthesis.encoders.pixels import Pixels
from tfthesis.errors import UserError


def png(colour, size=(20, 30)):
    return tf.io.encode_png(np.broadcast_to(np.array(colour, np.uint8), (*size, 3))).numpy()


def test_names():
    images, texts = encoder_names("image"), encoder_names("text")
    assert {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet152", "vgg19", "pixels"} <= {
        *images
    }
    assert {"glove_50d", "word_vectors", "hashed_words"} <= {*texts}
    assert not {*images} & {*texts}
    with pytest.raises(UserError, match="unknown modality 'images'. Did you mean 'image'"):
        encoder_names("images")


def test_a_new_file_is_a_new_encoder(monkeypatch):
    module = types.ModuleType("tfthesis.encoders.mine")
    module.ENCODERS = {"mine": Pixels}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = [*tfthesis.encoders.pkgutil.iter_modules(tfthesis.encoders.__path__), types.SimpleNamespace(name="mine")]
    monkeypatch.setattr(tfthesis.encoders.pkgutil, "iter_modules", lambda path: found)
    assert "mine" in encoder_names("image")
    assert open_encoder("mine").name == "mine"


def test_unknown_names_and_options():
    with pytest.raises(UserError, match="unknown encoder 'pixel'. Did you mean 'pixels'"):
        open_encoder("pixel")
    with pytest.raises(UserError, match="'hashed_words' has no option 'max_words'"):
        open_encoder("hashed_words", max_words=3)
    for name in ("pixels", "hashed_words"):
        with pytest.raises(UserError, match="no weights to choose"):
            open_encoder(name, "file.npz")


def test_reopen_gives_the_same_encoder(tmp_path):
    path = write_arrays(tmp_path / "v.npy")
    texts = tf.constant(["the dog", "naïve"])
    for encoder in (
        open_encoder("pixels"),
        open_encoder("hashed_words"),
        open_encoder("word_vectors", path),
        open_encoder("word_vectors", path, max_words=3, vocabulary=["dog", "the"]),
    ):
        description = json.loads(json.dumps(encoder.describe()))
        again = reopen(description)
        assert again.describe() == encoder.describe()
        if encoder.modality == "text":
            np.testing.assert_array_equal(again(texts), encoder(texts))


def test_reopen_from_another_folder(tmp_path, monkeypatch):
    write_arrays(tmp_path / "v.npy")
    monkeypatch.chdir(tmp_path)
    description = open_encoder("word_vectors", "v.npy").describe()
    monkeypatch.chdir("/")
    assert reopen(description).describe() == description


def test_reopen_refuses_other_weights(tmp_path):
    path = write_arrays(tmp_path / "v.npy")
    description = open_encoder("word_vectors", path).describe()
    vectors = np.load(path)
    vectors[1, 1] += 0.25
    np.save(path, vectors)
    with pytest.raises(UserError, match="'word_vectors'.*changed: expected fingerprint"):
        reopen(description)


def test_an_empty_batch_never_reaches_a_network():
    encoder = open_encoder("pixels")

    def refuse_empty(items):
        with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(items)[0])]):
            return tf.zeros([tf.shape(items)[0], encoder.dimension])

    encoder.encode = refuse_empty
    for call in (encoder.__call__, tf.function(encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string)])):
        assert call(tf.constant([], tf.string)).shape == (0, encoder.dimension)
        assert call(tf.constant([png((1, 2, 3))])).shape == (1, encoder.dimension)


def test_pixels_tell_colours_and_places_apart():
    encoder = open_encoder("pixels")
    half = np.zeros((20, 30, 3), np.uint8)
    half[:, :15] = 255
    images = [png((255, 0, 0)), png((255, 0, 0), (60, 10)), png((0, 0, 255))]
    images += [tf.io.encode_png(half).numpy(), tf.io.encode_png(half[:, ::-1]).numpy()]
    features = encoder(tf.constant(images)).numpy()
    assert features.shape == (5, encoder.dimension) and features.dtype == np.float32
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert np.linalg.norm(features[0] - features[2]) > 1
    assert np.linalg.norm(features[3] - features[4]) > 1
    assert encoder(tf.constant([], tf.string)).shape == (0, encoder.dimension)
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoder(tf.constant([images[0], b"no image"]))
