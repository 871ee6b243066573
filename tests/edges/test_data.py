"""Images with edges in files: which are refused, and which are skipped."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from tfthesis.data.edge_images import open_edges
from tfthesis.edges.data import EdgeData, Supervision, Window
from tfthesis.errors import UserError
from training import edge_evaluation

HEIGHT, WIDTH = 12, 16


@pytest.fixture
def folder(tmp_path):
    """Return a dataset of three images in each split, whose edges are a line."""
    edges = np.zeros((HEIGHT, WIDTH), np.uint8)
    edges[5] = 255
    for split in ("train", "val", "test"):
        for part in ("images", "edges"):
            (tmp_path / split / part).mkdir(parents=True)
        for name in "abc":
            pixels = np.random.default_rng(ord(name)).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / split / "images" / f"{name}.png")
            PIL.Image.fromarray(edges).save(tmp_path / split / "edges" / f"{name}.png")
    return tmp_path


def opened(folder):
    return EdgeData(open_edges("edge_folders", folder), Window(HEIGHT, WIDTH), Supervision(1))


def write_edges(path, height=HEIGHT, width=WIDTH):
    PIL.Image.fromarray(np.zeros((height, width), np.uint8)).save(path)


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_sound_files_are_all_used(folder):
    data = opened(folder)
    assert [data.size(split) for split in ("train", "val", "test")] == [3, 3, 3]
    assert data.describe()["skipped"] == {"count": 0, "items": []}


def test_training_images_without_edges_or_damaged_are_skipped_and_listed(folder):
    write_edges(folder / "train/edges/b.png")
    cut_off(folder / "train/images/c.png")
    data = opened(folder)
    assert data.size("train") == 1 and data.item_ids("train", np.array([0])) == ["train/a"]
    (inputs, targets) = next(iter(data.batches("train", [np.array([0])], None)))
    assert inputs["image"].shape == (1, HEIGHT, WIDTH, 3) and (targets["edges"].numpy() == 1).any()
    empty, damaged = data.describe()["skipped"]["items"]
    assert empty.startswith("train: image train/b: ") and "1 maps without a single edge pixel" in empty
    assert damaged.startswith("train: image train/c: ")


def test_damaged_edges_of_training_images_are_skipped(folder):
    cut_off(folder / "train/edges/a.png")
    data = opened(folder)
    assert data.item_ids("train", np.arange(data.size("train"))) == ["train/b", "train/c"]
    (line,) = data.describe()["skipped"]["items"]
    assert line.startswith("train: image train/a: ") and "edges/a.png" in line


def test_a_split_of_nothing_usable_is_refused(folder):
    for name in "abc":
        write_edges(folder / f"train/edges/{name}.png")
    with pytest.raises(UserError, match="split 'train' has no usable image"):
        opened(folder).size("train")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("harm", [write_edges, cut_off])
def test_measured_images_with_empty_or_damaged_edges_are_refused_as_by_the_command(folder, capsys, split, harm):
    harm(folder / split / "edges/b.png")
    data = opened(folder)
    assert data.size("train") == 3
    with pytest.raises(UserError, match=rf"image {split}/b of split '{split}' cannot be measured: .*edges/b.png"):
        data.size(split)
    maps = folder / "maps"
    maps.mkdir()
    for name in "abc":
        np.save(maps / f"{name}.npy", np.full((HEIGHT, WIDTH), 0.5))
    options = ["--dataset", "edge_folders", "--data-dir", str(folder), "--split", split, "--thresholds", "3"]
    assert edge_evaluation.main([*options, "--maps", str(maps), "--jobs", "1", "--out", str(folder / "out")]) == 2
    assert f"{split}/edges/b.png" in capsys.readouterr().err


def test_damaged_test_images_are_skipped_and_listed(folder):
    """What is in them nobody can look for, so nothing that a network finds is lost."""
    cut_off(folder / "test/images/a.png")
    data = opened(folder)
    assert data.size("test") == 2
    (line,) = data.describe()["skipped"]["items"]
    assert line.startswith("test: image test/a: ")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_edges_of_another_size_are_refused(folder, split):
    edges = np.full((HEIGHT, WIDTH - 1), 255, np.uint8)
    PIL.Image.fromarray(edges).save(folder / split / "edges/c.png")
    with pytest.raises(UserError, match=r"edges/c.png: expected maps of the size of .*images/c.png, 12 x 16, got 12 x"):
        opened(folder).size(split)
