"""Counts of one image and the figures of several, on maps that are made by hand."""

from __future__ import annotations

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import tfthesis.edges.counting
from tfthesis.edges.counting import EdgeCounts, count_edges, even_thresholds
from tfthesis.edges.matching import MATCHINGS
from tfthesis.edges.scores import average_precision, best_operating, f_measure, score_edges

SHAPE = (60, 80)
DIAGONAL = 100.0
REACH = 0.03  # three pixels


def line(row, first=10, last=60):
    edges = np.zeros(SHAPE, bool)
    edges[row, first:last] = True
    return edges


def columns(counts):
    return {name: values.tolist() for name, values in dataclasses.asdict(counts).items()}


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize(("shift", "matched"), [(0, 50), (3, 50), (4, 0)])
def test_lines_within_reach_match(matching, shift, matched):
    counts = count_edges(line(20 + shift).astype(float), [line(20)], [0.5], max_dist=REACH, matching=matching)
    assert columns(counts) == {
        "matched_truth": [matched],
        "truth": [50],
        "matched_predicted": [matched],
        "predicted": [50],
    }


def test_a_perfect_map_has_f_1():
    truth = line(20) | line(40)
    scores = score_edges([count_edges(truth.astype(float), [truth], even_thresholds(9))], even_thresholds(9))
    assert scores.ods.f == scores.ois.f == 1.0 and (scores.f == 1.0).all()
    # One recall has no area.
    assert scores.average_precision == 0.0


@pytest.mark.parametrize("matching", MATCHINGS)
def test_two_annotators(matching):
    # The second drew a line more: all that is predicted is right, but half of what he drew is missed.
    annotators = [line(20), line(20) | line(40)]
    counts = count_edges(line(20).astype(float), annotators, [0.5], max_dist=REACH, matching=matching)
    assert columns(counts) == {
        "matched_truth": [100],
        "truth": [150],
        "matched_predicted": [50],
        "predicted": [50],
    }
    scores = score_edges([counts], [0.5])
    assert (scores.ods.recall, scores.ods.precision, scores.ods.f) == pytest.approx((2 / 3, 1.0, 0.8))


def test_empty_prediction_and_empty_truth():
    nothing = np.zeros(SHAPE)
    found = score_edges([count_edges(nothing, [line(20)], [0.5])], [0.5])
    assert (found.ods.recall, found.ods.precision, found.ods.f) == (0.0, 0.0, 0.0)
    found = score_edges([count_edges(line(20).astype(float), [nothing.astype(bool)], [0.5])], [0.5])
    assert (found.ods.recall, found.ods.precision, found.ods.f) == (0.0, 0.0, 0.0)
    assert columns(count_edges(nothing, [line(20)], [0.5]))["truth"] == [50]


def test_a_value_that_equals_the_threshold_is_an_edge():
    counts = count_edges(0.5 * line(20), [line(20)], [0.4, 0.5, np.nextafter(0.5, 1)])
    assert counts.predicted.tolist() == [50, 50, 0]


def test_maps_are_thinned_unless_told_otherwise():
    thick = (line(19) | line(20) | line(21)).astype(float)
    assert count_edges(thick, [line(20)], [0.5]).predicted[0] < 60
    assert count_edges(thick, [line(20)], [0.5], thinned=False).predicted[0] == 150


def test_equal_maps_are_thinned_and_matched_once(monkeypatch):
    calls = []
    monkeypatch.setattr(tfthesis.edges.counting, "thin", lambda edges: (calls.append(1), edges)[1])
    soft = 0.305 * line(20) + 0.705 * line(40)
    counts = count_edges(soft, [line(20)], even_thresholds())
    assert len(calls) == 3  # both lines, one, none
    assert counts.predicted.tolist() == [100] * 30 + [50] * 40 + [0] * 29


@hypothesis.given(seed=st.integers(0, 10**6))
def test_counts_of_all_thresholds_are_those_of_each_alone(seed):
    random = np.random.default_rng(seed)
    soft, annotators = random.uniform(size=(12, 15)), random.uniform(size=(2, 12, 15)) < 0.2
    thresholds = [0.2, 0.5, 0.51, 0.9]
    together = columns(count_edges(soft, annotators, thresholds, max_dist=0.08, matching="cost"))
    for place, threshold in enumerate(thresholds):
        alone = columns(count_edges(soft, annotators, [threshold], max_dist=0.08, matching="cost"))
        # Which of several equally good sets is found may differ, their sizes may not.
        for name in ("matched_truth", "truth", "predicted"):
            assert alone[name] == [together[name][place]]


def test_thresholds_are_even():
    np.testing.assert_allclose(even_thresholds(), np.arange(1, 100) / 100, rtol=1e-15)
    # 85 of 255 is a third: it must not pass the second of five thresholds, which is a bit larger.
    assert even_thresholds(5)[1] > 85 / 255 and even_thresholds(1).tolist() == [0.5]


def test_refusals():
    with pytest.raises(ValueError, match="one annotator or more"):
        count_edges(np.zeros(SHAPE), [], [0.5])
    with pytest.raises(ValueError, match="maps of one size"):
        count_edges(np.zeros(SHAPE), [line(20)[1:]], [0.5])
    counts = EdgeCounts(*np.ones((4, 2), int))
    for images, thresholds in (([], [0.1, 0.2]), ([counts], [0.2, 0.1])):
        with pytest.raises(ValueError, match="ascending thresholds"):
            score_edges(images, thresholds)


def test_ods_sums_pixels_and_ois_takes_each_image_at_its_best():
    # Matched truth, truth, matched and predicted at two thresholds, for a large and a small image.
    large = EdgeCounts(*np.array([[80, 10], [100, 100], [80, 10], [160, 10]]))
    small = EdgeCounts(*np.array([[10, 9], [10, 10], [10, 9], [40, 9]]))
    scores = score_edges([large, small], [0.3, 0.6])
    np.testing.assert_allclose(scores.recall, [90 / 110, 19 / 110])
    np.testing.assert_allclose(scores.precision, [90 / 200, 19 / 19])
    assert [one.threshold for one in scores.images] == [0.3, 0.6]
    assert scores.images[0].f == pytest.approx(2 * 0.8 * 0.5 / 1.3) and scores.images[1].f == pytest.approx(1.8 / 1.9)
    assert scores.ois.threshold is None
    assert (scores.ois.recall, scores.ois.precision) == pytest.approx((89 / 110, 89 / 169))


def test_best_point_lies_between_thresholds():
    thresholds, recall, precision = np.array([0.2, 0.4]), np.array([0.9, 0.1]), np.array([0.1, 0.9])
    best = best_operating(thresholds, recall, precision)
    assert best.threshold == pytest.approx(0.3, abs=0.0011) and best.f == pytest.approx(0.5, abs=1e-4)
    assert f_measure(recall, precision).max() == pytest.approx(0.18)
    alone = best_operating(thresholds[:1], recall[:1], precision[:1])
    assert (alone.threshold, alone.recall, alone.f) == (0.2, 0.9, pytest.approx(0.18))


def slow_average_precision(recall, precision):
    """Return the area step by step, in plain Python."""
    points = {}
    for r, p in zip(recall.tolist(), precision.tolist(), strict=True):
        points.setdefault(r, p)
    known = sorted(points)
    total = 0.0
    for step in range(101):
        at = step / 100
        for low, high in itertools.pairwise(known):
            if low <= at <= high:
                total += points[low] + (points[high] - points[low]) * (at - low) / (high - low)
                break
    return total / 100


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), min_size=1, max_size=20),
)
def test_average_precision_against_a_slow_version(points):
    recall, precision = np.array(points).T / [[50], [40]]
    assert average_precision(recall, precision) == pytest.approx(slow_average_precision(recall, precision), abs=1e-9)


def test_average_precision_of_straight_curves():
    grid = np.linspace(0, 1, 11)
    assert average_precision(grid[::-1], np.ones(11)) == pytest.approx(1.01)
    assert average_precision(grid[:6], np.ones(6)) == pytest.approx(0.51)
