"""ScaNN against the exact search, and when it is chosen."""

import logging
import math

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.method import Gallery
from tfthesis.retrieval import scann_neighbours
from tfthesis.retrieval.exact import ExactNeighbours
from tfthesis.retrieval.measure import found_rows, median_seconds, recall
from tfthesis.retrieval.neighbours import build_neighbours
from tfthesis.retrieval.scann_neighbours import ScannNeighbours, attempt

SIZE, WIDTH = 3000, 24


def gallery_of(vectors):
    return Gallery([str(row) for row in range(len(vectors))], vectors, [f"text {row}" for row in range(len(vectors))])


@pytest.fixture(scope="module")
def gallery():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(60, WIDTH))
    vectors = centres[generator.integers(0, 60, SIZE)] + 0.4 * generator.normal(size=(SIZE, WIDTH))
    vectors[SIZE // 2 :] = vectors[: SIZE // 2]
    return gallery_of((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


@pytest.fixture(scope="module")
def exact(gallery):
    return ExactNeighbours(gallery)


@pytest.fixture(scope="module")
def built(gallery):
    return ScannNeighbours(gallery)


@pytest.fixture
def scann(built):
    built.leaves_to_search = built.leaves
    return built


def test_all_leaves_find_the_neighbours_with_exact_scores(gallery, exact, scann):
    queries = gallery.vectors[:200]
    assert recall(found_rows(scann, queries, 10), found_rows(exact, queries, 10)) > 0.95
    answer = scann.search(tf.constant(queries), 10)
    rows = answer["ids"].numpy().astype(int)
    np.testing.assert_allclose(
        answer["scores"].numpy(), np.einsum("bd,bkd->bk", queries, gallery.vectors[rows]), atol=1e-5
    )
    assert answer["payload"].numpy()[3, 4] == b"text %d" % rows[3, 4]


def test_equal_scores_come_in_the_order_of_the_rows(scann, gallery):
    rows, scores = scann.rows(tf.constant(gallery.vectors[:300]), 10)
    rows, scores = rows.numpy(), scores.numpy()
    assert (np.diff(scores, axis=1) <= 0).all()
    tied = np.diff(scores, axis=1) == 0
    assert tied.sum() > 300
    assert (np.diff(rows, axis=1)[tied] > 0).all()


@pytest.mark.parametrize("k", [1, 60, 700, SIZE - 1, SIZE, SIZE + 5])
def test_every_column_holds_an_item_of_its_own(scann, k):
    """Left alone, ScaNN fills up with item 0 and NaN where the leaves hold too few items."""
    scann.leaves_to_search = 1
    queries = np.random.default_rng(1).normal(size=(50, WIDTH)).astype(np.float32)
    answer = scann.search(tf.constant(queries), k)
    assert answer["ids"].shape == (50, min(k, SIZE))
    assert np.isfinite(answer["scores"].numpy()).all()
    assert all(len(set(ids)) == min(k, SIZE) for ids in answer["ids"].numpy().tolist())


def test_an_empty_batch_has_an_empty_answer(scann):
    assert scann.search(tf.zeros([0, WIDTH]), 3)["ids"].shape == (0, 3)


def test_two_galleries_of_one_export_keep_apart(gallery, scann, tmp_path):
    """By default ScaNN finds its index by the name of a node, which is the same in two loaded functions."""
    module = tf.Module()
    module.parts = [scann, ScannNeighbours(gallery_of(-gallery.vectors[::2]))]
    spec = tf.TensorSpec([None, WIDTH], name="queries")
    functions = [tf.function(part.search).get_concrete_function(spec, 1) for part in module.parts]
    tf.saved_model.save(module, tmp_path, signatures={"first": functions[0], "second": functions[1]})
    loaded = tf.saved_model.load(tmp_path).signatures
    queries = tf.constant(gallery.vectors[::100])
    np.testing.assert_allclose(loaded["first"](queries=queries)["scores"], 1, atol=1e-5)
    np.testing.assert_allclose(loaded["second"](queries=-queries)["scores"], 1, atol=1e-5)


def test_tuning_takes_the_fewest_leaves_that_reach_the_recall(gallery, exact, scann):
    """ScaNN trains its tree on several threads and never twice alike, so the rule is checked and not a number."""
    queries = gallery.vectors[:256]
    reached = scann.tune(exact, [queries])
    chosen, choosing, measuring = scann.leaves_to_search, queries[::2], queries[1::2]

    def recall_with(leaves, part):
        scann.leaves_to_search = leaves
        return recall(found_rows(scann, part, 10), found_rows(exact, part, 10))

    wished = scann_neighbours.RECALL_TARGET + scann_neighbours.RECALL_MARGIN
    tried = [math.ceil(share * scann.leaves) for share in scann_neighbours.LEAF_SHARES]
    assert chosen == next(leaves for leaves in tried if recall_with(leaves, choosing) >= wished)
    assert reached == recall_with(chosen, measuring)
    assert chosen < scann.leaves


def test_small_galleries_stay_exact_and_say_so(caplog):
    neighbours = build_neighbours(gallery_of(np.eye(50)), "scann", name="images")
    assert neighbours.kind == "exact"
    assert "fewer than 1000" in neighbours.describe()["reason"]
    assert "images: index kind exact instead of scann: 50 items" in caplog.text


def test_vectors_that_end_the_process_stay_exact(gallery):
    chosen, choice = attempt(gallery_of(gallery.vectors * 1e20), ExactNeighbours(gallery), [])
    assert chosen is None
    assert "norm 1e+20" in choice.reason


@pytest.mark.parametrize(
    ("recall_target", "speed_target", "kind", "reason"),
    [(0.95, 0.0, "scann", "times as fast"), (0.95, 1e9, "exact", "wished is 1e"), (1.1, 0.0, "exact", "wished is 1.1")],
)
def test_chosen_only_where_recall_and_speed_are_reached(
    gallery, monkeypatch, caplog, recall_target, speed_target, kind, reason
):
    monkeypatch.setattr(scann_neighbours, "LEAF_SHARES", (1.0,))
    monkeypatch.setattr(scann_neighbours, "RECALL_TARGET", recall_target)
    monkeypatch.setattr(scann_neighbours, "SPEED_TARGET", speed_target)
    with caplog.at_level(logging.INFO):
        neighbours = build_neighbours(gallery, "scann", queries=[gallery.vectors[:40], gallery.vectors[:0]])
    assert neighbours.kind == kind
    assert reason in neighbours.describe()["reason"]
    assert reason in caplog.text
    assert neighbours.describe()["recall_at_10"] > 0.9


def test_recall_holds_on_the_worst_set_of_queries(gallery, exact, scann):
    """Queries from elsewhere need more leaves than the gallery's own vectors."""
    own = gallery.vectors[:256]
    scann.tune(exact, [own])
    few = scann.leaves_to_search
    elsewhere = np.random.default_rng(2).normal(size=(256, WIDTH)).astype(np.float32)
    scann.tune(exact, [own, elsewhere])
    assert scann.leaves_to_search > few


def test_recall_and_medians():
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])) == 0.75
    counts = [0, 0]

    def first():
        counts[0] += 1

    def second():
        counts[1] += counts[0] == counts[1] + 1

    assert len(median_seconds([first, second], repeats=3, warm_up=1)) == 2
    assert counts == [4, 4]
