"""Query expansion and late fusion."""

from __future__ import annotations

import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.combining import fused, search_expanded
from tfthesis.inverted_index.projection import unit
from tfthesis.inverted_index.search import Answers, Scoring, search

# Directions in the plane, ten degrees apart; an image of one patch lies on one of them.
DIRECTIONS = np.stack([np.cos(np.deg2rad(10.0 * np.arange(10))), np.sin(np.deg2rad(10.0 * np.arange(10)))], axis=1)


def described(angles):
    return unit(np.stack([np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))], axis=-1))


@pytest.fixture
def plane(tmp_path):
    """An index of six images, and what describes them."""
    features = described([[0.0], [9.0], [12.0], [21.0], [60.0], [62.0]])
    signatures = np.abs(features[:, 0])
    block = Images(list("abcdef"), [features], [signatures])
    index = build_index(tmp_path / "index", [Codebook(DIRECTIONS)], [block], signature="float32")
    return index, lambda rows: ([features[rows]], [signatures[rows]])


def test_a_query_is_averaged_with_its_best_answers(plane):
    index, lookup = plane
    # Around 5.5 degrees the word is that of 10, whose images lie at 9 and 12: their average is searched, at 8.8.
    asked = [described([[5.5]])]
    assert search(index, asked, 2).rows.tolist() == [[1, 2]]
    calls = []
    expanded = search_expanded(index, asked, 6, Scoring(2), lookup=lambda rows: calls.append(rows) or lookup(rows))
    by_hand = unit(np.concatenate([asked[0][0], lookup([0, 1, 2])[0][0][:, 0]])[None].mean(1, keepdims=True))
    assert sorted(calls[0].tolist()) == [0, 1, 2]
    np.testing.assert_array_equal(expanded.rows, search(index, [by_hand], 6, Scoring(2)).rows)
    # The query alone reaches the words of 0 and 10 degrees; after one more answer beside it, it moves on to 20.
    far = [described([[15.5]])]
    moved = search_expanded(index, far, 6, Scoring(1), lookup=lambda rows: (described([[[40.0]]]), []), images=1)
    assert search(index, far, 6).rows[0, 0] == 3
    assert (moved.rows[0, 0], index.codebooks[0].nearest(described([27.75])).item()) == (-1, 3)


def test_signatures_are_averaged_too(plane):
    index, _ = plane
    asked, signature = [described([[9.0]])], [np.array([[1.0, 0.0]])]
    scoring = Scoring(1, alpha=3.0)
    other = np.array([[0.0, 1.0]])
    found = search_expanded(index, asked, 6, scoring, signature, lookup=lambda rows: (asked, [other]), images=1)
    expected = search(index, asked, 6, scoring, [unit(np.array([[0.5, 0.5]]))])
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert not np.allclose(found.scores, search(index, asked, 6, scoring, signature).scores)


def test_a_query_without_an_answer_stays(plane):
    index, lookup = plane
    asked = [described([[40.0], [60.0]])[:, None][:, 0]]
    found = search_expanded(index, asked, 6, lookup=lookup)
    assert found.rows.tolist() == [[-1] * 6, [4, 5, -1, -1, -1, -1]]


def test_expansion_takes_at_least_one_image(plane):
    index, lookup = plane
    with pytest.raises(UserError, match="images to expand a query with: expected a whole number from 1 .*, got 0"):
        search_expanded(index, [described([[9.0]])], 6, lookup=lookup, images=0)


def answers(*ranked):
    """Return answers from lists of `(row, score)`."""
    longest = max(map(len, ranked))
    padded = [[*part, *[(-1, 0.0)] * (longest - len(part))] for part in ranked]
    table = np.array(padded, np.float64).reshape(len(ranked), longest, 2)
    with np.errstate(divide="ignore"):
        return Answers(table[..., 0].astype(np.int32), np.log(table[..., 1]))


def test_scores_are_summed_as_shares_of_the_best():
    first = answers([(3, 200.0), (1, 100.0)], [(0, 5.0)])
    second = answers([(1, 4.0), (2, 3.0), (3, 2.0)], [])
    found = fused([first, second], 3)
    assert found.rows.tolist() == [[1, 3, 2], [0, -1, -1]]
    assert found.scores.tolist() == [[1.5, 1.5, 0.75], [1.0, 0.0, 0.0]]
    assert fused([first, second], 1, [1.0, 0.5]).rows.tolist() == [[3], [0]]
    assert fused([first, second], 1, [1.0, 0.5]).scores.tolist() == [[1.25], [1.0]]


def test_scores_too_small_for_a_number_are_fused_too():
    tiny = Answers(np.array([[1, 0, -1]], np.int32), np.array([[-2000.0, -2000.0 - np.log(4), -np.inf]]))
    found = fused([tiny, answers([(0, 9.0)])], 3)
    assert found.rows.tolist() == [[0, 1, -1]]
    assert found.scores.tolist() == [[1.25, 1.0, 0.0]]


def test_one_index_fused_is_its_own_ranking():
    alone = answers([(4, 8.0), (2, 8.0), (7, 1.0)])
    assert fused([alone], 3).rows.tolist() == [[2, 4, 7]]
    assert fused([alone], 5).scores.tolist() == [[1.0, 1.0, 0.125, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ([], {}, r"answers to fuse: expected some to the same queries, got to \[\] queries"),
        ([answers([(0, 1.0)]), answers([(0, 1.0)], [(0, 1.0)])], {}, r"got to \[1, 2\] queries"),
        ([answers([(0, 1.0)])], {"weights": [1, 2]}, "for each of 1 indexes"),
        ([answers([(0, 1.0)])], {"weights": [-1]}, "expected a number from 0"),
        ([answers([(0, 1.0)])], {"n": 0}, "n: expected a whole number from 1"),
        ([answers([(0, 1.0)])], {"n": "3"}, "n: expected a whole number from 1 .*, got '3'"),
    ],
)
def test_answers_that_do_not_fit_together(parts, options, message):
    with pytest.raises(UserError, match=message):
        fused(parts, **{"n": 2, **options})
