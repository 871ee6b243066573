"""Pairs of edge pixels, against enumeration and scipy's dense solver."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize

from tfthesis.edges.matching import MATCHINGS, EdgePairs

SHAPE = (6, 7)
DIAGONAL = np.hypot(*SHAPE)
# Few pixels, since all ways of pairing them are tried.
MAPS = st.lists(st.integers(0, np.prod(SHAPE) - 1), max_size=6, unique=True)
REACHES = st.sampled_from([0.5, 1.1, 1.5, 2.3])


def binary(places):
    edges = np.zeros(np.prod(SHAPE), bool)
    edges[list(places)] = True
    return edges.reshape(SHAPE)


def distances(predicted, truth):
    return np.linalg.norm(np.argwhere(predicted)[:, None] - np.argwhere(truth)[None], axis=2)


def most_pairs(near):
    """Return the size of the largest matching of bool `[P, T]`, by trying every order of the columns."""
    if near.shape[0] > near.shape[1]:
        near = near.T
    orders = itertools.permutations(range(near.shape[1]), near.shape[0])
    return max(sum(near[row, column] for row, column in enumerate(order)) for order in orders)


@pytest.mark.parametrize("matching", MATCHINGS)
@hypothesis.given(predicted=MAPS, truth=MAPS, reach=REACHES)
def test_as_many_pairs_as_there_can_be(matching, predicted, truth, reach):
    predicted, truth = binary(predicted), binary(truth)
    matched = EdgePairs(predicted, truth, reach / DIAGONAL).match(predicted, matching)
    near = distances(predicted, truth) <= reach + 1e-9
    assert len(matched) == (most_pairs(near) if near.size else 0)
    assert len(set(matched.tolist())) == len(matched) and predicted.ravel()[matched].all()


@hypothesis.given(predicted=MAPS, truth=MAPS, reach=REACHES)
def test_cost_takes_the_nearest(predicted, truth, reach):
    predicted, truth = binary(predicted), binary(truth)
    matched = set(EdgePairs(predicted, truth, reach / DIAGONAL).match(predicted, "cost").tolist())
    far = distances(predicted, truth)
    if not far.size:
        assert not matched
        return
    places = np.flatnonzero(predicted)

    def cost(rows):
        """Return pairs and the smallest sum of distances when only `rows` may be matched."""
        lonely = 1000.0
        table = np.where(far[rows] <= reach + 1e-9, np.round(100 * far[rows]), lonely * 100)
        row, column = scipy.optimize.linear_sum_assignment(table)
        paired = table[row, column] < lonely * 100
        return -int(paired.sum()), float(table[row, column][paired].sum())

    found = cost([row for row, place in enumerate(places) if place in matched])
    assert found == cost(list(range(len(places))))


@hypothesis.given(
    edges=hypothesis.extra.numpy.arrays(bool, (2, *SHAPE)), more=hypothesis.extra.numpy.arrays(bool, SHAPE)
)
@pytest.mark.parametrize("matching", MATCHINGS)
def test_further_candidates_change_nothing(matching, edges, more):
    predicted, truth = edges
    alone = EdgePairs(predicted, truth, 1.5 / DIAGONAL).match(predicted, matching)
    among = EdgePairs(predicted | more, truth, 1.5 / DIAGONAL).match(predicted, matching)
    assert len(alone) == len(among) and predicted.ravel()[among].all()


@pytest.mark.parametrize("matching", MATCHINGS)
def test_one_true_pixel_is_taken_once(matching):
    predicted, truth = binary([0, 1, 2]), binary([1])
    matched = EdgePairs(predicted, truth, 1.1 / DIAGONAL).match(predicted, matching)
    assert len(matched) == 1
    assert matching == "cardinality" or matched.tolist() == [1]


def test_a_chain_gives_way():
    # The middle pixel could have either, the outer one of them only: greedy pairs by distance would leave one alone.
    predicted, truth = binary([0, 2]), binary([2, 4])
    for matching in MATCHINGS:
        assert len(EdgePairs(predicted, truth, 2.1 / DIAGONAL).match(predicted, matching)) == 2


def test_reach_is_a_share_of_the_diagonal_and_may_be_met():
    predicted, truth = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    predicted[10, 10] = truth[10, 15] = True
    assert len(EdgePairs(predicted, truth, 0.1).match(predicted)) == 1
    assert len(EdgePairs(predicted, truth, 0.099).match(predicted)) == 0


@pytest.mark.parametrize("matching", MATCHINGS)
def test_empty_maps_have_no_pairs(matching):
    none, some = binary([]), binary([3, 4])
    for predicted, truth in ((none, none), (none, some), (some, none)):
        assert len(EdgePairs(predicted, truth).match(predicted, matching)) == 0


def test_refusals():
    some = binary([3])
    with pytest.raises(ValueError, match="maps of one size"):
        EdgePairs(some, some[:, :-1])
    with pytest.raises(ValueError, match="a reach above 0"):
        EdgePairs(some, some, 0.0)
    with pytest.raises(ValueError, match="matching: expected one of"):
        EdgePairs(some, some).match(some, "greedy")
