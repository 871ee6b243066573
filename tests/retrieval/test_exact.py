"""The exact search against numpy."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.method import Gallery
from tfthesis.retrieval.neighbours import build_neighbours


def gallery_of(vectors):
    vectors = np.asarray(vectors)
    names = [f"item {row}" for row in range(len(vectors))]
    return Gallery(names, vectors, [f"käse {row}" for row in range(len(vectors))])


def best_rows(vectors, queries, k):
    """The oracle: a stable sort by falling score keeps the lower row first among equals."""
    return np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), axis=1, kind="stable")[:, :k]


# Small whole numbers: every inner product is exact in float32, so ids and ties have to agree to the last one.
whole_numbers = st.integers(1, 80).flatmap(
    lambda width: st.tuples(
        arrays.arrays(np.float32, st.tuples(st.integers(1, 150), st.just(width)), elements=st.integers(-3, 3)),
        arrays.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(width)), elements=st.integers(-3, 3)),
    )
)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(whole_numbers, st.integers(1, 200))
def test_equals_numpy_ties_included(both, k):
    vectors, queries = both
    neighbours = build_neighbours(gallery_of(vectors))
    answer = neighbours.search(tf.constant(queries), k)
    rows = best_rows(vectors, queries, k)
    assert answer["ids"].shape == (len(queries), min(k, len(vectors)))
    np.testing.assert_array_equal(answer["ids"].numpy(), np.array([b"item %d" % row for row in range(150)])[rows])
    np.testing.assert_array_equal(answer["scores"].numpy(), np.take_along_axis(queries @ vectors.T, rows, axis=1))
    expected = [[f"käse {row}" for row in query] for query in rows]
    assert [[text.decode() for text in query] for query in answer["payload"].numpy()] == expected


@pytest.mark.parametrize("size", [1, 7, 33, 101, 1003])
@pytest.mark.parametrize("batch", [1, 2, 5, 32])
def test_equal_vectors_get_equal_scores_wherever_they_stand(size, batch):
    generator = np.random.default_rng(size)
    vectors = np.repeat(generator.normal(size=(1, 50)).astype(np.float32), size, axis=0)
    queries = generator.normal(size=(batch, 50)).astype(np.float32)
    answer = build_neighbours(gallery_of(vectors)).search(tf.constant(queries), size)
    assert all(len(set(scores)) == 1 for scores in answer["scores"].numpy())
    assert all(list(ids) == [b"item %d" % row for row in range(size)] for ids in answer["ids"].numpy())


def test_real_numbers_within_rounding():
    generator = np.random.default_rng(0)
    vectors, queries = generator.normal(size=(500, 64)), generator.normal(size=(20, 64))
    answer = build_neighbours(gallery_of(vectors)).search(tf.constant(queries), 10)
    truth = -np.sort(-(queries @ vectors.T), axis=1)[:, :10]
    np.testing.assert_allclose(answer["scores"].numpy(), truth, rtol=1e-5, atol=1e-5)


def test_works_in_a_graph_of_unknown_batch():
    neighbours = build_neighbours(gallery_of(np.eye(4)))
    search = tf.function(lambda queries: neighbours.search(queries, 2), input_signature=[tf.TensorSpec([None, 4])])
    assert search(np.eye(4, dtype=np.float32)[[2, 0, 3]])["ids"][:, 0].numpy().tolist() == [
        b"item 2", b"item 0", b"item 3",
    ]  # fmt: skip
    assert search(np.zeros((0, 4), np.float32))["ids"].shape == (0, 2)


def test_a_query_that_is_not_finite_is_refused():
    neighbours = build_neighbours(gallery_of(np.eye(4)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a query holds NaN or infinity"):
        neighbours.search(tf.constant([[np.nan, 0, 0, 0]]), 1)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_k_has_to_be_a_positive_integer(k):
    with pytest.raises(UserError, match="k: expected a positive integer"):
        build_neighbours(gallery_of(np.eye(4))).search(tf.eye(4), k)


@pytest.mark.parametrize("shape", [(2, 5), (4,), (1, 1, 4)])
def test_queries_of_another_width_are_named(shape):
    with pytest.raises(UserError, match=r"queries: expected shape \[batch, 4\]"):
        build_neighbours(gallery_of(np.eye(4))).search(tf.zeros(shape), 1)
