"""Ranks of scores that a floating-point number cannot hold."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.inverted_index.test_search import asked, built, lines
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.search import Scoring, search


@hypothesis.given(st.lists(st.floats(2.0**-60, 2.0**60), min_size=1))
def test_without_signatures_they_order_as_float32(sums):
    sums = np.array(sums)
    np.testing.assert_array_equal(np.sort(ranking.ranks(sums)), ranking.ranks(np.sort(sums)))
    np.testing.assert_array_equal(ranking.scores(ranking.logs(ranking.ranks(sums))), sums.astype(np.float32))


@hypothesis.given(st.floats(2.0**-60, 2.0**60), st.floats(0, 1e5))
def test_logarithms_are_those_of_the_scores(score, power):
    (found,) = ranking.logs(ranking.ranks(np.array([score]), np.array([power])))
    assert found == pytest.approx(np.log(score) - power * np.log(2), rel=1e-14, abs=1e-7)


def test_the_score_0_is_below_all_others():
    found = ranking.ranks(np.array([0.0, 1e-18, 0.0, 0.0]), np.array([0.0, 1e11, 3.5, 1e11]))
    assert found.argmax() == 1
    assert (found[[0, 2, 3]] == ranking.NOTHING).all()
    assert ranking.logs(found)[[0, 2, 3]].tolist() == [-np.inf] * 3


@pytest.mark.parametrize("alpha", [8.0, 60.0, 1e3, 1e6, 1e9])
def test_a_large_alpha_leaves_the_nearest_signature_first(alpha):
    # Without signatures the last image is the best; with a strong weight it is the one that is most like the query.
    signatures = [[0, 1], [1, 9], [1, 3], [9, 1], [1, 1], [0, 1]]
    case = lines(3, [[0, 0]] * 5 + [[0, 1]], [[0, 1]], signatures, [[1, 0]])
    index = built(case)
    assert asked(index, case, 1, Scoring())[0][0][0] == 5
    found = search(index, case.queries, 6, Scoring(alpha=alpha), case.query_signatures)
    assert found.rows.tolist() == [[3, 4, 2, 1, 5, 0]]
    assert (np.diff(found.logs[0]) < 0).all()
    assert np.isfinite(found.logs).all()
    assert found.scores[0, 0] > 0 or alpha > 8


items = st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=80)


@hypothesis.given(items, st.integers(1, 20), st.sampled_from([1, ranking.OCTAVE, 1 << 45]))
def test_the_best_of_each_query_are_those_of_a_full_sort(items, n, step):
    items = sorted(items, key=lambda item: item[0])
    queries = np.array([query for query, _ in items], np.int64)
    ranks = np.array([rank * step for _, rank in items], np.int64)
    found, places = ranking.best_of_each(
        queries, -np.arange(len(items)), np.where(ranks == -3 * step, ranking.NOTHING, ranks), n
    )
    full = []
    for query in range(5):
        mine = [item for item in range(len(items)) if items[item][0] == query]
        full += [*enumerate(sorted(mine, key=lambda item: (-items[item][1], -item))[:n])]
    assert list(zip(places.tolist(), found.tolist(), strict=True)) == full


@pytest.mark.parametrize("n", [1, 3, 40])
def test_the_bound_of_one_query_leaves_its_best(n):
    rng = np.random.default_rng(n)
    for size in (n, n + 1, 5 * n + 3, 40_000):
        # Few different sums, some of which are equal as float32 only.
        sums = rng.integers(0, 50, size) * (1 + rng.integers(0, 2, size) * 2.0**-30)
        least = ranking.bound(sums, n)
        kept = sums >= least
        best = np.sort(ranking.ranks(sums))[::-1][min(n, size) - 1]
        assert kept[ranking.ranks(sums) >= best].all()
        if size == 40_000:
            assert least > 0
