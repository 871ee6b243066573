"""The version that `benchmarks/edge_evaluation.py` compares with counts the same."""

import json

import numpy as np

from benchmarks.edge_evaluation import count_plainly, drawn, main
from tfthesis.edges.counting import count_edges, even_thresholds
from tfthesis.edges.matching import MATCHINGS


def test_plain_version_counts_the_same():
    ((_, soft, annotators),) = drawn(1)
    thresholds = even_thresholds(4)
    plain = count_plainly(soft, annotators, thresholds)
    assert plain.matched_truth.min() > 0
    for matching in MATCHINGS:
        counts = count_edges(soft, annotators, thresholds, matching=matching)
        for name in ("matched_truth", "truth", "predicted"):
            np.testing.assert_array_equal(getattr(counts, name), getattr(plain, name))
        # Which pixels are matched is free among the largest sets; how many of them, nearly not.
        np.testing.assert_allclose(counts.matched_predicted, plain.matched_predicted, rtol=0.1)


def test_figures_are_kept(tmp_path):
    main(["--images", "1", "--thresholds", "3", "--json", str(tmp_path / "a.json")])
    (row,) = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert row["thresholds"] == 3 and row["plain_s"] > 0 and row["cardinality_ratio"] > 0
    assert 0 <= row["cost_mib"] < 1000 and 0 <= row["cardinality_mib"] < 1000
    # All distances between a few hundred pixels and others are no less than a MiB.
    assert 0.5 < row["plain_mib"] < 1000
