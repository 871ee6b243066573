"""Intervals and paired comparisons of a few training runs; numpy and scipy only.

A figure of a method varies for two reasons: the seed of the training run and the items that happen to be
in the test split. `compare` looks at both. Over seeds it takes Student's paired t interval; over items,
where per-item results are known, a bootstrap that draws seeds and groups of items (an image with all its
captions) together. A direction counts as shown only when both intervals lie on its side of zero.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
POWER = 0.8
MIN_SEEDS = 3
"""Two differences can agree by chance, which would make their t interval a point."""
BOOTSTRAP_SAMPLES = 2000
_CHUNK = 250


class Verdict(enum.StrEnum):
    """Whether a claimed direction was found."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean of `count` values with their standard deviation and the interval of the mean.

    `deviation`, `low` and `high` are None for a single value: one run says nothing about its spread.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class ItemScores:
    """A figure that is a sum of means over items, kept by group so that whole groups can be drawn.

    Attributes:
        sums: `[G, T]`, sum of the scores of a group's items for each of the T means.
        counts: `[G, T]`, number of those items.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def value(self) -> float:
        """The figure over all items."""
        return float((self.sums.sum(axis=0) / self.counts.sum(axis=0)).sum())

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Return the figure `[B]` for each row of `weights` `[B, G]`, the times a group was drawn."""
        return ((weights @ self.sums) / np.maximum(weights @ self.counts, 1)).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What paired runs say about "left is better than right".

    Attributes:
        count: number of pairs.
        difference: mean of left minus right, positive where left is better.
        low, high: t interval over seeds; None with fewer than two pairs.
        p: two-sided p value of the paired t test; None where the interval is.
        item_low, item_high: bootstrap interval over seeds and items; None without per-item results.
        detectable: smallest true difference that would be found with probability `POWER`; None with
            fewer than `MIN_SEEDS` pairs.
        verdict: yes, no or undecided, by the rule of `compare`.
    """

    count: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    item_low: float | None
    item_high: float | None
    detectable: float | None
    verdict: Verdict

    @property
    def lowest(self) -> float:
        """Lower end of the intervals, minus infinity where there is none."""
        return -math.inf if self.low is None else min(self.low, self.low if self.item_low is None else self.item_low)


def summarize(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Return mean, standard deviation (n - 1) and Student's interval of the mean of `values`.

    Raises:
        ValueError: there is no value.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("values: expected at least one, got none")
    mean = float(values.mean())
    if values.size == 1:
        return Summary(1, mean, None, None, None)
    deviation = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, values.size - 1)) * deviation / math.sqrt(values.size)
    return Summary(values.size, mean, deviation, mean - half, mean + half)


def paired_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p value of Student's test that the mean difference is zero; None for one pair."""
    summary = summarize(differences)
    if summary.deviation is None:
        return None
    if summary.deviation == 0:
        return 1.0 if summary.mean == 0 else 0.0
    t = summary.mean / (summary.deviation / math.sqrt(summary.count))
    return float(2 * stats.t.sf(abs(t), summary.count - 1))


def detectable_difference(deviation: float, count: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """Return the true mean difference whose sign a two-sided paired t test finds with probability `power`.

    Args:
        deviation: standard deviation of the differences.
        count: number of pairs; None is returned for fewer than two.
        level: one minus the size of the test.
        power: wanted probability.
    """
    return None if count < 2 else _noncentrality(count - 1, level, power) * deviation / math.sqrt(count)


@functools.cache
def _noncentrality(freedom: int, level: float, power: float) -> float:
    """Return the shift, in standard errors, at which Student's t passes its critical value with probability `power`."""
    critical = float(stats.t.ppf((1 + level) / 2, freedom))
    # The median of the shifted t is near the shift, and it grows a tail at few degrees of freedom.
    upper = 2 * critical + 5
    return float(optimize.brentq(lambda shift: stats.nct.sf(critical, freedom, shift) - power, 0.0, upper))


def bootstrap_differences(
    left: Sequence[ItemScores], right: Sequence[ItemScores], samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> np.ndarray:
    """Return `[samples]` differences left minus right when seeds and groups of items are drawn again.

    Each sample draws the pairs of runs with replacement, and independently the groups with replacement,
    the same groups for every run: the test split is shared.

    Args:
        left, right: one entry a seed, paired in order, all over the same groups.
        samples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: the sides differ in length, or the groups differ in number.
    """
    groups = {scores.sums.shape[0] for scores in (*left, *right)}
    if len(left) != len(right) or len(groups) != 1:
        raise ValueError(f"expected paired runs over the same groups, got {len(left)} and {len(right)} runs, {groups}")
    random = np.random.default_rng(seed)
    size, pairs = groups.pop(), len(left)
    parts = []
    for start in range(0, samples, _CHUNK):
        rows = min(_CHUNK, samples - start)
        weights = random.multinomial(size, np.full(size, 1 / size), size=rows).astype(np.float64)
        drawn = random.multinomial(pairs, np.full(pairs, 1 / pairs), size=rows) / pairs
        each = [a.resampled(weights) - b.resampled(weights) for a, b in zip(left, right, strict=True)]
        parts.append((np.stack(each, axis=1) * drawn).sum(axis=1))
    return np.concatenate(parts)


def compare(
    left: Sequence[float],
    right: Sequence[float],
    *,
    larger_is_better: bool = True,
    left_items: Sequence[ItemScores] | None = None,
    right_items: Sequence[ItemScores] | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Return whether `left` is better than `right`, given one figure a seed for each, paired in order.

    Yes, when the t interval over seeds lies wholly on the side of `left`, and so does the bootstrap
    interval over seeds and items where per-item results are given; no, when they lie wholly on the other
    side; undecided otherwise, and always with fewer than `MIN_SEEDS` pairs.

    Raises:
        ValueError: the sides differ in length or are empty.
    """
    if len(left) != len(right):
        raise ValueError(f"expected as many values on both sides, got {len(left)} and {len(right)}")
    sign = 1.0 if larger_is_better else -1.0
    differences = sign * (np.asarray(left, np.float64) - np.asarray(right, np.float64))
    summary = summarize(differences, level)
    detectable = None
    if summary.count >= MIN_SEEDS:
        detectable = detectable_difference(summary.deviation, summary.count, level)
    item_low = item_high = None
    if left_items and right_items:
        drawn = sign * bootstrap_differences(left_items, right_items)
        item_low, item_high = (float(q) for q in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
        if detectable is not None:
            reach = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER)
            detectable = max(detectable, float(reach * drawn.std(ddof=1)))
    intervals = [(summary.low, summary.high)] + ([(item_low, item_high)] if item_low is not None else [])
    return Comparison(
        count=summary.count,
        difference=summary.mean,
        low=summary.low,
        high=summary.high,
        p=paired_p(differences),
        item_low=item_low,
        item_high=item_high,
        detectable=detectable,
        verdict=_verdict(summary.count, intervals),
    )


def _verdict(count: int, intervals: Sequence[tuple[float | None, float | None]]) -> Verdict:
    if count < MIN_SEEDS:
        return Verdict.UNDECIDED
    if all(low > 0 for low, _ in intervals):
        return Verdict.YES
    if all(high < 0 for _, high in intervals):
        return Verdict.NO
    return Verdict.UNDECIDED


def combine(comparisons: Sequence[Comparison], level: float = LEVEL) -> Verdict:
    """Return the verdict on "better than each of several".

    Yes needs a yes against every one, which keeps the size of the test without a correction; no needs one
    reversed comparison that survives Bonferroni's correction for their number.

    Raises:
        ValueError: there is no comparison.
    """
    if not comparisons:
        raise ValueError("comparisons: expected at least one, got none")
    if all(comparison.verdict is Verdict.YES for comparison in comparisons):
        return Verdict.YES
    limit = (1 - level) / len(comparisons)
    if any(comparison.verdict is Verdict.NO and comparison.p < limit for comparison in comparisons):
        return Verdict.NO
    return Verdict.UNDECIDED
