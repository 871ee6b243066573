"""The search against plain loops, ties included."""

from __future__ import annotations

import dataclasses
import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.inverted_index.slow import Case, as_lists, cases, scorings, slow_search
from tfthesis.errors import UserError
from tfthesis.inverted_index import search as searching
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.index import Index, thesis_bytes
from tfthesis.inverted_index.search import Scoring, idf, search
from tfthesis.inverted_index.signatures import Signatures


def built(case: Case, step: int = 5, signature: str | None = "float32") -> Index:
    """Return the index of a case; its files are mapped, so the folder may go."""
    with tempfile.TemporaryDirectory() as folder:
        blocks = case.blocks(step)
        if signature is None:
            blocks = [block._replace(signatures=()) for block in blocks]
        return build_index(folder, case.books(), blocks, signature=signature)


def asked(index: Index, case: Case, n: int, scoring: Scoring) -> list[list[tuple[int, float]]]:
    return as_lists(search(index, case.queries, n, scoring, case.query_signatures))


@hypothesis.settings(max_examples=150)
@hypothesis.given(cases(), scorings, st.integers(1, 15), st.integers(1, 12))
def test_equals_plain_loops_ties_included(case, scoring, n, step):
    assert asked(built(case, step), case, n, scoring) == slow_search(case, n, scoring)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.3, 8.0, 300.0])
@pytest.mark.parametrize("candidates", [0, 40])
def test_ruling_out_by_bounds_changes_nothing(monkeypatch, seed, alpha, candidates):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.integers(-2, 3, shape).astype(np.float32)

    names = [str(row) for row in range(150)]
    case = Case([draw(4, 2)], names, [draw(150, 3, 2)], [draw(150, 3)], [draw(5, 3, 2)], [draw(5, 3)])
    index = built(case, 40)
    scoring = Scoring(2, alpha=alpha, candidates=candidates)
    full = slow_search(case, 150, scoring)
    monkeypatch.setattr(searching, "FIRST", 4)
    compared = []
    whole = Signatures.distances

    def count(self, queries, rows, roots, dtype):
        compared.append((dtype, len(rows)))
        return whole(self, queries, rows, roots, dtype)

    monkeypatch.setattr(Signatures, "distances", count)
    # One query at a time by its matches, or by the sums of all images, and several together.
    for together, looked_through in ((90, 0), (90, 16), (1 << 20, 16)):
        monkeypatch.setattr(searching, "_TOGETHER", together)
        monkeypatch.setattr(searching, "_LOOKED_THROUGH", looked_through)
        for n in (1, 2, 7, 150):
            assert asked(index, case, n, scoring) == [ranked[:n] for ranked in full]
    if alpha:
        # Of a query's images, some are compared, to rule out others by their sums, and then by kernels in float32.
        exact = [rows for dtype, rows in compared if dtype == np.float64]
        assert min(exact) < max(rows for _, rows in compared) / 3


def test_with_few_matches_the_likely_images_are_those_with_the_largest_sums(monkeypatch):
    # One of 300 images shares two words with the query, the others one: none of these needs its signature read. The
    # peaks of stretches cannot tell, since there are fewer matches than stretches times images wanted.
    case = lines(4, [[0, 2]] * 299 + [[0, 1]], [[0, 1]], np.ones((300, 2)), np.ones((1, 2)))
    index = built(case, 300)
    monkeypatch.setattr(searching, "FIRST", 100)
    compared = []
    whole = Signatures.distances

    def count(self, queries, rows, roots, dtype):
        compared.append(rows.tolist())
        return whole(self, queries, rows, roots, dtype)

    monkeypatch.setattr(Signatures, "distances", count)
    assert asked(index, case, 1, Scoring(alpha=1.0))[0][0][0] == 299
    likely, left = compared
    assert len(likely) == 100
    assert left == [299]


def test_a_batch_is_summed_and_ranked_at_once(monkeypatch):
    case = lines(9, [[word % 9, word % 7] for word in range(40)], [[word % 9, word % 5] for word in range(64)])
    index = built(case)
    calls = []
    for module, name in ((searching, "summed"), (searching.ranking, "best_of_each"), (searching, "weighed")):
        whole = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *arguments, whole=whole, name=name: calls.append(name) or whole(*arguments)
        )
    for alpha, expected in ((0.0, ["summed", "best_of_each"]), (1.0, ["summed", "weighed", *["best_of_each"] * 2])):
        calls.clear()
        search(index, case.queries, 3, Scoring(alpha=alpha), case.query_signatures)
        assert calls == expected
    monkeypatch.setattr(searching, "_TOGETHER", 40 * 16)
    calls.clear()
    search(index, case.queries, 3)
    assert calls == ["summed", "best_of_each"] * 4


@hypothesis.given(cases(), scorings)
def test_alpha_0_equals_no_signatures(case, scoring):
    scoring = dataclasses.replace(scoring, alpha=0.0)
    plain = as_lists(search(built(case, signature=None), case.queries, 20, scoring))
    assert asked(built(case), case, 20, scoring) == plain


@hypothesis.given(cases(axes=2), st.integers(1, 3))
def test_a_match_in_two_dimensions_is_one_in_each(case, assignments):
    both = asked(built(case), case, 20, Scoring(assignments))
    for axis in range(2):
        parts = [[part[axis]] for part in (case.codebooks, case.features, case.queries)]
        one = dataclasses.replace(
            case, codebooks=parts[0], features=parts[1], queries=parts[2],
            signatures=case.signatures[:1], query_signatures=case.query_signatures[:1],
        )  # fmt: skip
        alone = asked(built(one), one, 20, Scoring(assignments))
        for matched, wider in zip(both, alone, strict=True):
            assert {row for row, _ in matched} <= {row for row, _ in wider}


@hypothesis.given(cases(), scorings)
def test_a_batch_answers_as_its_queries_alone(case, scoring):
    index = built(case)
    together = asked(index, case, 5, scoring)
    for query in range(len(together)):
        alone = dataclasses.replace(
            case,
            queries=[part[query : query + 1] for part in case.queries],
            query_signatures=[part[query : query + 1] for part in case.query_signatures],
        )
        assert asked(index, alone, 5, scoring) == [together[query]]


def lines(words, features, queries, signatures=None, query_signatures=None):
    """A case in one dimension of one number a patch: its word."""

    def column(values):
        return np.array(values, np.float32)[..., None]

    signatures = np.ones((len(features), 2)) if signatures is None else signatures
    query_signatures = np.ones((len(queries), 2)) if query_signatures is None else query_signatures
    names = [str(row) for row in range(len(features))]
    books = [column(np.arange(words))]
    return Case(
        books, names, [column(features)], [np.array(signatures)], [column(queries)], [np.array(query_signatures)]
    )


def test_idf_of_the_thesis():
    # N = 10 images, of which 2 hold the word: (10 / 2)^2 = 25, ln(5)^2 = 2.5902904.
    case = lines(3, [[1], [1]] + [[0]] * 8, [[1]])
    assert asked(built(case), case, 3, Scoring()) == [[(0, 25.0), (1, 25.0)]]
    ((_, score), _) = asked(built(case), case, 3, Scoring(idf="log"))[0]
    assert score == pytest.approx(2.5902904)
    assert idf(np.array([2]), 10, "ratio").tolist() == [5.0]


def test_without_idf_the_score_is_the_number_of_matches():
    # Eq 4.1 alone: two patches of the query in word 1 meet two of the first image's and one of the second's.
    case = lines(3, [[1, 1, 0], [1, 2, 2], [2, 2, 2]], [[1, 1, 2]])
    assert asked(built(case), case, 3, Scoring(idf="none")) == [[(0, 4.0), (1, 4.0), (2, 3.0)]]


def test_every_pair_of_patches_in_a_cell_counts():
    # Two of the query's patches and three of the image's lie in word 0, which every image holds: 2 * 3 * 1.
    case = lines(3, [[0, 0, 0], [0, 1, 2]], [[0, 0, 2]])
    assert asked(built(case), case, 2, Scoring()) == [[(0, 6.0), (1, 2.0 + 4.0)]]


def test_images_with_equal_scores_are_in_the_order_of_their_rows():
    case = lines(2, [[0], [1], [0], [1], [0]], [[1], [0]])
    found = asked(built(case), case, 2, Scoring())
    assert [[row for row, _ in ranked] for ranked in found] == [[1, 3], [0, 2]]


def test_a_query_without_a_match_has_no_answers():
    case = lines(4, [[0], [1]], [[3], [1]])
    answers = search(built(case), case.queries, 2)
    assert answers.rows.tolist() == [[-1, -1], [1, -1]]
    assert answers.scores.tolist() == [[0.0, 0.0], [4.0, 0.0]]


def test_no_queries_have_no_answers():
    case = lines(4, [[0], [1]], [[3]])
    assert search(built(case), [np.zeros((0, 1, 1))], 2).rows.shape == (0, 2)


def test_an_unlike_signature_lowers_the_score_by_the_factor_of_the_text():
    # S of (1, 0) and (0, 1) is 0, so d = 2 and c = exp(-2 alpha); of (1, 3) and (1, 0) S is a half, d = 1.
    case = lines(2, [[0], [0], [0]], [[0]], [[1, 0], [0, 1], [1, 3]], [[1, 0]])
    found = dict(asked(built(case), case, 3, Scoring(alpha=1.5))[0])
    assert found == {0: 1.0, 1: pytest.approx(np.exp(-3.0)), 2: pytest.approx(np.exp(-1.5))}


def test_multiple_assignment_reaches_the_grid_of_words_in_two_dimensions():
    # The query is nearest to words (0, 0); with two words an axis it also reaches (0, 1), (1, 0) and (1, 1).
    axis = [[0], [0], [1], [1], [2]]
    case = lines(3, axis, [[0.4]])
    other = lines(3, [[0], [1], [0], [1], [0]], [[0.4]])
    for name in ("codebooks", "features", "signatures", "queries", "query_signatures"):
        getattr(case, name).extend(getattr(other, name))
    index = built(case)
    found = [[row for row, _ in asked(index, case, 5, Scoring(k))[0]] for k in (1, 2, 3)]
    assert found == [[0], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n: expected a whole number from 1 to 2147483647, got 0"),
        ({"features": []}, "expected one array for each of 1 axes, got 0"),
        ({"features": [np.zeros((1, 2, 3))]}, r"expected shape \[patches, 1\], got \[2, 3\]"),
        ({"features": [np.zeros((1, 1))]}, r"expected shape \[queries, patches, width\]"),
        ({"features": [np.full((1, 1, 1), np.nan)]}, "features: expected finite numbers"),
        ({"scoring": Scoring(3)}, "assignments: expected from 1 to the 2 words"),
        ({"signatures": None}, r"signatures: expected shapes \[\[1, 2\]\], one for each axis, got \[\]"),
        ({"signatures": [np.ones((1, 3))]}, r"expected shapes \[\[1, 2\]\]"),
        ({"signatures": [np.ones((2, 2))]}, r"expected shapes \[\[1, 2\]\]"),
        ({"signatures": [np.full((1, 2), np.inf)]}, "signatures: expected finite numbers"),
        (
            {"signatures": np.ones((1, 2))},
            r"signatures: expected shapes \[\[1, 2\]\], one for each axis, got \[\[2\]\]",
        ),
        ({"signatures": np.ones((2, 1, 2))}, r"got \[\[1, 2\], \[1, 2\]\]"),
        ({"signatures": 4.0}, "signatures: expected arrays of numbers, one for each axis, got float"),
        ({"signatures": [np.array([["a", "b"]])]}, "signatures: expected real numbers, got an array of <U1"),
        ({"features": [np.array([[["a"]]])]}, "features: expected real numbers, got an array of <U1"),
        ({"features": 4.0}, "features: expected arrays of numbers, one for each axis, got float"),
        ({"n": 1.5}, "n: expected a whole number from 1 to 2147483647, got 1.5"),
        ({"n": True}, "n: expected a whole number from 1 to 2147483647, got True"),
        ({"n": 10**12}, "n: expected a whole number from 1 to 2147483647, got 1000000000000"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    case = lines(2, [[0], [1]], [[0]])
    arguments = {"features": case.queries, "n": 1, "scoring": Scoring(alpha=1.0), "signatures": case.query_signatures}
    with pytest.raises(UserError, match=message):
        search(built(case), **{**arguments, **change})


def test_signatures_are_asked_of_an_index_that_has_some():
    case = lines(2, [[0], [1]], [[0]])
    with pytest.raises(UserError, match="built without signatures"):
        search(built(case, signature=None), case.queries, 1, Scoring(alpha=1.0), case.query_signatures)


@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, 1e10, 10**400, "8", None, True, [8.0]])
def test_alpha_is_a_number_from_0(alpha):
    with pytest.raises(UserError, match="alpha: expected a number from 0"):
        Scoring(alpha=alpha)


@pytest.mark.parametrize("assignments", [0, 2.5, True, "2", None])
def test_assignments_are_a_number_of_words(assignments):
    with pytest.raises(
        UserError, match=f"assignments: expected a whole number from 1 to 2147483647, got {assignments!r}"
    ):
        Scoring(assignments)


def test_numbers_of_numpy_are_taken_as_those_of_python():
    signatures = [[1, 2], [1, 2], [2, 1], [1, 0], [1, 2]]
    case = lines(9, [[0, 2], [0, 1], [1, 0], [0, 2], [0, 2]], [[0, 1]], signatures, [[1, 0]])
    plain, numpys = (
        Scoring(2, alpha=0.3, candidates=3),
        Scoring(np.int64(2), alpha=np.float64(0.3), candidates=np.int8(3)),
    )
    assert numpys == plain and list(map(type, dataclasses.astuple(numpys))) == [int, str, float, int]
    index = built(case)
    assert asked(index, case, np.int64(4), numpys) == asked(index, case, 4, plain)


@pytest.mark.parametrize("candidates", [-1, 2.5, True, "2", None, 2**31])
def test_candidates_are_a_number_of_images(candidates):
    with pytest.raises(
        UserError, match=f"candidates: expected a whole number from 0 to 2147483647, got {candidates!r}"
    ):
        Scoring(candidates=candidates)


def test_only_images_with_the_largest_sums_are_compared(monkeypatch):
    # Images 1 and 2 share two words with the query, the others one; the signature of 3 is the query's own.
    signatures = [[1, 2], [1, 2], [2, 1], [1, 0], [1, 2]]
    case = lines(9, [[0, 2], [0, 1], [1, 0], [0, 2], [0, 2]], [[0, 1]], signatures, [[1, 0]])
    index = built(case)
    compared = []
    whole = Signatures.distances
    monkeypatch.setattr(
        Signatures, "distances", lambda self, *arguments: compared.append(arguments[1]) or whole(self, *arguments)
    )

    def answered(candidates, n=4):
        compared.clear()
        return [row for row, _ in asked(index, case, n, Scoring(alpha=8.0, candidates=candidates))[0]]

    assert answered(0) == [3, 2, 1, 0]
    assert answered(2) == [2, 1]
    assert set(np.concatenate(compared).tolist()) == {1, 2}
    # Of 0, 3 and 4, whose sums are equal, the first is taken.
    assert answered(3) == [2, 1, 0]


def test_an_unknown_idf_is_named():
    with pytest.raises(UserError, match="Did you mean 'ratio'"):
        Scoring(idf="ration")
    with pytest.raises(UserError, match="unknown idf 'None'"):
        Scoring(idf=None)


def test_memory_of_an_image():
    assert thesis_bytes([512]) == 2104
    assert thesis_bytes([512, 512]) == 4152
    rng = np.random.default_rng(0)
    book = Codebook(np.arange(50, dtype=np.float32)[:, None])
    features = rng.integers(0, 50, (100, 14, 1))
    block = Images([f"{row:04d}" for row in range(100)], [features], [rng.random((100, 512))])
    totals = {}
    for kind, numbers in (("float32", 2048), ("float16", 1024), ("int8", 512)):
        with tempfile.TemporaryDirectory() as folder:
            parts = build_index(folder, [book], [block], signature=kind).bytes_an_image()
        header = 128 / 100
        assert parts["postings"] == 4 * 14 + header
        assert parts["signatures"] == numbers + header
        assert parts.get("scales", 0) == (4 + header if kind == "int8" else 0)
        assert parts["names"] == 4 + header
        assert parts["total"] == pytest.approx(sum(size for name, size in parts.items() if name != "total"))
        totals[kind] = parts["total"]
    assert totals["int8"] < totals["float16"] < totals["float32"]


def test_an_index_describes_itself():
    case = lines(5, [[0, 1], [1, 1], [4, 0]], [[0, 0]])
    described = built(case, signature="int8").describe()
    assert described.pop("bytes_an_image")["total"] > 0
    assert described.pop("about") == {}
    assert described == {"images": 3, "patches": 2, "words": [5], "cells": 3, "postings": 6, "signatures": "int8"}
