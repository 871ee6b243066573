"""Codebooks, signatures and projections."""

from __future__ import annotations

import errno

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.inverted_index.slow import nearest
from tfthesis.errors import UserError
from tfthesis.inverted_index import codebook as codebooks
from tfthesis.inverted_index import files
from tfthesis.inverted_index import signatures as signing
from tfthesis.inverted_index.codebook import Codebook, codebook_size, fit_codebook
from tfthesis.inverted_index.projection import fit_projection, unit
from tfthesis.inverted_index.signatures import Signatures, encode, hellinger_distance, rooted


def whole(*shape):
    return arrays.arrays(np.float32, st.tuples(*shape), elements=st.integers(-3, 3))


@hypothesis.given(whole(st.integers(1, 90), st.just(3)), whole(st.integers(0, 30), st.just(3)), st.data())
def test_nearest_words_are_those_of_plain_loops_ties_by_number(words, vectors, data):
    count = data.draw(st.integers(1, min(4, len(words))))
    found = Codebook(words).nearest(vectors, count)
    assert (found.shape, found.dtype) == ((len(vectors), count), np.int32)
    assert found.tolist() == [nearest(vector, words, count) for vector in vectors]


@pytest.mark.parametrize("copies", [1, 2, 7, 13, 40])
@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_of_equal_words_the_first_is_the_nearest(copies, count):
    rng = np.random.default_rng(copies)
    words, vectors = np.tile(rng.normal(size=(5, 19)), (copies, 1)), rng.normal(size=(count, 19))
    book = Codebook(words)
    assert (book.nearest(vectors) < 5).all()
    assert (np.diff(book.nearest(vectors, copies), axis=1) == 5).all()


def test_words_that_float32_cannot_tell_apart_are_ranked_exactly():
    rng = np.random.default_rng(0)
    # Far from the origin, products in float32 are off by more than the words of a cluster differ.
    words = (np.repeat(rng.normal(size=(40, 300)), 20, 0) + 30 + 1e-3 * rng.normal(size=(800, 300))).astype(np.float32)
    vectors = (words[::7] + 1e-3 * rng.normal(size=(115, 300))).astype(np.float32)
    wide = vectors.astype(np.float64) @ words.T.astype(np.float64) - (words.astype(np.float64) ** 2).sum(1) / 2
    expected = np.argsort(-wide.astype(np.float32), axis=1, kind="stable")[:, :4]
    assert (np.argsort(-(vectors @ words.T - (words**2).sum(1) / 2), axis=1, kind="stable")[:, :4] != expected).any()
    np.testing.assert_array_equal(Codebook(words).nearest(vectors, 4), expected)
    np.testing.assert_array_equal(Codebook(words).nearest(vectors), expected[:, :1])


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    words, vectors = rng.normal(size=(70, 5)), rng.normal(size=(333, 5))
    found = Codebook(words).nearest(vectors, 3)
    squares = ((vectors[:, None] - words.astype(np.float32)) ** 2).sum(2)
    np.testing.assert_array_equal(found, np.argsort(squares, axis=1)[:, :3])
    monkeypatch.setattr(codebooks, "_BLOCK", 1000)
    np.testing.assert_array_equal(Codebook(words).nearest(vectors, 3), found)


def clusters(count, each, seed=0):
    rng = np.random.default_rng(seed)
    centres = 10 * rng.normal(size=(count, 8))
    return unit((centres[:, None] + 0.1 * rng.normal(size=(count, each, 8))).reshape(-1, 8)), np.repeat(
        range(count), each
    )


@pytest.mark.parametrize("large", [0, 10**9])
def test_k_means_finds_clusters_and_repeats(monkeypatch, large):
    monkeypatch.setattr(codebooks, "_LARGE", large)
    vectors, labels = clusters(8, 200)
    book = fit_codebook(vectors, 8 if large else 24, seed=3)
    words = book.nearest(vectors)[:, 0]
    owners = [set(labels[words == word]) for word in range(len(book))]
    assert all(len(owner) <= 1 for owner in owners), "a word has patches of two clusters"
    np.testing.assert_array_equal(fit_codebook(vectors, len(book), seed=3).words, book.words)
    assert not np.array_equal(fit_codebook(vectors, len(book), seed=4).words, book.words)


def test_size_follows_the_patches():
    assert codebook_size(1491 * 14) == 5218
    assert codebook_size(10_200 * 14) == 10_000
    assert codebook_size(3) == 1
    assert codebook_size(100, 100) == 100


@pytest.mark.parametrize("words", [101, 0, -1])
def test_more_words_than_patches_are_refused(words):
    with pytest.raises(UserError, match=f"expected from 1 to the 100 training patches, got {words}"):
        codebook_size(100, words)
    with pytest.raises(UserError, match="training patches"):
        fit_codebook(np.eye(100), words)


@pytest.mark.parametrize("broken", [np.zeros((0, 2)), np.zeros(3), np.zeros((2, 2, 2))])
def test_words_have_a_shape(broken):
    with pytest.raises(UserError, match=r"words of a codebook: expected shape \[words, width\]"):
        Codebook(broken)


def test_numbers_are_finite():
    with pytest.raises(UserError, match="words of a codebook: expected finite"):
        Codebook([[np.nan]])
    with pytest.raises(UserError, match="features: expected finite"):
        fit_codebook(np.full((4, 2), np.inf), 2)
    with pytest.raises(UserError, match=r"expected shape \[patches, width\], got \[4\]"):
        fit_codebook(np.zeros(4), 2)


def test_root_features():
    np.testing.assert_allclose(rooted([[1, 3], [0, 0], [-4, 0]]), [[0.5, 0.75**0.5], [0, 0], [-1, 0]], rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(50, 9))
    np.testing.assert_allclose((rooted(x) ** 2).sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.sign(rooted(x)), np.sign(x))


def test_the_distance_is_that_of_the_thesis():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 20, 7))
    kernel = np.sqrt((x / x.sum(1, keepdims=True)) * (y / y.sum(1, keepdims=True))).sum(1)
    distance = hellinger_distance((rooted(x) * rooted(y)).sum(1))
    np.testing.assert_allclose(distance, 2 - 2 * kernel, atol=1e-6)
    np.testing.assert_allclose(distance, ((rooted(x) - rooted(y)) ** 2).sum(1), atol=1e-6)
    assert hellinger_distance(np.array([1 + 1e-6, 1.0, -1.0])).tolist() == [0.0, 0.0, 4.0]


@pytest.mark.parametrize(("kind", "error"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 0.02)])
def test_signatures_are_kept_within_the_error_of_their_kind(monkeypatch, kind, error):
    monkeypatch.setattr(signing, "_NUMBERS", 70)
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(40, 16)), rng.random((40, 5))]
    parts[0][3] = 0
    values, scales = encode(parts, kind)
    assert (values.dtype, values.shape) == (np.dtype(kind), (40, 21))
    kept = Signatures(kind, (16, 5), values, scales)
    rows = np.array([5, 3, 39, 5, 0, 1, 2, 4, 8, 9])
    for mine, part in zip(kept.decoded(rows), parts, strict=True):
        np.testing.assert_allclose(mine, rooted(part[rows]), atol=error / 4)
    asked, queries = [rooted(rng.normal(size=(3, 16))), rooted(rng.random((3, 5)))], np.repeat([0, 2], [6, 4])
    products = [(rooted(part[rows]) * query[queries]).sum(1) for part, query in zip(parts, asked, strict=True)]
    expected = sum(2 - 2 * product for product in products)
    found = kept.distances(queries, rows, asked)
    np.testing.assert_allclose(found, expected, atol=error)
    assert found[0] == found[3], "equal signatures have equal distances"


@pytest.fixture(params=["codebook", "projection"])
def fitted(request):
    """A codebook or a projection, and its arrays."""
    if request.param == "codebook":
        found = Codebook(np.random.default_rng(0).normal(size=(9, 4)))
        return found, {"words": found.words}
    found = fit_projection([scaled(30, 6)], 3)
    return found, {"mean": found.mean, "components": found.components, "explained": found.explained}


def test_what_was_fitted_is_saved_and_loaded(tmp_path, fitted):
    found, arrays = fitted
    found.save(tmp_path / "fitted")
    found.save(tmp_path / "fitted")
    loaded = type(found).load(tmp_path / "fitted")
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
        assert np.asarray(getattr(loaded, name)).dtype == np.asarray(array).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["fitted"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_what_was_saved(tmp_path, monkeypatch, fitted, error):
    found, _ = fitted
    path = tmp_path / "fitted"

    def full(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(error, "full")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(UserError, match="fitted: no space left on the device; nothing was written"):
        found.save(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"before")
    with pytest.raises(UserError, match="nothing was written"):
        found.save(path)
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"before", 1)


def test_what_is_damaged_or_something_else_is_not_loaded(tmp_path, fitted):
    found, arrays = fitted
    path = tmp_path / "fitted"
    found.save(path)
    whole = path.read_bytes()
    flips = [bytearray(whole) for _ in range(0, len(whole), 7)]
    for place, flipped in enumerate(flips):
        flipped[7 * place] ^= 4
    for broken in (*flips, whole[:-1], whole[: len(whole) // 2], b"", b"\x80\x04N.", b"\x93NUMPY\x01\x00"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="fitted: damaged, or no file of arrays"):
            type(found).load(path)
    files.save_arrays(path, {name: np.array([{}], object) for name in arrays})
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        type(found).load(path)
    files.save_arrays(path, {"weights": np.zeros(3)})
    with pytest.raises(UserError, match=r"expected the arrays .*, found \['weights'\]"):
        type(found).load(path)
    with pytest.raises(UserError, match="nowhere: no such file"):
        type(found).load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected a path in a folder that exists"):
        found.save(tmp_path / "nowhere" / "fitted")


def test_unit_vectors():
    np.testing.assert_allclose(unit([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]])
    assert unit(np.ones((2, 3, 4))).shape == (2, 3, 4)


def scaled(count, width, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, width)) * 0.7 ** np.arange(width) @ rng.normal(size=(width, width)) + 3).astype(
        "f4"
    )


@pytest.mark.parametrize("step", [7, 64, 1000])
def test_projection_keeps_the_variance_of_a_whole_pca(step):
    x = scaled(500, 12)
    found = fit_projection((x[start : start + step] for start in range(0, 500, step)), 4)
    whole = PCA(4).fit(x)
    assert found.components.shape == (12, 4)
    np.testing.assert_allclose(found.components.T @ found.components, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-4)
    assert found.explained == pytest.approx(whole.explained_variance_ratio_.sum(), abs=0.01)
    kept = found(x).var(0, ddof=1).sum()
    assert kept == pytest.approx(whole.explained_variance_.sum(), rel=0.02)
    assert found(x[:6].reshape(2, 3, 12)).shape == (2, 3, 4)


def test_all_features_are_used():
    x = scaled(100, 6)
    found = fit_projection([x[:30], x[30:31], x[31:97], x[97:]], 5)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("pieces", "width", "message"),
    [
        ([scaled(20, 6)], 0, "expected a positive number, got 0"),
        ([scaled(20, 6)], 7, "expected at most the 6 of the features, got 7"),
        (
            [scaled(2, 6), scaled(1, 6)],
            4,
            "at least as many features to fit it to, got 3; take a smaller width",
        ),
        ([], 4, "got 0; take"),
        ([scaled(3, 6), scaled(3, 5)], 4, r"of one width, got one of shape \[3, 5\]"),
        ([np.zeros(6)], 4, r"got one of shape \[6\]"),
    ],
)
def test_projections_that_cannot_be_fitted(pieces, width, message):
    with pytest.raises(UserError, match=message):
        fit_projection(pieces, width)


def test_a_projection_has_a_width():
    with pytest.raises(UserError, match=r"features: expected width 6, got shape \[2, 5\]"):
        fit_projection([scaled(20, 6)], 2)(np.zeros((2, 5)))
