"""Readers of segmentation datasets, and what they refuse."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import scipy.io

from tfthesis.data.readers.scenes import open_dataset
from tfthesis.data.scenes.shapes import KINDS
from tfthesis.data.segmented_images import (
    MapFile,
    SegmentedImages,
    SegmentedSplit,
    colour_wheel,
    open_segmented,
    segmented_names,
)
from tfthesis.errors import UserError


def write_image(path, height=6, width=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def write_map(path, labels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(np.asarray(labels, np.uint8))
    if palette:
        image.putpalette(np.ravel(colour_wheel(256)).astype(np.uint8).tobytes())
    image.save(path)


def labels_of(seed, classes=21, height=6, width=8):
    labels = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)
    labels[0, 0] = 255
    return labels


@pytest.fixture
def voc(tmp_path):
    """VOC with five training and three validation images; SBD has one of each and one of its own."""
    folder, sbd = tmp_path / "VOC2012", tmp_path / "dataset"
    train, val = [f"2007_{n}" for n in range(5)], [f"2008_{n}" for n in range(3)]
    for seed, name in enumerate([*train, *val]):
        write_image(folder / "JPEGImages" / f"{name}.jpg", seed=seed)
        write_map(folder / "SegmentationClass" / f"{name}.png", labels_of(seed), palette=True)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(train) + "\n")
    (lists / "val.txt").write_text("\n".join(val))
    own = [train[0], val[1], "2009_0"]
    for seed, name in enumerate(own, start=20):
        write_image(sbd / "img" / f"{name}.jpg", seed=seed)
        (sbd / "cls").mkdir(exist_ok=True)
        scipy.io.savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": labels_of(seed), "Boundaries": [1]}})
    (sbd / "train.txt").write_text("\n".join(own))
    return folder, sbd


def test_voc_alone(voc):
    folder, _ = voc
    data = open_segmented("voc_segmentation", folder, val_images=2)
    assert data.counts() == {"train": 3, "val": 2, "test": 3}
    assert len(data.classes) == 21 and data.classes[15] == "person" and data.background
    np.testing.assert_array_equal(data.split("train").maps[1].read(), labels_of(1))
    assert data.split("val").ids == ["2007_3", "2007_4"]


def test_voc_with_sbd_measures_what_is_not_trained_on(voc):
    folder, sbd = voc
    data = open_segmented("voc_segmentation", folder, sbd=str(sbd), val_images=1)
    # VOC's own map of an image wins, an image of VOC's validation list that SBD trains on is not measured.
    assert data.split("train").ids == [*(f"2007_{n}" for n in range(5)), "2008_1"]
    assert data.split("val").ids == ["2009_0"] and data.split("test").ids == ["2008_0", "2008_2"]
    np.testing.assert_array_equal(data.split("train").maps[0].read(), labels_of(0))
    np.testing.assert_array_equal(data.split("train").maps[5].read(), labels_of(21))
    np.testing.assert_array_equal(data.split("val").maps[0].read(), labels_of(22))
    alone = open_segmented("voc_segmentation", folder, val_images=1)
    assert data.fingerprint() != alone.fingerprint()


def test_voc_errors(voc):
    folder, sbd = voc
    with pytest.raises(UserError, match=r"val_images: expected 1 to 4, got 5"):
        open_segmented("voc_segmentation", folder, val_images=5)
    with pytest.raises(UserError, match="unknown option"):
        open_segmented("voc_segmentation", folder, year=2011)
    scipy.io.savemat(sbd / "cls" / "2009_0.mat", {"GTinst": np.eye(3)})
    data = open_segmented("voc_segmentation", folder, sbd=str(sbd), val_images=1)
    with pytest.raises(UserError, match=r"2009_0.mat: expected a struct GTcls"):
        data.split("val").maps[0].read()
    scipy.io.savemat(sbd / "cls" / "2009_0.mat", {"GTcls": {"Segmentation": np.eye(3)}})
    with pytest.raises(UserError, match="expected a matrix of uint8"):
        data.split("val").maps[0].read()
    (folder / "SegmentationClass" / "2008_2.png").unlink()
    with pytest.raises(UserError, match=r"no file .*2008_2.png, which a list of the split 'test' names"):
        open_segmented("voc_segmentation", folder, val_images=1)
    (folder / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(UserError, match=r"val.txt is missing; expected VOCdevkit"):
        open_segmented("voc_segmentation", folder)
    with pytest.raises(UserError, match="give its folder"):
        open_segmented("voc_segmentation")


def test_camvid_layout(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        write_image(tmp_path / split / "a.png", seed=seed)
        write_map(tmp_path / f"{split}annot" / "a.png", labels_of(seed, 11) % 12)
        (tmp_path / f"{split}.txt").write_text(f"/SegNet/CamVid/{split}/a.png /SegNet/CamVid/{split}annot/a.png\n\n")
    data = open_segmented("camvid", tmp_path)
    assert data.counts() == {"train": 1, "val": 1, "test": 1} and len(data.classes) == 11
    labels = labels_of(1, 11) % 12
    np.testing.assert_array_equal(data.split("val").maps[0].read(), np.where(labels == 11, 255, labels))
    (tmp_path / "val.txt").write_text("/SegNet/CamVid/val/a.png\n")
    with pytest.raises(UserError, match=r"val.txt, line 1: expected the paths of an image and a map"):
        open_segmented("camvid", tmp_path)
    (tmp_path / "val.txt").write_bytes(b"val/a.png valannot/a.png\nval/\xff.png valannot/b.png\n")
    with pytest.raises(UserError, match=r"val.txt:2: expected UTF-8 text, got the byte 0xff"):
        open_segmented("camvid", tmp_path)
    (tmp_path / "val.txt").write_text("val/b.png valannot/b.png\n")
    with pytest.raises(UserError, match=r"line 1: no file .*b.png"):
        open_segmented("camvid", tmp_path)


def test_real_camvid(real_data):
    data = open_segmented("camvid", real_data / "CamVid_half" / "CamVid")
    assert data.counts() == {"train": 36, "val": 12, "test": 12}
    maps = np.stack([labels.read() for labels in data.split("train").maps])
    assert maps.shape == (36, 180, 240) and set(np.unique(maps)) <= {*range(11), 255}
    # Road, building and sky take most of it.
    shares = np.bincount(maps[maps != 255].ravel(), minlength=11) / (maps != 255).sum()
    assert {data.classes[place] for place in np.argsort(-shares)[:3]} <= {"road", "building", "sky", "tree"}


def test_map_folders(tmp_path):
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "images" / "one.jpg")
        write_map(tmp_path / split / "maps" / "one.png", labels_of(0, 3))
    (tmp_path / "classes.json").write_text(json.dumps(["ground", "roof", "tree"]))
    data = open_segmented("map_folders", tmp_path, background=True)
    assert data.classes == ("ground", "roof", "tree") and data.background
    np.testing.assert_array_equal(data.split("test").maps[0].read(), labels_of(0, 3))
    write_image(tmp_path / "val" / "images" / "two.jpg")
    with pytest.raises(UserError, match=r"two.jpg has no map: no file .*two.png"):
        open_segmented("map_folders", tmp_path)
    write_map(tmp_path / "val" / "maps" / "two.png", labels_of(0, 3))
    write_image(tmp_path / "val" / "images" / "two.png")
    with pytest.raises(UserError, match=r"would share a map: \['two'\]"):
        open_segmented("map_folders", tmp_path)
    (tmp_path / "classes.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="expected a list of two class names or more"):
        open_segmented("map_folders", tmp_path)


def test_scenes_have_the_kind_of_every_pixel():
    data = open_segmented("scenes", images=(3, 1, 1), size=48)
    assert data.classes == ("background", *KINDS)
    split = data.split("train")
    items = open_dataset("scenes", images=(3, 1, 1), labels="objects", size=48).splits["train"]
    for labels, item in zip(split.maps, items, strict=True):
        assert {data.classes[label] for label in np.unique(labels)} == {"background", *item.labels}
        # The middle of an object that nothing hides is of its kind.
        largest = item.image.scene.objects[0]
        around = labels[tuple(int(48 * value) for value in reversed(largest.centre))]
        assert data.classes[around] in item.labels


def test_colours_are_those_of_voc():
    wheel = colour_wheel(256)
    assert wheel[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0)) and wheel[15] == (192, 128, 128)
    assert wheel[255] == (224, 224, 192)


def test_maps_that_are_pictures(tmp_path):
    write_image(tmp_path / "colour.png")
    with pytest.raises(UserError, match="got an image of mode RGB"):
        MapFile(tmp_path / "colour.png").read()
    (tmp_path / "cut.png").write_bytes((tmp_path / "colour.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"cut.png"):
        MapFile(tmp_path / "cut.png").read()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_grey_maps_of_few_bits(tmp_path, bits):
    labels = np.arange(2**bits if bits < 8 else 16, dtype=np.uint8).reshape(2, -1)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    width = labels.shape[1]
    lines = [np.packbits(np.unpackbits(line[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for line in labels]
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    head = struct.pack(">IIBBBBB", width, 2, bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (tmp_path / "map.png").write_bytes(data)
    np.testing.assert_array_equal(MapFile(tmp_path / "map.png").read(), labels)


def dataset(maps, ids=("a", "b"), classes=("x", "y")):
    images = np.zeros((*np.shape(maps), 3), np.uint8)
    return SegmentedImages(
        "mine", {"train": SegmentedSplit(list(ids), images, np.array(maps, np.uint8))}, classes, colour_wheel(2)
    )


def test_contradictions():
    good = [[[0, 1]], [[255, 1]]]
    assert dataset(good).counts() == {"train": 2}
    with pytest.raises(UserError, match=r"the map of b has the labels \[2\], expected 0 to 1, or 255"):
        dataset([[[0, 1]], [[2, 1]]])
    with pytest.raises(UserError, match="ids occur twice"):
        dataset(good, ids=("a", "a"))
    with pytest.raises(UserError, match="as many ids as images as maps"):
        dataset(good, ids=("a",))
    with pytest.raises(UserError, match="class names that differ"):
        dataset(good, classes=("x", "x"))
    with pytest.raises(UserError, match="at most 255 classes, got 256"):
        SegmentedImages("mine", {}, tuple(map(str, range(256))), colour_wheel(256))
    with pytest.raises(UserError, match=r"unknown split of mine 'tests'"):
        dataset(good).split("tests")
    assert dataset(good).fingerprint() != dataset([[[0, 1]], [[1, 1]]]).fingerprint()


def test_names():
    assert {"scenes", "camvid", "voc_segmentation", "map_folders"} <= set(segmented_names())
    with pytest.raises(UserError, match="Did you mean 'camvid'"):
        open_segmented("camvit")
    with pytest.raises(UserError, match="no folder"):
        open_segmented("camvid", "/nowhere")
