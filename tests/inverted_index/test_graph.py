"""The search as graph code against the one in numpy, ties included."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tests.inverted_index.slow import Case, cases, scorings
from tests.inverted_index.test_search import built, lines
from tfthesis.errors import UserError
from tfthesis.export import stock_ops
from tfthesis.inverted_index import graph as graphs
from tfthesis.inverted_index.graph import GraphIndex
from tfthesis.inverted_index.search import Answers, Scoring, search
from tfthesis.inverted_index.signatures import KINDS


def assert_alike(found: graphs.GraphAnswers, expected: Answers) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_allclose(found.logs, expected.logs, rtol=1e-12, atol=1e-12)
    assert (found.rows.dtype, found.scores.dtype, found.logs.dtype) == (tf.int32, tf.float32, tf.float64)


@hypothesis.settings(max_examples=60)
@hypothesis.given(cases(), scorings, st.integers(1, 15), st.sampled_from(KINDS))
def test_it_answers_as_the_arrays_do(case, scoring, n, kind):
    index = built(case, signature=kind)
    asked = case.queries, n, scoring, case.query_signatures
    assert_alike(GraphIndex(index).search(*asked), search(index, *asked))


def test_numbers_of_numpy_are_taken_as_those_of_python():
    case = drawn(2, 60)
    index, scoring = built(case, 60), Scoring(np.int64(2), alpha=np.float32(0.25), candidates=np.int8(9))
    found = GraphIndex(index).search(case.queries, np.int64(5), scoring, case.query_signatures)
    assert_alike(found, search(index, case.queries, 5, Scoring(2, alpha=0.25, candidates=9), case.query_signatures))


def drawn(seed: int, images: int = 400, width: int = 24) -> Case:
    """A collection of real numbers, some images of which are copies."""
    rng = np.random.default_rng(seed)
    copies = rng.integers(0, images // 2, images)
    features, signatures = rng.normal(size=(images, 5, 8))[copies], rng.normal(size=(images, width))[copies]
    queries, query_signatures = features[:6] + 0.1 * rng.normal(size=(6, 5, 8)), signatures[:6]
    parts = [[part.astype(np.float32)] for part in (features, signatures, queries, query_signatures)]
    return Case([rng.normal(size=(30, 8)).astype(np.float32)], [str(row) for row in range(images)], *parts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "scoring",
    [Scoring(), Scoring(3, "log"), Scoring(2, alpha=8.0), Scoring(2, alpha=500.0), Scoring(2, "ratio", 8.0, 20)],
)
def test_it_answers_as_the_arrays_do_where_images_are_ruled_out(monkeypatch, kind, scoring):
    monkeypatch.setattr(graphs, "FIRST", 6)
    case = drawn(1)
    index = built(case, 100, kind)
    asked = case.queries, 7, scoring, case.query_signatures
    expected = search(index, *asked)
    assert_alike(GraphIndex(index).search(*asked), expected)
    assert len(np.unique(expected.logs)) < expected.logs.size, "no two images were equal"


def test_small_numbers_of_signatures_are_not_lost():
    # Roots of about 1e-5 are subnormal as float16; the images differ by them alone.
    case = lines(2, [[0], [0], [0]], [[0]], [[1, 0], [1, 1e-10], [1, -1e-10]], [[0, 1]])
    index = built(case, signature="float16")
    asked = case.queries, 3, Scoring(alpha=1e3), case.query_signatures
    expected = search(index, *asked)
    assert expected.rows.tolist() == [[1, 0, 2]]
    assert_alike(GraphIndex(index).search(*asked), expected)


class Asked(tf.Module):
    """What an export would hold."""

    def __init__(self, graph: GraphIndex, n: int, scoring: Scoring, patches: int | None = None):
        super().__init__()
        self.trackable = graph.trackable
        specs = [tf.TensorSpec([None, patches, 8]), tf.TensorSpec([None, 24])]

        def ask(features: tf.Tensor, signatures: tf.Tensor) -> dict[str, tf.Tensor]:
            found = graph.search([features], n, scoring, [signatures])
            return {**found._asdict(), "names": graph.names(found.rows)}

        self.ask = tf.function(ask, input_signature=specs)


@pytest.mark.parametrize("scoring", [Scoring(2), Scoring(2, "log", alpha=4.0)])
def test_it_is_saved_with_stock_operations_alone(tmp_path, scoring):
    case = drawn(2, 60)
    index = built(case, signature="int8")
    module = Asked(GraphIndex(index), 50, scoring)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.ask)
    assert stock_ops.ops_beyond_stock(tmp_path / "saved") == {}
    ask = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    expected = search(index, case.queries, 50, scoring, case.query_signatures)
    asked = {"features": tf.constant(case.queries[0]), "signatures": tf.constant(case.query_signatures[0])}
    found = ask(**asked)
    assert_alike(graphs.GraphAnswers(found["rows"], found["scores"], found["logs"]), expected)
    names = [[name.decode() for name in ranked] for ranked in found["names"].numpy().tolist()]
    assert names == [["" if row < 0 else index.names[row] for row in ranked] for ranked in expected.rows.tolist()]
    assert ask(**{name: value[:0] for name, value in asked.items()})["rows"].shape == (0, 50)


def test_numbers_that_are_not_finite_are_refused_when_it_runs():
    case = drawn(3, 20)
    module = Asked(GraphIndex(built(case)), 2, Scoring(alpha=1.0))
    broken = np.where(np.arange(24) == 3, np.nan, case.query_signatures[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="signatures: a number is NaN or infinite"):
        module.ask(case.queries[0], broken)
    with pytest.raises(tf.errors.InvalidArgumentError, match="features: a number is NaN or infinite"):
        module.ask(case.queries[0] * np.float32(np.inf), case.query_signatures[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n: expected a whole number from 1 to 2147483647, got 0"),
        ({"features": []}, r"features: expected shapes \[\[None, None, 1\]\], one for each axis, got \[\]"),
        ({"features": [np.zeros((1, 2, 3))]}, r"got \['\(1, 2, 3\)'\]"),
        ({"scoring": Scoring(3)}, "assignments: expected from 1 to the 2 words"),
        ({"signatures": ()}, r"signatures: expected shapes \[\[None, 2\]\], one for each axis, got \[\]"),
        ({"signatures": [np.ones((1, 3))]}, r"signatures: expected shapes \[\[None, 2\]\]"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_traced(change, message):
    case = lines(2, [[0], [1]], [[0]])
    arguments = {"features": case.queries, "n": 1, "scoring": Scoring(alpha=1.0), "signatures": case.query_signatures}
    with pytest.raises(UserError, match=message):
        GraphIndex(built(case)).search(**{**arguments, **change})


def test_signatures_are_asked_of_an_index_that_has_some():
    case = lines(2, [[0], [1]], [[0]])
    graph = GraphIndex(built(case, signature=None))
    assert graph.search(case.queries, 1).rows.numpy().tolist() == [[0]]
    with pytest.raises(UserError, match="built without signatures"):
        graph.search(case.queries, 1, dataclasses.replace(Scoring(), alpha=1.0), case.query_signatures)


def test_tensorflow_is_not_imported_before_an_index_is_made():
    code = "import sys, tfthesis.inverted_index.graph; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
