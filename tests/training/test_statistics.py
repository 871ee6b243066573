"""Intervals and paired tests against scipy, known answers and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.statistics import (
    ItemScores,
    Verdict,
    bootstrap_differences,
    combine,
    compare,
    detectable_difference,
    paired_p,
    summarize,
)

values = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(values)
def test_summary_is_students_interval(numbers):
    summary = summarize(numbers)
    assert summary.mean == pytest.approx(np.mean(numbers), abs=1e-9)
    assert summary.deviation == pytest.approx(np.std(numbers, ddof=1), abs=1e-9)
    if summary.deviation > 1e-6:
        low, high = stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))
        assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_no_spread():
    summary = summarize([3.0])
    assert (summary.count, summary.mean) == (1, 3.0)
    assert summary.deviation is summary.low is summary.high is None
    with pytest.raises(ValueError, match="at least one"):
        summarize([])


def test_p_value_is_scipys():
    left, right = np.array([51.0, 52.5, 50.1, 53.0, 52.2]), np.array([47.0, 49.5, 50.3, 48.8, 47.1])
    assert paired_p(left - right) == pytest.approx(stats.ttest_rel(left, right).pvalue)
    assert paired_p([1.0]) is None
    assert paired_p([0.0, 0.0]) == 1.0


def test_detectable_difference_is_found_as_often_as_promised():
    count, deviation = 5, 2.0
    shift = detectable_difference(deviation, count)
    random = np.random.default_rng(0)
    draws = random.normal(shift, deviation, size=(20000, count))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.01)
    assert detectable_difference(deviation, 1) is None
    assert detectable_difference(deviation, 20) < shift


def test_verdicts():
    high, low = [52.0, 53.1, 52.4, 51.8, 52.9], [47.0, 48.3, 47.2, 46.9, 48.1]
    assert compare(high, low).verdict is Verdict.YES
    assert compare(low, high).verdict is Verdict.NO
    assert compare(low, high, larger_is_better=False).verdict is Verdict.YES
    mixed = compare([50.0, 52.0, 49.0], [51.0, 50.0, 50.0])
    assert mixed.verdict is Verdict.UNDECIDED
    assert mixed.low < 0 < mixed.high
    assert mixed.detectable > abs(mixed.difference)


@pytest.mark.parametrize("pairs", [1, 2])
def test_too_few_seeds_are_undecided(pairs):
    found = compare([90.0, 91.0][:pairs], [10.0, 11.0][:pairs])
    assert found.verdict is Verdict.UNDECIDED
    assert found.detectable is None
    assert (found.low is None) == (pairs == 1)


def test_equal_differences_over_three_seeds_decide():
    assert compare([3.0, 4.0, 5.0], [2.0, 3.0, 4.0]).verdict is Verdict.YES
    assert compare([3.0, 4.0, 5.0], [3.0, 4.0, 5.0]).verdict is Verdict.UNDECIDED


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="as many"):
        compare([1.0], [1.0, 2.0])


def _hits(random, rate, groups):
    hits = (random.random(groups) < rate).astype(float)
    return ItemScores(100 * hits[:, None], np.ones((groups, 1)))


def test_item_scores_are_sums_of_means():
    scores = ItemScores(np.array([[100.0, 200.0], [0.0, 100.0]]), np.array([[1.0, 5.0], [1.0, 5.0]]))
    assert scores.value == pytest.approx(50 + 30)
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert scores.resampled(weights) == pytest.approx([80, 100 + 40])


def test_bootstrap_over_items_has_the_binomial_spread():
    random = np.random.default_rng(1)
    left, right = _hits(random, 0.6, 400), _hits(random, 0.4, 400)
    drawn = bootstrap_differences([left], [right], samples=4000)
    a, b = left.sums[:, 0], right.sums[:, 0]
    assert drawn.mean() == pytest.approx(left.value - right.value, abs=0.2)
    assert drawn.std() == pytest.approx(np.std(a - b) / math.sqrt(400), rel=0.05)


def test_bootstrap_draws_whole_groups():
    """Ten items that always agree are worth one."""
    random = np.random.default_rng(2)
    alone = _hits(random, 0.5, 200)
    tenfold = ItemScores(alone.sums * 10, alone.counts * 10)
    nothing = ItemScores(np.zeros((200, 1)), np.ones((200, 1)))
    one = bootstrap_differences([alone], [nothing]).std()
    assert bootstrap_differences([tenfold], [nothing]).std() == pytest.approx(one)


def test_bootstrap_draws_seeds_too():
    same = np.ones((50, 1))
    left = [ItemScores(level * same, same) for level in (1.0, 5.0, 9.0)]
    right = [ItemScores(0 * same, same)] * 3
    drawn = bootstrap_differences(left, right, samples=4000)
    assert drawn.std() == pytest.approx(np.std([1, 5, 9]) / math.sqrt(3), rel=0.05)


def test_bootstrap_refuses_what_is_not_paired():
    scores = ItemScores(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="same groups"):
        bootstrap_differences([scores], [ItemScores(np.ones((4, 1)), np.ones((4, 1)))])
    with pytest.raises(ValueError, match="paired"):
        bootstrap_differences([scores, scores], [scores])


def test_few_items_leave_a_clear_seed_effect_undecided():
    """Every seed gains one hit of forty on the same item: certain over seeds, not over items."""
    right = np.zeros((40, 1))
    right[:20] = 100
    left = right.copy()
    left[30] = 100
    ones = np.ones((40, 1))
    figures = {"left": [52.5] * 3, "right": [50.0] * 3}
    assert compare(figures["left"], figures["right"]).verdict is Verdict.YES
    found = compare(
        figures["left"],
        figures["right"],
        left_items=[ItemScores(left, ones)] * 3,
        right_items=[ItemScores(right, ones)] * 3,
    )
    assert found.verdict is Verdict.UNDECIDED
    assert found.item_low == 0
    assert found.detectable > 2.5


def test_claim_against_several_needs_all_for_yes():
    clear = compare([9.0, 9.1, 9.2], [1.0, 1.2, 1.1])
    unclear = compare([9.0, 9.1, 9.2], [8.0, 9.5, 9.3])
    reversed_ = compare([1.0, 1.2, 1.1], [9.0, 9.1, 9.2])
    assert combine([clear, clear]) is Verdict.YES
    assert combine([clear, unclear]) is Verdict.UNDECIDED
    assert combine([clear, reversed_]) is Verdict.NO


def test_no_against_several_is_corrected_for_their_number():
    weak = compare([1.0, 1.4, 1.2], [1.6, 1.7, 1.75])
    assert weak.verdict is Verdict.NO
    assert 0.01 < weak.p < 0.05
    assert combine([weak]) is Verdict.NO
    others = [compare([9.0, 9.1, 9.2], [1.0, 1.2, 1.1])] * 9
    assert combine([weak, *others]) is Verdict.UNDECIDED


def test_rate_of_false_verdicts():
    """Without a difference, yes and no come up together in one comparison of twenty."""
    random = np.random.default_rng(3)
    decided = sum(
        compare(random.normal(size=5), random.normal(size=5)).verdict is not Verdict.UNDECIDED for _ in range(2000)
    )
    assert decided / 2000 == pytest.approx(0.05, abs=0.015)
