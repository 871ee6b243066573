"""The command that evaluates edge maps."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import training.edge_evaluation
from tfthesis.data.edge_images import open_edges, read_soft_map
from tfthesis.edges.counting import count_edges, even_thresholds
from tfthesis.edges.official import OfficialResults
from tfthesis.edges.scores import score_edges
from tfthesis.edges.thinning import suppress_non_maxima, triangle_blur
from tfthesis.errors import UserError
from training.edge_evaluation import find_maps, main, parser

READER = ["--reader", "images=[2, 1, 3]", "--reader", "size=48"]


@pytest.fixture
def drawn(tmp_path):
    """Return a folder of maps of three drawn scenes: what annotators agree on, blurred."""
    folder = tmp_path / "maps"
    folder.mkdir()
    split = open_edges("scenes", images=(2, 1, 3), size=48).split("test")
    for name, edges in zip(split.ids, split.edges, strict=True):
        soft = triangle_blur(edges.mean(axis=0), 1)
        PIL.Image.fromarray(np.round(255 * soft / soft.max()).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def run(drawn, *options):
    return main(["--maps", str(drawn), "--dataset", "scenes", *READER, "--thresholds", "9", "--jobs", "1", *options])


def contents(folder):
    """Return the files of a result, without what differs from one evaluation to the next."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    values = json.loads(found["evaluation.json"])
    del values["effort"], values["machine"]
    return found | {"evaluation.json": values}


def effort(folder):
    return json.loads((folder / "evaluation.json").read_text())["effort"]


def test_results_are_those_of_the_library(drawn, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(drawn, "--max-dist", "0.02", "--nms", "--out", str(out)) == 0
    split = open_edges("scenes", images=(2, 1, 3), size=48).split("test")
    thresholds = even_thresholds(9)
    counts = [
        count_edges(suppress_non_maxima(read_soft_map(drawn / f"{name}.png")), edges, thresholds, max_dist=0.02)
        for name, edges in zip(split.ids, split.edges, strict=True)
    ]
    scores = score_edges(counts, thresholds)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["ods"]["f"] == scores.ods.f > 0.5 and found["ap"] == scores.average_precision
    assert found["protocol"]["max_dist"] == 0.02 and found["protocol"]["nms"] and found["images"] == 3
    assert found["curve"]["recall"] == scores.recall.tolist()
    assert 0 <= found["effort"]["seconds"] < 600 and found["effort"]["processes"] == 1
    assert found["machine"]["processor"] and found["machine"]["cores"] >= 1 and found["machine"]["packages"]["scipy"]
    with open(out / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == split.ids
    assert [float(row["f"]) for row in rows] == [one.f for one in scores.images]
    assert max(OfficialResults.read(out).differences(OfficialResults.of(scores)).values()) < 1e-5
    with PIL.Image.open(out / "curve.png") as picture:
        assert min(picture.size) > 500
    assert f"ODS {scores.ods.f:.4f}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "out"]


def test_what_a_killed_evaluation_left_is_in_nobodys_way(drawn, tmp_path, capsys):
    """It was killed between putting its results in their place and removing those before them."""
    assert run(drawn, "--out", str(tmp_path / "out")) == 0
    (tmp_path / ".out.before").mkdir()
    (tmp_path / ".out.before" / "evaluation.json").write_text("{}")
    assert run(drawn, "--out", str(tmp_path / "out")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "out"]
    (tmp_path / "file").write_text("mine")
    assert run(drawn, "--out", str(tmp_path / "file")) == 2
    assert "expected no such folder, an empty one or an evaluation" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_counts_are_kept_until_something_changes(drawn, tmp_path, monkeypatch):
    out, counted = tmp_path / "out", []
    count = training.edge_evaluation.count_edges
    monkeypatch.setattr(
        training.edge_evaluation,
        "count_edges",
        lambda *values, **named: (counted.append(1), count(*values, **named))[1],
    )
    assert run(drawn, "--out", str(out)) == 0 and len(counted) == 3 == effort(out)["counted_images"]
    before = contents(out)
    assert run(drawn, "--out", str(out)) == 0 and len(counted) == 3 and effort(out)["counted_images"] == 0
    assert contents(out) == before
    PIL.Image.fromarray(np.full((48, 48), 7, np.uint8)).save(drawn / "test-000001.png")
    assert run(drawn, "--out", str(out)) == 0 and len(counted) == 4
    assert contents(out)["images.csv"] != before["images.csv"]
    assert run(drawn, "--out", str(out), "--matching", "cost") == 0 and len(counted) == 7
    (out / "counts" / "test-000000.json").write_text("{")
    (out / "counts" / "another.json").write_text("{}")
    assert run(drawn, "--out", str(out), "--matching", "cost") == 0 and len(counted) == 8
    assert sorted(path.stem for path in (out / "counts").iterdir()) == [f"test-00000{number}" for number in range(3)]


def test_an_interrupted_evaluation_goes_on(drawn, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    hidden = drawn / "test-000002.png"
    good = hidden.read_bytes()
    hidden.write_bytes(good[:60])
    assert run(drawn, "--out", str(out)) == 2
    assert str(hidden) in capsys.readouterr().err and not out.exists()
    hidden.write_bytes(good)
    counted = []
    count = training.edge_evaluation.count_edges
    monkeypatch.setattr(
        training.edge_evaluation,
        "count_edges",
        lambda *values, **named: (counted.append(1), count(*values, **named))[1],
    )
    assert run(drawn, "--out", str(out)) == 0 and len(counted) == 1
    assert len(json.loads((out / "evaluation.json").read_text())["curve"]["f"]) == 9


def test_processes_find_the_same(drawn, tmp_path):
    assert run(drawn, "--quiet", "--out", str(tmp_path / "one")) == 0
    command = [sys.executable, "-m", "training.edge_evaluation", "--maps", str(drawn), "--dataset", "scenes", *READER]
    command += ["--thresholds", "9", "--jobs", "2", "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert effort(tmp_path / "two")["processes"] == 2 and effort(tmp_path / "two")["counted_images"] == 3
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two


def test_comparison_with_official_files(drawn, tmp_path, capsys):
    assert run(drawn, "--out", str(tmp_path / "first")) == 0
    assert run(drawn, "--matching", "cost", "--compare", str(tmp_path / "first"), "--out", str(tmp_path / "out")) == 0
    found = json.loads((tmp_path / "out/evaluation.json").read_text())["differences"]
    assert 0 <= found["ods_f"] < 0.02 and "difference of ap: 0.0" in capsys.readouterr().out
    assert run(drawn, "--compare", str(tmp_path / "none"), "--out", str(tmp_path / "other")) == 2
    assert "eval_bdry" in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reader", "images=[2, 1, 2]"], "as many images and thresholds, got 2 and 9 beside 3 and 9"),
        (["--thresholds", "4"], "as many images and thresholds, got 3 and 4 beside 3 and 9"),
        (["--thresholds", "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.95"], "expected results at the same thresholds"),
    ],
)
def test_other_images_or_thresholds_are_not_compared_nor_counted(
    drawn, tmp_path, capsys, monkeypatch, options, message
):
    assert run(drawn, "--out", str(tmp_path / "first")) == 0
    monkeypatch.setattr(training.edge_evaluation, "count_images", lambda *given: pytest.fail("it counts"))
    out = tmp_path / "out"
    assert run(drawn, "--compare", str(tmp_path / "first"), "--out", str(out), *options) == 2
    assert message in capsys.readouterr().err and not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "maps"]


@pytest.mark.parametrize("shape", [(1, 9), (9, 1)])
def test_maps_of_one_pixel_a_side_pass_suppression(tmp_path, shape):
    for part in ("test/images", "test/edges", "maps"):
        (tmp_path / part).mkdir(parents=True)
    edges = np.zeros(shape, np.uint8)
    edges.flat[4] = 255
    PIL.Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(tmp_path / "test/images/a.png")
    PIL.Image.fromarray(edges).save(tmp_path / "test/edges/a.png")
    PIL.Image.fromarray(edges).save(tmp_path / "maps/a.png")
    options = ["--dataset", "edge_folders", "--data-dir", str(tmp_path), "--maps", str(tmp_path / "maps"), "--nms"]
    assert main([*options, "--thresholds", "3", "--jobs", "1", "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["ods"]["f"] == 1.0


def test_maps_that_do_not_fit(drawn, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    PIL.Image.fromarray(np.zeros((48, 47), np.uint8)).save(drawn / "test-000000.png")
    assert run(drawn, *out) == 2
    assert "test-000000.png: expected a map of 48 x 48, got 48 x 47" in capsys.readouterr().err
    (drawn / "test-000001.png").unlink()
    assert run(drawn, *out) == 2
    assert "expected a map for each of 3 images, 1 are missing, such as test-000001.png" in capsys.readouterr().err
    with pytest.raises(UserError, match="no folder"):
        find_maps(drawn / "none", ["a"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    np.save(drawn / "test-000001.npy", np.zeros((48, 48)))
    assert run(drawn, *out) == 2
    assert "an empty one or an evaluation" in capsys.readouterr().err
    assert (tmp_path / "out" / "diary.txt").read_text() == "mine"


def test_maps_of_every_kind(tmp_path):
    values = np.array([[0, 255, 51]], np.uint8)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_soft_map(tmp_path / "a.png"), [[0, 1, 0.2]])
    PIL.Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "b.png")
    np.testing.assert_allclose(read_soft_map(tmp_path / "b.png"), [[0, 1, 0.2]])
    PIL.Image.fromarray(values > 100).save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_soft_map(tmp_path / "c.png"), [[0, 1, 0]])
    np.save(tmp_path / "d.npy", np.array([[0.25, 1.0]], np.float32))
    np.testing.assert_array_equal(read_soft_map(tmp_path / "d.npy"), [[0.25, 1.0]])
    PIL.Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "e.png")
    with pytest.raises(UserError, match=r"e.png: expected grey values of 8 or 16 bits, got a picture of mode RGB"):
        read_soft_map(tmp_path / "e.png")
    for name, wrong in (("f", np.array([[1.5]])), ("g", np.array([[1]])), ("h", np.array([0.5])), ("i", [[np.nan]])):
        np.save(tmp_path / f"{name}.npy", wrong)
        with pytest.raises(UserError, match=rf"{name}.npy: expected probabilities"):
            read_soft_map(tmp_path / f"{name}.npy")
    (tmp_path / "k.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"k.npy"):
        read_soft_map(tmp_path / "k.npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--thresholds", "0"], "--thresholds"),
        (["--thresholds", "0.5,0.2"], "--thresholds"),
        (["--matching", "greedy"], "value of --matching: 'greedy'"),
        (["--max-dist", "0"], "--max-dist: expected a share above 0"),
        (["--split", "tests"], "value of --split: 'tests'"),
        (["--dataset", "bsds50"], "Did you mean 'bsds500'"),
    ],
)
def test_mistakes(tmp_path, capsys, options, message):
    assert main(["--maps", str(tmp_path), "--dataset", "scenes", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_thresholds_may_be_listed():
    options = parser().parse(["--maps", "a", "--out", "b", "--thresholds", "0.25,0.5"])
    assert options.thresholds.tolist() == [0.25, 0.5]


def test_command_starts_without_tensorflow():
    script = (
        "import sys, training.edge_evaluation\nsys.exit(str({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "set()"
