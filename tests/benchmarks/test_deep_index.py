"""The collection that DeepIndex is measured on, and what is written when FAISS is missing."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks import deep_index
from benchmarks.kept import FOLDER
from benchmarks.planted_search import collection, patches_in_faiss
from benchmarks.planted_search.collection import GROUP, PATCHES, WIDTH, Planted
from benchmarks.planted_search.patches_in_faiss import at_equal_recall
from benchmarks.planted_search.report import RULES, draw


def whole(data):
    return np.concatenate([features for _, features in data.blocks()])


def test_the_collection_is_the_same_every_time(monkeypatch):
    monkeypatch.setattr(collection, "CENTRES", 50)
    monkeypatch.setattr(collection, "BLOCK", 70)
    first, again = Planted(200), Planted(200)
    np.testing.assert_array_equal(whole(first), whole(again))
    np.testing.assert_array_equal(first.queries()[0], again.queries()[0])
    assert [start for start, _ in first.blocks()] == [0, 70, 140]
    assert whole(first).shape == (200, PATCHES, WIDTH)
    assert not np.array_equal(whole(Planted(200, seed=1)), whole(first))


def test_planted_images_are_like_their_query_and_others_are_not(monkeypatch):
    monkeypatch.setattr(collection, "CENTRES", 500)
    data = Planted(400)
    features, (queries, rows) = whole(data), data.queries()
    assert rows.shape == (20, GROUP)
    assert len(np.unique(rows)) == 20 * GROUP
    for query, mine in zip(queries, rows, strict=True):
        likeness = np.einsum("npw,pw->np", features, query)
        ranked = np.argsort(-likeness.mean(1))
        assert set(ranked[:GROUP]) == set(mine)
        assert likeness[mine].mean() > likeness.mean() + 0.2


def test_signatures_alone_do_not_decide(monkeypatch):
    # As many images around a centre as among a million.
    monkeypatch.setattr(collection, "CENTRES", 40)
    data = Planted(2000)
    features, (queries, rows) = whole(data)[:, 0], data.queries()
    nearest = [np.argsort(-(features @ query[0]))[:GROUP] for query in queries]
    found = np.mean([np.isin(theirs, mine).mean() for mine, theirs in zip(nearest, rows, strict=True)])
    assert 0.1 < found < 0.8


def test_the_fastest_setting_that_finds_as_much():
    settings = {"a": {"recall": 0.8, "ms": 1.0}, "b": {"recall": 0.9, "ms": 3.0}, "c": {"recall": 0.95, "ms": 2.0}}
    assert at_equal_recall({"recall": 0.85}, settings) == {"setting": "c", "recall": 0.95, "ms": 2.0}
    assert at_equal_recall({"recall": 0.99}, settings) is None


def test_without_faiss_it_says_so_and_measures_the_rest(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(patches_in_faiss, "faiss", None)
    monkeypatch.setattr(collection, "CENTRES", 100)
    arguments = [
        "--images",
        "300",
        "--words",
        "50",
        "--training-patches",
        "500",
        "--json",
        str(tmp_path / "found.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["deep_index", *arguments])
    deep_index.main()
    printed = capsys.readouterr().out
    assert "FAISS is not installed: its rows are LEFT OUT" in printed
    assert "signatures alone: recall" in printed
    kept = json.loads((tmp_path / "found.json").read_text())
    (row,) = kept["rows"]["collections"]
    assert {"IVF-Flat", "IVF-PQ"}.isdisjoint(row)
    assert row["ours"]["log MA=1 GIS"]["recall"] > row["ours"]["log MA=1 no GIS"]["recall"]
    assert row["ours"]["log MA=1 GIS"]["batch_ms"] > 0
    assert 0 < row["signatures alone"]["recall"] <= 1
    picture = tmp_path / "found.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
    monkeypatch.setattr(sys, "argv", ["deep_index", "--draw", "--json", str(tmp_path / "found.json")])
    deep_index.main()
    assert capsys.readouterr().out.strip() == str(picture)
    assert picture.exists()
    assert row["bytes_an_image"]["in the thesis's layout"] == 4 * 14 + 4 * 64


def test_faiss_is_asked_by_the_same_rule(monkeypatch, tmp_path):
    pytest.importorskip("faiss", reason="FAISS is not installed (extra bench)")
    monkeypatch.setattr(collection, "CENTRES", 30)
    monkeypatch.setattr(patches_in_faiss, "PROBES", (1,))
    # So many neighbours that each patch of the cell is one: then both count the same matches.
    monkeypatch.setattr(patches_in_faiss, "NEIGHBOURS", (4000,))
    words = deep_index.fit_codebook(Planted(100).sample(300), 10).words
    row = deep_index.compare(200, words, "int8", tmp_path / "index")
    for rule in RULES:
        (theirs,) = row["IVF-Flat"][rule].values()
        kind, gis = rule.split(" ", 1)
        assert theirs["recall"] == row["ours"][f"{kind} MA=1 {gis}"]["recall"]
    with_signatures, without = (row["IVF-Flat"][rule].popitem()[1]["recall"] for rule in ("log GIS", "log no GIS"))
    assert with_signatures > without


def test_the_figures_that_are_kept_can_be_drawn(tmp_path):
    kept = tmp_path / "kept.json"
    shutil.copy(FOLDER / "deep_index.json", kept)
    assert draw(kept).read_bytes().startswith(b"\x89PNG")
