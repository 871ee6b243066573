"""The search in the graph answers as the index in memory does, and as plain loops over images and patches do."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tests.inverted_index.slow import Case, as_lists, cases, scorings, slow_search
from tfthesis.deep_index.graph_search import GraphSearch, IndexedImages
from tfthesis.deep_index.searching import Rules, Searcher
from tfthesis.errors import UserError
from tfthesis.inverted_index import graph, search
from tfthesis.inverted_index.building import build_index
from tfthesis.inverted_index.search import Scoring


def whole_is_first(case: Case) -> Case:
    """Return a case whose signatures are the features of the first patch."""
    first = lambda parts: [part[:, 0] for part in parts]  # noqa: E731
    return dataclasses.replace(case, signatures=first(case.features), query_signatures=first(case.queries))


def searcher_of(case, folder, rules):
    features = tuple(case.features) if rules.expansion else ()
    axes = range(len(case.codebooks))
    indexes = []
    for number, own in enumerate([[axis] for axis in axes] if rules.late_fusion else [axes]):
        pick = lambda parts: [parts[axis] for axis in own]  # noqa: B023, E731
        blocks = [
            block._replace(features=pick(block.features), signatures=pick(block.signatures)) for block in case.blocks(5)
        ]
        kind = rules.kind if rules.scoring.alpha else None
        if kind is None:
            blocks = [block._replace(signatures=()) for block in blocks]
        indexes.append(build_index(folder / f"{number}", pick(case.books()), blocks, signature=kind))
    return Searcher(tuple(indexes), rules, features)


def asked(searcher, queries, n):
    """Return the graph's answers as `as_lists` returns those in memory."""
    found = GraphSearch(searcher)
    rows = {name: row for row, name in enumerate(searcher.indexes[0].names.all())}
    answer = found.search([tf.constant(part) for part in queries], n)
    np.testing.assert_array_equal(answer["ids"], answer["payload"])
    lists = []
    for names, scores in zip(answer["ids"].numpy(), answer["scores"].numpy(), strict=True):
        count = sum(bool(name) for name in names)
        assert not any(names[count:]) and not scores[count:].any()
        best = zip(names[:count], scores[:count], strict=True)
        lists.append([(rows[name.decode()], float(score)) for name, score in best])
    return lists


@settings(max_examples=25)
@given(cases().map(whole_is_first), scorings, st.sampled_from(["float32", "float16", "int8"]), st.integers(1, 14))
def test_it_answers_as_the_index_in_memory(tmp_path_factory, case, scoring, kind, n):
    searcher = searcher_of(case, tmp_path_factory.mktemp("index"), Rules(scoring, kind=kind))
    assert asked(searcher, case.queries, n) == as_lists(searcher.ask(case.queries, n))


@settings(max_examples=10)
@given(cases().map(whole_is_first), scorings)
def test_it_answers_as_plain_loops(tmp_path_factory, case, scoring):
    searcher = searcher_of(case, tmp_path_factory.mktemp("index"), Rules(scoring))
    same_lists(asked(searcher, case.queries, 12), slow_search(case, 12, scoring))


@settings(max_examples=10)
@given(cases().map(whole_is_first), scorings, st.integers(1, 14))
def test_axes_are_fused_as_in_memory(tmp_path_factory, case, scoring, n):
    searcher = searcher_of(case, tmp_path_factory.mktemp("index"), Rules(scoring, late_fusion=True))
    assert asked(searcher, case.queries, n) == as_lists(searcher.ask(case.queries, n))


@settings(max_examples=10)
@given(cases().map(whole_is_first), st.integers(1, 3), st.sampled_from([0.0, 4.0]))
def test_queries_are_expanded_as_in_memory(tmp_path_factory, case, expansion, alpha):
    # Words at a third of a step lie apart from every average of whole numbers' directions but by accident of rounding.
    case = dataclasses.replace(case, codebooks=[words + np.float32(0.313) for words in case.codebooks])
    searcher = searcher_of(
        case, tmp_path_factory.mktemp("index"), Rules(Scoring(1, "ratio", alpha), expansion=expansion)
    )
    same_lists(asked(searcher, case.queries, 12), as_lists(searcher.ask(case.queries, 12)), within=1e-4)


def same_lists(found, wanted, within=1e-6):
    """Rows and scores are equal; those with almost equal scores may change places."""
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose([score for _, score in mine], [score for _, score in theirs], rtol=within)
        scores = dict(theirs)
        for row, score in mine:
            # Of images with almost the last score, another one may be among the answers.
            assert scores.get(row, theirs[-1][1]) == pytest.approx(score, rel=within)


@pytest.mark.parametrize("alpha", [0.3, 3.0])
@pytest.mark.parametrize("candidates", [0, 200])
def test_images_whose_signatures_are_not_read_are_not_among_the_best(tmp_path, monkeypatch, alpha, candidates):
    """With many images only those are weighed that can be among the best; the answers are as if all were."""
    rng = np.random.default_rng(3)
    features = [rng.normal(size=(3000, 4, 6)).astype(np.float32)]
    case = whole_is_first(
        Case(
            [rng.normal(size=(16, 6)).astype(np.float32)],
            [f"{row}" for row in range(3000)],
            features,
            [],
            [features[0][:5] + 0.1],
            [],
        )
    )
    searcher = searcher_of(case, tmp_path, Rules(Scoring(2, "ratio", alpha, candidates)))
    monkeypatch.setattr(search, "FIRST", 3000)
    wanted = as_lists(searcher.ask(case.queries, 20))
    for module in (search, graph):
        monkeypatch.setattr(module, "FIRST", 40)
    assert as_lists(searcher.ask(case.queries, 20)) == wanted
    assert asked(searcher, case.queries, 20) == wanted


def test_no_query_gets_no_answer_and_thumbnails_stand_beside_their_images(tmp_path):
    books = [np.eye(2, dtype=np.float32)]
    case = Case(books, ["a", "b"], [np.array([[[1, 0]], [[0, 1]]], np.float32)], [], [], [])
    searcher = searcher_of(whole_is_first(dataclasses.replace(case, queries=case.features)), tmp_path, Rules(Scoring()))
    found = IndexedImages(searcher, [b"A", b"B"]).neighbours()
    answer = found.search([tf.constant(case.features[0])], 20)
    assert answer["ids"].numpy().tolist() == [[b"a", b""], [b"b", b""]]
    assert answer["thumbnail_bytes"].numpy().tolist() == [[b"A", b""], [b"B", b""]]
    assert found.search([tf.zeros([0, 1, 2])], 20)["ids"].shape == (0, 2)
    assert found.words([tf.constant(case.features[0])]).numpy().tolist() == [[[0]], [[1]]]
    assert found.describe()["size"] == 2 and found.describe()["indexes"][0]["words"] == [2]


def test_rules_that_contradict_each_other():
    with pytest.raises(UserError, match="the pyramid's levels need a 1"):
        Rules(Scoring(alpha=1.0), whole=None)
    with pytest.raises(UserError, match="leave out late_fusion"):
        Rules(Scoring(), late_fusion=True, expansion=2)
