"""The official text files, and the official results that the evaluator has to find on real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfthesis.data.edge_images import read_soft_map
from tfthesis.data.readers.berkeley_edges import BerkeleyFile
from tfthesis.edges.counting import EdgeCounts, count_edges, even_thresholds
from tfthesis.edges.official import CURVE, IMAGES, SUMMARY, OfficialResults
from tfthesis.edges.scores import average_precision, best_operating, score_edges
from tfthesis.errors import UserError
from training.edge_evaluation import main

BENCH, BSDS = Path("BSDS500/bench/data"), Path("BSDS500/BSDS500")


@pytest.fixture
def scores():
    random = np.random.default_rng(0)
    counts = []
    for size in (300, 500, 400):
        predicted = np.sort(random.integers(1, size, 9))[::-1]
        matched = random.integers(0, predicted + 1)
        counts.append(EdgeCounts(matched, np.full(9, size), matched, predicted))
    return score_edges(counts, even_thresholds(9))


def write(results, folder):
    folder.mkdir()
    for name, text in results.texts().items():
        (folder / name).write_text(text)
    return folder


def test_files_come_back(tmp_path, scores):
    results = OfficialResults.of(scores)
    again = OfficialResults.read(write(results, tmp_path / "a"))
    for found, kept in ((again.summary, results.summary), (again.images, results.images), (again.curve, results.curve)):
        np.testing.assert_allclose(found, kept, rtol=1e-5)
    assert max(results.differences(again).values()) < 1e-5
    assert again.summary[3] == pytest.approx(scores.ods.f, rel=1e-5) and len(again.images) == 3
    lines = (tmp_path / "a" / IMAGES).read_text().splitlines()
    assert [len(line) for line in lines] == [54] * 3 and lines[2].split()[0] == "3"


def test_differences_are_found(tmp_path, scores):
    results = OfficialResults.of(scores)
    other = OfficialResults(results.summary + 0.25, results.images.copy(), results.curve.copy())
    other.images[1, 3] -= 0.5
    other.curve[4, 1] += 0.125
    found = results.differences(other)
    assert found["ods_f"] == found["ap"] == 0.25 and found["image_f"] == 0.5
    assert found["curve_recall"] == pytest.approx(0.125)
    assert found["image_threshold"] == found["curve_f"] == 0.0
    other.curve[4, 0] += 0.01
    with pytest.raises(UserError, match="at the same thresholds"):
        results.differences(other)
    with pytest.raises(UserError, match="3 and 9 beside 2 and 9"):
        results.differences(OfficialResults(results.summary, results.images[:2], results.curve))


def test_files_of_another_form(tmp_path, scores):
    folder = write(OfficialResults.of(scores), tmp_path / "a")
    (folder / IMAGES).write_text("         2        0.1        0.2        0.3        0.4\n")
    with pytest.raises(UserError, match=rf"{IMAGES}: expected lines that are numbered from 1"):
        OfficialResults.read(folder)
    (folder / IMAGES).write_text("1 2 3\n")
    with pytest.raises(UserError, match=rf"{IMAGES}: expected lines of 5 numbers, got an array of shape \[1, 3\]"):
        OfficialResults.read(folder)
    (folder / IMAGES).write_text("1 2 3 x 5\n")
    with pytest.raises(UserError, match=IMAGES):
        OfficialResults.read(folder)
    (folder / IMAGES).unlink()
    with pytest.raises(UserError, match=rf"{IMAGES}.*No such file"):
        OfficialResults.read(folder)


@pytest.mark.parametrize("folder", [BENCH / "test_2", BSDS / "ucm2/test_eval", Path("BSDS500/RDS_eval")])
def test_real_files_are_written_as_they_are(real_data, folder):
    folder = real_data / folder
    results = OfficialResults.read(folder)
    for name, text in results.texts().items():
        official = (folder / name).read_text()
        assert [line.rstrip() for line in text.splitlines()] == [line.rstrip() for line in official.splitlines()], name
    # From the curve alone follow ODS and AP.
    thresholds, recall, precision, _ = results.curve.T
    best = best_operating(thresholds, recall, precision)
    # The curve has six digits, so that neighbours of the best place can tie.
    assert (best.recall, best.precision, best.f) == pytest.approx(tuple(results.summary[1:4]), abs=1e-4)
    assert best.f == pytest.approx(results.summary[3], abs=2e-6)
    assert average_precision(recall, precision) == pytest.approx(results.summary[7], abs=2e-6)


def bench_results(folder, matching):
    """Return what the five images of the official test case give."""
    thresholds = even_thresholds(5)
    counts = []
    for path in sorted((folder / "png").glob("*.png")):
        annotators = BerkeleyFile(folder / "groundTruth" / f"{path.stem}.mat", folder / "images" / f"{path.stem}.jpg")
        counts.append(count_edges(read_soft_map(path), annotators.read(), thresholds, matching=matching))
    return OfficialResults.of(score_edges(counts, thresholds)), counts


# With the least cost only the official code's own random choices remain: it leaves up to 8 of 9,000 pairs out.
@pytest.mark.parametrize(
    ("matching", "precision", "f"),
    [("cardinality", 0.0025, 0.0015), ("cost", 0.0007, 0.0004)],
)
def test_official_test_case(real_data, matching, precision, f):
    results, counts = bench_results(real_data / BENCH, matching)
    official = OfficialResults.read(real_data / BENCH / "test_2")
    found = results.differences(official)
    assert found["curve_recall"] < 0.0004 and found["curve_precision"] < precision and found["curve_f"] < f
    assert max(found["ods_f"], found["ois_f"], found["ap"]) < f
    assert found["image_threshold"] < 1e-5 and found["image_f"] < 0.004
    # Recalls of the official code are never above those of a largest matching.
    assert (results.curve[:, 1] >= official.curve[:, 1] - 1e-6).all()
    best = [int(np.argmin(np.abs(even_thresholds(5) - row[0]))) for row in official.images]
    predicted = [one.predicted[at] for one, at in zip(counts, best, strict=True)]
    truth = [one.truth[at] for one, at in zip(counts, best, strict=True)]
    # The official rates are whole pixels of as many thinned and true ones as here.
    for rates, sizes in ((official.images[:, 2], predicted), (official.images[:, 1], truth)):
        pixels = rates * sizes
        np.testing.assert_allclose(pixels, np.round(pixels), atol=0.02)
    if matching == "cost":
        ours = [one.matched_predicted[at] for one, at in zip(counts, best, strict=True)]
        assert np.abs(ours - official.images[:, 2] * predicted).max() < 3.5
        ours = [one.matched_truth[at] for one, at in zip(counts, best, strict=True)]
        assert np.abs(ours - official.images[:, 1] * truth).max() < 8.5


@pytest.mark.slow
@pytest.mark.parametrize("matching", ["cardinality", "cost"])
def test_two_hundred_test_images(real_data, tmp_path, matching):
    folder, out = real_data / BSDS, tmp_path / "out"
    options = ["--maps", str(folder / "ucm_png/test"), "--data-dir", str(folder / "data"), "--matching", matching]
    assert main([*options, "--quiet", "--out", str(out)]) == 0
    found = OfficialResults.read(out).differences(OfficialResults.read(folder / "ucm2/test_eval"))
    assert max(found["ods_f"], found["ois_f"], found["ap"]) < 0.003
    assert (out / SUMMARY).is_file() and len((out / CURVE).read_text().splitlines()) == 99
