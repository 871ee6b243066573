"""The classifier of the inception score: trained once, kept, and the same for every run."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.swapping.classifier import ClassifierOptions, ClothesClassifier, open_classifier

OPTIONS = ClassifierOptions(filters=4, epochs=12, batch_size=8)


def images(count=48, seed=0):
    """Return images of three classes: which channel is bright."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    pixels = generator.integers(0, 100, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, labels] += 100
    return pixels.astype(np.uint8), labels


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return folder, open_classifier(OPTIONS, *images(), "rgb", folder)


def test_it_learns_the_labels(kept):
    _, classifier = kept
    unseen, labels = images(seed=1)
    assert classifier.accuracy(unseen, labels) > 0.9
    assert classifier.name == "a small network that names 3 classes of clothes"
    found = classifier.probabilities(unseen)
    assert found.shape == (48, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    # How many images are looked at together changes nothing.
    np.testing.assert_allclose(classifier.probabilities(unseen[:5]), found[:5], atol=1e-5)
    assert classifier.probabilities(unseen[:0]).shape == (0, 3)


def test_it_is_trained_once(kept, monkeypatch):
    folder, classifier = kept
    (path,) = folder.glob("*/weights.npz")
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("trains again"))
    again = open_classifier(OPTIONS, *images(), "rgb", folder)
    np.testing.assert_array_equal(again.probabilities(images()[0]), classifier.probabilities(images()[0]))
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:100])
    repaired = open_classifier(OPTIONS, *images(), "rgb", folder)
    np.testing.assert_allclose(repaired.probabilities(images()[0]), classifier.probabilities(images()[0]), atol=1e-4)


def test_other_images_or_options_have_a_network_of_their_own(kept, tmp_path):
    short = dataclasses.replace(OPTIONS, epochs=1)
    pixels, labels = images()
    other = labels.copy()
    other[0] = (other[0] + 1) % 3
    for arguments in ((pixels, labels), (pixels, other), (pixels[:40], labels[:40])):
        open_classifier(short, *arguments, "rgb", tmp_path)
    open_classifier(dataclasses.replace(short, batch_size=16), pixels, labels, "rgb", tmp_path)
    assert len(list(tmp_path.glob("*/weights.npz"))) == 4


def test_refuses(tmp_path):
    pixels, labels = images(4)
    with pytest.raises(UserError, match="needs labels of two classes or more.*take inception_v3"):
        open_classifier(OPTIONS, pixels, None, (), tmp_path)
    with pytest.raises(UserError, match="Did you mean 'clothes'"):
        open_classifier(dataclasses.replace(OPTIONS, kind="cloth"), pixels, labels, "rgb", tmp_path)
    inception = ClassifierOptions(kind="inception_v3", weights=str(tmp_path / "none.h5"))
    with pytest.raises(UserError, match="classifier 'inception_v3': no file"):
        open_classifier(inception, pixels, labels, "rgb", tmp_path)


@pytest.mark.slow
def test_inception_from_a_file(tmp_path):
    network = keras.applications.InceptionV3(weights=None)
    network.save_weights(tmp_path / "inception.weights.h5")
    classifier = open_classifier(
        ClassifierOptions(kind="inception_v3", weights=str(tmp_path / "inception.weights.h5")), images(2)[0], None, ()
    )
    assert isinstance(classifier, ClothesClassifier) and classifier.name.startswith(
        "keras.applications' Inception-v3 with weights "
    )
    pixels = images(2)[0]
    found = classifier.probabilities(pixels)
    assert found.shape == (2, 1000)
    scaled = keras.ops.image.resize(pixels.astype(np.float32), (299, 299), interpolation="bilinear")
    expected = network(keras.applications.inception_v3.preprocess_input(np.array(scaled)), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    (tmp_path / "other.weights.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="do not fit Inception-v3"):
        open_classifier(
            ClassifierOptions(kind="inception_v3", weights=str(tmp_path / "other.weights.h5")), pixels, None, ()
        )
