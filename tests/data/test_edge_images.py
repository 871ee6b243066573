"""Readers of edge datasets, and what they refuse."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import scipy.io
import scipy.ndimage

from tfthesis.data.edge_images import EdgeImages, EdgePictures, EdgeSplit, checked, edge_names, open_edges
from tfthesis.data.readers.berkeley_edges import BerkeleyFile
from tfthesis.data.readers.scenes import open_segmented
from tfthesis.errors import UserError

SIZE = (6, 8)


def write_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def drawn(annotators, seed=0, size=SIZE):
    edges = np.random.default_rng(seed).uniform(size=(annotators, *size)) < 0.3
    edges[0, 0, 0] = True
    return edges


def write_mat(path, maps, segmentations=None, name="groundTruth"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), object)
    for number, edges in enumerate(maps):
        struct = {"Boundaries": np.asarray(edges, np.uint8)}
        if segmentations is not None:
            struct["Segmentation"] = np.asarray(segmentations[number], np.uint16)
        cells[0, number] = struct
    scipy.io.savemat(path, {name: cells})


@pytest.fixture
def berkeley(tmp_path):
    for split, names in (("train", "ab"), ("val", "c"), ("test", "de")):
        for name in names:
            write_image(tmp_path / "images" / split / f"{name}.jpg")
            maps = drawn(3, ord(name))
            segmentations = np.arange(3)[:, None, None] + np.ones(SIZE)
            write_mat(tmp_path / "groundTruth" / split / f"{name}.mat", maps, segmentations)
    return tmp_path


def test_bsds500(berkeley):
    data = open_edges("bsds500", berkeley)
    assert data.counts() == {"train": 2, "val": 1, "test": 2} and data.split("test").ids == ["d", "e"]
    edges = data.split("test").edges[1]
    found = edges.read()
    assert found.dtype == bool
    np.testing.assert_array_equal(found, drawn(3, ord("e")))
    assert [labels.max() for labels in edges.read_segmentations()] == [1, 2, 3]
    assert data.split("train").take(np.array([1])).ids == ["b"]
    fingerprint = data.fingerprint()
    write_mat(berkeley / "groundTruth/val/c.mat", drawn(3, 99))
    assert open_edges("bsds500", berkeley).fingerprint() != fingerprint


def test_bsds500_errors(berkeley):
    with pytest.raises(UserError, match="give its folder"):
        open_edges("bsds500")
    (berkeley / "groundTruth/test/e.mat").unlink()
    with pytest.raises(UserError, match=r"e.jpg has no edges: no file .*e.mat"):
        open_edges("bsds500", berkeley)
    for path in (berkeley / "images/test").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="test: no images; they end in"):
        open_edges("bsds500", berkeley)
    (berkeley / "images/test").rmdir()
    with pytest.raises(UserError, match=r"images/test is missing; expected the folder data of BSDS500"):
        open_edges("bsds500", berkeley)


def test_nyud_may_have_a_test_split_alone(berkeley, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyud")
    write_image(folder / "images/test/img_1.png")
    write_mat(folder / "groundTruth/test/img_1.mat", drawn(1))
    data = open_edges("nyud", folder)
    assert data.counts() == {"test": 1} and data.split("test").edges[0].read().shape == (1, *SIZE)
    with pytest.raises(UserError, match="a matrix Segmentation, got .* with the fields Boundaries for annotator 1"):
        data.split("test").edges[0].read_segmentations()
    assert open_edges("nyud", berkeley).counts() == {"train": 2, "val": 1, "test": 2}
    (folder / "images/test").rename(folder / "images/tests")
    with pytest.raises(UserError, match=r"images/test is missing"):
        open_edges("nyud", folder)


def test_mat_files_of_another_structure(tmp_path):
    path, image = tmp_path / "a.mat", tmp_path / "a.jpg"
    write_image(image)
    expected = r"a.mat: expected a cell array groundTruth of structs with a matrix Boundaries"
    write_mat(path, drawn(1), name="truth")
    with pytest.raises(UserError, match=expected):
        BerkeleyFile(path).read()
    scipy.io.savemat(path, {"groundTruth": np.eye(3)})
    with pytest.raises(UserError, match=rf"{expected}, got .* for annotator 1"):
        BerkeleyFile(path).read()
    cells = np.empty((1, 1), object)
    cells[0, 0] = {"Boundaries": "none"}
    scipy.io.savemat(path, {"groundTruth": cells})
    with pytest.raises(UserError, match=rf"{expected}, got <U4 \[1\] for annotator 1"):
        BerkeleyFile(path).read()
    write_mat(path, drawn(1))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=expected):
        BerkeleyFile(path).read()
    path.unlink()
    with pytest.raises(UserError, match=r"a.mat: No such file"):
        BerkeleyFile(path).read()


def test_edges_that_do_not_fit(tmp_path):
    path, image = tmp_path / "a.mat", tmp_path / "a.jpg"
    write_image(image)
    write_mat(path, np.zeros((2, *SIZE)))
    with pytest.raises(UserError, match=r"a.mat: expected edges, got 2 maps without a single edge pixel"):
        BerkeleyFile(path, image).read()
    write_mat(path, drawn(2, size=(8, 6)))
    with pytest.raises(UserError, match=r"a.mat: expected maps of the size of .*a.jpg, 6 x 8, got 8 x 6"):
        BerkeleyFile(path, image).read()
    assert BerkeleyFile(path).read().shape == (2, 8, 6)
    write_mat(path, [np.ones(SIZE), np.ones((5, 8))])
    with pytest.raises(UserError, match=r"got 6 x 8 of annotator 1 and 5 x 8 of annotator 2"):
        BerkeleyFile(path, image).read()
    write_mat(path, [])
    with pytest.raises(UserError, match=r"a.mat: expected the edges of one annotator or more, got none"):
        BerkeleyFile(path, image).read()
    image.write_bytes(b"no picture")
    write_mat(path, drawn(1))
    with pytest.raises(UserError, match=r"a.jpg: cannot identify"):
        BerkeleyFile(path, image).read()


@pytest.fixture
def context(tmp_path):
    """PASCAL Context: two images with classes above 255, one of which nobody has named everywhere; a third without."""
    (tmp_path / "trainval").mkdir()
    maps = {"2008_2": np.full(SIZE, 431, np.uint16), "2008_1": np.full(SIZE, 18, np.uint16)}
    maps["2008_2"][:, 4:] = 175
    maps["2008_1"][2:5, 2:5] = 274
    maps["2008_1"][3, 3:5] = 0
    for name in (*maps, "2008_3"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
    for name, labels in maps.items():
        scipy.io.savemat(tmp_path / "trainval" / f"{name}.mat", {"LabelMap": labels})
    return tmp_path


def test_pascal_context(context, tmp_path_factory):
    data = open_edges("pascal_context", context)
    assert data.counts() == {"train": 2} and data.split("train").ids == ["2008_1", "2008_2"]
    one, two = (edges.read() for edges in data.split("train").edges)
    expected = np.zeros((1, *SIZE), bool)
    expected[:, :, 3] = True
    np.testing.assert_array_equal(two, expected)
    # What nobody has named belongs to the nearest class: the object is whole.
    expected = np.zeros((1, *SIZE), bool)
    expected[0, 1, 2:5] = expected[0, 4, 2:5] = expected[0, 2:5, 1] = expected[0, 2:5, 4] = True
    np.testing.assert_array_equal(one, expected)
    elsewhere = tmp_path_factory.mktemp("labels")
    (context / "trainval").rename(elsewhere / "own")
    again = open_edges("pascal_context", context, labels=str(elsewhere / "own"))
    np.testing.assert_array_equal(again.split("train").edges[0].read(), one)
    with pytest.raises(UserError, match=r"trainval is missing; expected VOCdevkit/VOC2010 with JPEGImages"):
        open_edges("pascal_context", context)


def test_pascal_context_errors(context):
    file = context / "trainval" / "2008_1.mat"
    (edges, _) = open_edges("pascal_context", context).split("train").edges
    for content in ({"labels": np.eye(3)}, {"LabelMap": np.eye(3)}, {"LabelMap": np.zeros((2, 6, 8), int)}):
        scipy.io.savemat(file, content)
        with pytest.raises(UserError, match=r"2008_1.mat: expected a matrix LabelMap of whole numbers"):
            edges.read()
    scipy.io.savemat(file, {"LabelMap": np.eye(5, dtype=np.uint16)})
    with pytest.raises(UserError, match=r"expected maps of the size of .*2008_1.jpg, 6 x 8, got 5 x 5"):
        edges.read()
    scipy.io.savemat(file, {"LabelMap": np.ones(SIZE, np.uint16)})
    with pytest.raises(UserError, match="without a single edge pixel"):
        edges.read()
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(UserError, match="expected a matrix LabelMap"):
        edges.read()
    file.unlink()
    with pytest.raises(UserError, match="No such file"):
        edges.read()
    (context / "JPEGImages" / "2008_2.jpg").unlink()
    with pytest.raises(UserError, match=r"no file .*2008_2.jpg, whose classes .*2008_2.mat holds"):
        open_edges("pascal_context", context)
    (context / "trainval" / "2008_2.mat").unlink()
    with pytest.raises(UserError, match=r"trainval: no .mat files"):
        open_edges("pascal_context", context)


def test_edge_folders(tmp_path):
    first, second = drawn(3, 1), drawn(1, 2)
    for name in ("one", "two"):
        write_image(tmp_path / "test/images" / f"{name}.png")
    (tmp_path / "test/edges/one").mkdir(parents=True)
    for number, edges in enumerate(first):
        PIL.Image.fromarray(edges.astype(np.uint8)).save(tmp_path / "test/edges/one" / f"{number}.png")
    PIL.Image.fromarray(second[0]).save(tmp_path / "test/edges/two.png")
    data = open_edges("edge_folders", tmp_path)
    split = data.split("test")
    assert data.counts() == {"test": 2} and split.ids == ["test/one", "test/two"]
    np.testing.assert_array_equal(split.edges[0].read(), first)
    np.testing.assert_array_equal(split.edges[1].read(), second)
    fingerprint = data.fingerprint()
    PIL.Image.fromarray(~second[0]).save(tmp_path / "test/edges/two.png")
    assert open_edges("edge_folders", tmp_path).fingerprint() != fingerprint
    write_image(tmp_path / "test/images/one.jpg")
    with pytest.raises(UserError, match="image ids occur twice"):
        open_edges("edge_folders", tmp_path)
    (tmp_path / "test/images/one.jpg").unlink()
    write_image(tmp_path / "test/images/three.png")
    with pytest.raises(UserError, match=r"three.png has no edges: neither a file .*three.png nor PNG files in"):
        open_edges("edge_folders", tmp_path)
    with pytest.raises(UserError, match="none of the folders train, val, test"):
        open_edges("edge_folders", tmp_path / "test")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"train/images is missing"):
        open_edges("edge_folders", tmp_path)


def test_pictures_that_are_no_edges(tmp_path):
    write_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png: expected grey values of which 0 is no edge, got .* mode RGB"):
        EdgePictures((tmp_path / "a.png",), tmp_path / "a.png").read()
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:30])
    with pytest.raises(UserError, match=r"b.png"):
        EdgePictures((tmp_path / "b.png",), tmp_path / "a.png").read()


def test_scenes_have_the_outlines_of_their_objects():
    data = open_edges("scenes", images=(4, 1, 1), size=128)
    labels = open_segmented("scenes", images=(4, 1, 1), size=128).split("train").maps
    assert data.counts() == {"train": 4, "val": 1, "test": 1}
    differ = 0
    for edges, classes in zip(data.split("train").edges, labels, strict=True):
        assert edges.shape == (5, 128, 128) and edges.dtype == bool
        # Every edge lies within three pixels of a place where the class changes.
        change = (np.diff(classes, axis=0, prepend=classes[:1]) != 0) | (
            np.diff(classes, axis=1, prepend=classes[:, :1]) != 0
        )
        near = scipy.ndimage.binary_dilation(change, np.ones((3, 3)), iterations=3)
        assert not (edges & ~near).any() and edges.any(axis=(1, 2)).all()
        differ += len({drawn.tobytes() for drawn in edges})
    assert differ > 8


def test_scenes_are_the_same_every_time():
    first, again = (open_edges("scenes", images=(2, 1, 1), size=64) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    fewer = open_edges("scenes", images=(2, 1, 1), size=64, annotators=2)
    np.testing.assert_array_equal(fewer.split("train").edges[0], first.split("train").edges[0][:2])
    other = open_edges("scenes", images=(2, 1, 1), size=64, seed=1)
    assert other.fingerprint() != first.fingerprint()
    assert other.split("train").edges[0].tobytes() != first.split("train").edges[0].tobytes()
    np.testing.assert_array_equal(
        first.split("val").images, open_segmented("scenes", images=(2, 1, 1), size=64).split("val").images
    )
    with pytest.raises(UserError, match="annotators: expected at least 1, got 0"):
        open_edges("scenes", annotators=0)
    with pytest.raises(UserError, match="leave out the folder"):
        open_edges("scenes", ".")


def dataset(ids=("a", "b"), images=2, edges=2, size=SIZE, empty=False):
    maps = [drawn(2, seed, size) & (not empty) for seed in range(edges)]
    return EdgeImages("mine", {"test": EdgeSplit(list(ids), np.zeros((images, *SIZE, 3), np.uint8), maps)})


def test_contradictions():
    assert dataset().counts() == {"test": 2}
    with pytest.raises(UserError, match="ids occur twice"):
        dataset(ids=("a", "a"))
    with pytest.raises(UserError, match="as many ids as images as edges"):
        dataset(edges=1)
    with pytest.raises(
        UserError, match=r"the edges of a: expected bool \[A, 6, 8\] with an edge, got bool \[2, 5, 8\]"
    ):
        dataset(size=(5, 8))
    with pytest.raises(UserError, match="with 0 edge pixels"):
        dataset(empty=True)
    with pytest.raises(UserError, match="unknown split of mine 'tests'"):
        dataset().split("tests")
    assert dataset().fingerprint() != dataset(ids=("a", "c")).fingerprint()
    assert checked([np.eye(3, dtype=bool)], "x").shape == (1, 3, 3)


def test_names():
    assert set(edge_names()) == {"bsds500", "nyud", "edge_folders", "pascal_context", "scenes"}
    with pytest.raises(UserError, match="Did you mean 'bsds500'"):
        open_edges("bsds50")
    with pytest.raises(UserError, match="no folder"):
        open_edges("nyud", "/nowhere")


def test_real_bsds500(real_data):
    data = open_edges("bsds500", real_data / "BSDS500/BSDS500/data")
    assert data.counts() == {"train": 200, "val": 100, "test": 200}
    split = data.split("test")
    assert split.ids[0] == "100007" and split.edges[0].read().shape == (5, 321, 481)
    annotators = [len(edges.read()) for edges in split.edges[:20]]
    assert min(annotators) >= 4 and max(annotators) <= 9
    assert split.edges[0].read_segmentations()[0].min() == 1
