"""Adaptive late fusion: in numpy by blocks, in the graph over an exact index, and rescored over an approximate one."""

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.matching.scores import Comparison, Measure, split_parts
from tfthesis.method import Gallery
from tfthesis.metrics import adaptive_fusion
from tfthesis.retrieval import adaptive, exact
from tfthesis.retrieval.adaptive import adaptive_search, rescored_search
from tfthesis.retrieval.neighbours import build_neighbours

WIDTHS = (3, 5, 4)


def joined(n, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, width)) for width in WIDTHS]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    return (np.concatenate(unit, axis=1) / np.sqrt(len(WIDTHS))).astype(np.float32)


def fused(queries, gallery):
    """Eq 6.9 to 6.11 on whole score matrices."""
    sides = [np.split(vectors * np.sqrt(3), np.cumsum(WIDTHS)[:-1], axis=1) for vectors in (queries, gallery)]
    scores = np.stack([query @ items.T for query, items in zip(*sides, strict=True)], axis=2)
    inverse = 1 / np.maximum(scores, 0).sum(axis=1)
    return np.einsum("qns,qs->qn", scores, inverse / inverse.sum(axis=1, keepdims=True))


def index_of(vectors):
    names = [str(row) for row in range(len(vectors))]
    return build_neighbours(Gallery(names, vectors, names))


def ids(answer):
    return np.array([[int(name) for name in row] for row in answer["ids"].numpy()])


@pytest.mark.parametrize("block", [1, 7, 1 << 24])
def test_areas_do_not_depend_on_the_blocks(monkeypatch, block):
    monkeypatch.setattr(adaptive_fusion, "BLOCK", block)
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(11, 4)).astype(np.float32), rng.normal(size=(23, 4)).astype(np.float32)
    expected = np.maximum(queries @ candidates.T, 0).sum(axis=1)
    np.testing.assert_allclose(adaptive_fusion.positive_areas(queries, candidates), expected, rtol=1e-5)


def test_a_smaller_area_weighs_more_and_no_area_all_alike():
    weights = adaptive_fusion.adaptive_weights(np.array([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(weights, [[0.75, 0.25], [0.5, 0.5], [1, 0]], atol=1e-9)


def test_comparisons_give_the_fused_scores():
    images, texts = joined(6, 0), joined(40, 1)
    compared = Comparison({"image": images, "text": texts}, WIDTHS)
    rows = np.arange(6)
    found = compared.scores("image", rows, Measure((0, 1, 2), adaptive=True))
    np.testing.assert_allclose(found, fused(images, texts), atol=1e-5)
    assert compared.candidates("text", compared.whole) is texts
    parts = [split_parts(side, WIDTHS) for side in (images, texts)]
    for part in range(3):
        cosines = 3 * parts[0][part] @ parts[1][part].T
        np.testing.assert_allclose(compared.scores("image", rows, Measure((part,))), cosines, atol=1e-6)
    average = np.mean([3 * parts[0][part] @ parts[1][part].T for part in (0, 2)], axis=0)
    np.testing.assert_allclose(compared.scores("image", rows, Measure((0, 2))), average, atol=1e-6)
    np.testing.assert_allclose(compared.scores("text", np.array([3]), Measure((0, 2))), average.T[3:4], atol=1e-6)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="expected parts of .3, 5. components, got 12 in all"):
        split_parts(joined(2, 0), (3, 5))


@pytest.mark.parametrize("numbers", [1, 64 * 12, 1 << 23])
def test_the_exact_index_equals_the_equations(monkeypatch, numbers):
    monkeypatch.setattr(exact, "AREA_NUMBERS", numbers)
    queries, gallery = joined(6, 0), joined(150, 1)
    expected = fused(queries, gallery)
    index = index_of(gallery)
    answer = tf.function(lambda q: adaptive_search(index, q, WIDTHS, 10))(tf.constant(queries))
    np.testing.assert_array_equal(ids(answer), np.argsort(-expected, axis=1)[:, :10])
    np.testing.assert_allclose(answer["scores"], -np.sort(-expected, axis=1)[:, :10], atol=1e-5)
    assert adaptive_search(index, tf.zeros([0, 12]), WIDTHS, 10)["ids"].shape == (0, 10)


def test_rescoring_fuses_the_best_averages(monkeypatch):
    monkeypatch.setattr(adaptive, "CANDIDATES", 20)
    queries, gallery = joined(6, 0), joined(150, 1)
    answer = rescored_search(index_of(gallery), tf.constant(queries), WIDTHS, 10)
    for row, (query, found) in enumerate(zip(queries, ids(answer), strict=True)):
        near = np.argsort(-(gallery @ query))[:20]
        scores = fused(query[None], gallery[near])[0]
        np.testing.assert_array_equal(found, near[np.argsort(-scores)[:10]])
        np.testing.assert_allclose(answer["scores"][row], -np.sort(-scores)[:10], atol=1e-5)


def test_scann_keeps_the_vectors_that_rescoring_needs():
    scann_neighbours = pytest.importorskip("tfthesis.retrieval.scann_neighbours")
    gallery = joined(1200, 3)
    names = [str(row) for row in range(len(gallery))]
    index = scann_neighbours.ScannNeighbours(Gallery(names, gallery, names))
    np.testing.assert_allclose(index.vectors(tf.constant([[3, 0], [1199, 7]])), gallery[[[3, 0], [1199, 7]]], atol=1e-6)
    answer = tf.function(lambda q: rescored_search(index, q, WIDTHS, 5))(tf.constant(joined(4, 0)))
    assert answer["ids"].shape == (4, 5)


@pytest.mark.parametrize("search", [adaptive_search, rescored_search])
def test_queries_that_are_not_finite_or_of_another_width_are_refused(search):
    index, queries = index_of(joined(50, 1)), joined(3, 0)
    with pytest.raises(UserError, match="expected shape .batch, 12., got"):
        search(index, tf.constant(queries[:, 1:]), WIDTHS, 5)
    queries[1, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN or infinity"):
        search(index, tf.constant(queries), WIDTHS, 5)
