"""Average precision and the N-S score against loops over sorted lists, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tfthesis.errors import UserError
from tfthesis.metrics import ranked_lists
from tfthesis.metrics.ranked_lists import average_precision, group_average_precisions, group_ranks, ns_hits


def collection(seed, images=30, groups=6, width=4):
    """Random vectors in groups that all have at least two images."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(np.concatenate([np.repeat(np.arange(groups), 2), rng.integers(groups, size=images)]))
    return rng.normal(size=(len(numbers), width)), numbers


def walked(relevance, trapezoid):
    """Average precision by walking down a list of truth values, area by area."""
    area, recall, precision, hits = 0.0, 0.0, 1.0, 0
    for place, relevant in enumerate(relevance, start=1):
        before = precision
        hits += relevant
        recall_now, precision = hits / sum(relevance), hits / place
        area += (recall_now - recall) * ((before + precision) / 2 if trapezoid else precision)
        recall = recall_now
    return area


@pytest.mark.parametrize("rule", ["step", "trapezoid"])
@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_average_precision_is_the_area_below_the_walk(rule, relevance):
    ranks = np.flatnonzero(relevance)
    found = average_precision(ranks, len(ranks), rule)
    assert found == pytest.approx(walked(relevance, rule == "trapezoid"), abs=1e-12)


def test_average_precision_of_known_lists():
    # Relevant at the first and third of three places: (1 + 2/3) / 2, and with precisions 1 and 1/2 before them.
    assert average_precision(np.array([0, 2]), 2) == pytest.approx(5 / 6)
    assert average_precision(np.array([0, 2]), 2, "trapezoid") == pytest.approx((1 + (2 / 3 + 1 / 2) / 2) / 2)
    # The second relevant one was not retrieved at all.
    assert average_precision(np.array([0]), 2) == 0.5
    assert average_precision(np.array([1]), 1, "trapezoid") == 0.25


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_queries_are_left_out_of_their_own_lists(seed):
    vectors, groups = collection(seed)
    queries = np.random.default_rng(seed).permutation(len(vectors))[:9]
    found = group_average_precisions(vectors, groups, queries)
    trapezoids = group_average_precisions(vectors, groups, queries, "trapezoid")
    for query, step, trapezoid in zip(queries, found, trapezoids, strict=True):
        others = np.delete(np.arange(len(vectors)), query)
        scores, relevant = vectors[others] @ vectors[query], groups[others] == groups[query]
        assert step == pytest.approx(average_precision_score(relevant, scores))
        assert trapezoid == pytest.approx(walked(relevant[np.argsort(-scores)].tolist(), True))


def test_the_list_with_its_query_is_another(monkeypatch):
    """What Holidays forbids: the query at the top of its own list."""
    vectors, groups = collection(3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.arange(len(vectors))
    with_query = list(group_ranks(vectors, groups, queries, with_query=True))
    without = list(group_ranks(vectors, groups, queries))
    for longer, shorter in zip(with_query, without, strict=True):
        assert longer[0] == 0 and len(longer) == len(shorter) + 1
        np.testing.assert_array_equal(longer[1:] - 1, shorter)
    monkeypatch.setattr(ranked_lists, "BLOCK", 2 * len(vectors))
    for whole, chunked in zip(without, group_ranks(vectors, groups, queries), strict=True):
        np.testing.assert_array_equal(whole, chunked)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_ns_score_counts_the_four_best(seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(5), 4))
    vectors = rng.normal(size=(20, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = ns_hits(vectors, groups, np.arange(20))
    for query in range(20):
        best = np.argsort(-(vectors @ vectors[query]))[:4]
        assert query in best
        assert hits[query] == np.count_nonzero(groups[best] == groups[query])


def test_perfect_and_collapsed_vectors():
    groups = np.repeat(np.arange(5), 4)
    assert ns_hits(np.eye(5)[groups], groups, np.arange(20)).tolist() == [4] * 20
    assert group_average_precisions(np.eye(5)[groups], groups, np.arange(20)).tolist() == [1.0] * 20
    # Of images that are all alike every wrong one comes first, and the query itself is not found either.
    assert ns_hits(np.ones((20, 2)), groups, np.arange(20)).tolist() == [0] * 20
    worst = average_precision(np.array([16, 17, 18]), 3)
    assert group_average_precisions(np.ones((20, 2)), groups, np.arange(20)).tolist() == [worst] * 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": np.arange(3)}, r"groups \[N\], got \(4, 2\) and \(3,\)"),
        ({"queries": np.array([4])}, "queries must be rows of 4 vectors"),
        ({"queries": np.array([3])}, "row 3 is the only image of its group"),
        ({"vectors": np.full((4, 2), np.nan)}, "not finite"),
        ({"rule": "steps"}, "Did you mean 'step'"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"vectors": np.eye(4, 2), "groups": np.array([0, 0, 0, 1]), "queries": np.array([0]), **change}
    with pytest.raises(UserError, match=message):
        group_average_precisions(**arguments)


def test_average_precision_needs_something_relevant():
    for ranks, relevant in (([], 0), ([0, 1], 1)):
        with pytest.raises(UserError, match="relevant: expected at least 1"):
            average_precision(np.array(ranks), relevant)
