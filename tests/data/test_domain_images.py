"""Readers of two domains, and of the photos and maps that translation trains on."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.data.domain_images import Domain, domain_names, held_out, open_domains, two_domains
from tfthesis.data.halves import Half
from tfthesis.data.images import decode
from tfthesis.data.readers.cityscapes import CLASSES as STREET
from tfthesis.data.readers.cmp_facades import CLASSES as FACADE
from tfthesis.data.segmented_images import IGNORED, SegmentedImages
from tfthesis.errors import UserError


def write(path, size=(8, 6), colour=(10, 200, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, colour).convert(mode).save(path)
    return path


def test_unpaired_folders(tmp_path):
    for split, counts in (("train", (5, 3)), ("test", (2, 1))):
        for side, count in zip("AB", counts, strict=True):
            for number in range(count):
                write(tmp_path / f"{split}{side}" / f"{number}.png")
    data = open_domains("unpaired_folders", tmp_path, first="horse", second="zebra", val_images=1)
    assert data.counts() == {
        "horse": {"train": 4, "val": 1, "test": 2},
        "zebra": {"train": 2, "val": 1, "test": 1},
    }
    held = data.a.splits["val"].ids
    assert not set(held) & set(data.a.splits["train"].ids) and held[0].startswith("trainA/")
    again = open_domains("unpaired_folders", tmp_path, first="horse", second="zebra", val_images=1)
    assert again.fingerprint() == data.fingerprint() and again.a.splits["val"].ids == held
    write(tmp_path / "valA" / "v.png")
    write(tmp_path / "valB" / "v.png")
    assert open_domains("unpaired_folders", tmp_path).counts()["b"] == {"train": 3, "val": 1, "test": 1}
    assert open_domains("unpaired_folders", tmp_path).fingerprint() != data.fingerprint()
    for path in (tmp_path / "testB").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="testB: no images"):
        open_domains("unpaired_folders", tmp_path)
    (tmp_path / "testB").rmdir()
    with pytest.raises(UserError, match="testB is missing; expected the folders trainA, trainB"):
        open_domains("unpaired_folders", tmp_path)


def test_side_by_side(tmp_path):
    for split in ("train", "test"):
        for number in range(4):
            pixels = np.zeros((6, 10, 3), np.uint8)
            pixels[:, :5], pixels[:, 5:] = 50 + number, 150 + number
            (tmp_path / split).mkdir(exist_ok=True)
            PIL.Image.fromarray(pixels).save(tmp_path / split / f"{number}.png")
    data = open_domains("side_by_side", tmp_path, left="photo", right="map", val_images=1)
    assert data.domains == ("photo", "map")
    assert data.counts() == {word: {"train": 3, "val": 1, "test": 4} for word in ("photo", "map")}
    left, right = (side.splits["test"].images[2] for side in (data.a, data.b))
    assert left.pixels().shape == right.pixels().shape == (6, 5, 3)
    assert (left.pixels() == 52).all() and (right.pixels() == 152).all()
    assert data.a.splits["val"].ids == data.b.splits["val"].ids
    with pytest.raises(UserError, match="val_images=4 of 4 training images"):
        open_domains("side_by_side", tmp_path, val_images=4)
    with pytest.raises(UserError, match="two images of one width side by side, got 7 columns"):
        Half(write(tmp_path / "odd.png", (7, 4)), "left").pixels()
    cut = write(tmp_path / "cut.png", (64, 64))
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(UserError, match="cut.png: it does not decode, it is damaged or cut off"):
        Half(cut, "left").pixels()


@pytest.mark.parametrize("side", ["left", "right"])
def test_halves_are_read_as_whole_images_are(tmp_path, side):
    """Transparent pixels are white, and of 16 bits the high ones count."""
    values = np.random.default_rng(0).integers(0, 2**16, (6, 10), np.uint16)
    rgba = np.random.default_rng(0).integers(0, 256, (6, 10, 4), np.uint8)
    for name, image in (("deep", PIL.Image.fromarray(values)), ("alpha", PIL.Image.fromarray(rgba))):
        image.save(tmp_path / f"{name}.png")
        whole = decode(tf.constant((tmp_path / f"{name}.png").read_bytes())).numpy()
        expected = whole[:, :5] if side == "left" else whole[:, 5:]
        half = Half(tmp_path / f"{name}.png", side)
        np.testing.assert_array_equal(half.pixels(), expected, err_msg=name)
        np.testing.assert_array_equal(decode(tf.constant(half.read_bytes())), expected, err_msg=name)


def sbir_archive(folder, photos="images"):
    for split, count in (("train", 3), ("test", 2)):
        for number in range(count):
            write(folder / "shoes" / split / photos / f"{number}.jpg")
            write(folder / "shoes" / split / "sketches" / f"{number}.png", mode="RGBA")
    write(folder / "shoes" / "annotation" / "not_read.png")


def test_sbir(tmp_path):
    for place, photos in (("plain", "images"), ("above/sbir_cvpr2016", "images"), ("renamed", "photos")):
        sbir_archive(tmp_path / place, photos)
        data = open_domains("sbir", tmp_path / place.split("/")[0], val_images=1)
        assert data.domains == ("photo", "sketch")
        assert data.counts() == {word: {"train": 2, "val": 1, "test": 2} for word in data.domains}
        assert data.a.splits["val"].ids == data.b.splits["val"].ids
        photo, sketch = (side.splits["test"].images[1] for side in (data.a, data.b))
        assert (photo.parent.name, photo.name, sketch.name) == (photos, "1.jpg", "1.png")
    folder = tmp_path / "plain"
    with pytest.raises(UserError, match="Did you mean 'shoes'"):
        open_domains("sbir", folder, category="shoe")
    (folder / "shoes" / "test" / "sketches" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1 names are not both in images/ and in sketches/: \['1'\]"):
        open_domains("sbir", folder, val_images=1)


def test_sbir_of_another_layout_is_told_what_is_there(tmp_path):
    sbir_archive(tmp_path)
    with pytest.raises(UserError, match=r"chairs.train.images is missing: \S+ holds \['shoes'\]; expected shoes/ and"):
        open_domains("sbir", tmp_path, category="chairs")
    write(tmp_path / "second" / "ShoeV2_photo" / "1.png")
    write(tmp_path / "second" / "ShoeV2_sketch" / "1_1.png")
    with pytest.raises(UserError, match=r"holds \['ShoeV2_photo', 'ShoeV2_sketch'\].*read as 'unpaired_folders'"):
        open_domains("sbir", tmp_path / "second")


def test_cityscapes(tmp_path):
    for split, names in (("train", "abc"), ("val", "d")):
        for name in names:
            write(tmp_path / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png", (4, 2))
            labels = np.array([[7, 8, 33, 0], [26, 23, 6, 255]], np.uint8)
            folder = tmp_path / "gtFine" / split / "ulm"
            folder.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(labels).save(folder / f"{name}_gtFine_labelIds.png")
    data = open_domains("cityscapes", tmp_path, val_images=1)
    assert isinstance(data, SegmentedImages) and data.counts() == {"train": 2, "val": 1, "test": 1}
    assert len(data.classes) == 19 and data.classes == tuple(STREET)
    expected = [[0, 1, 18, IGNORED], [13, 10, IGNORED, IGNORED]]
    np.testing.assert_array_equal(data.splits["test"].maps[0].read(), expected)
    PIL.Image.fromarray(np.full((2, 4), 5, np.uint8)).save(folder / "d_gtFine_labelTrainIds.png")
    again = open_domains("cityscapes", tmp_path, val_images=1)
    np.testing.assert_array_equal(again.splits["test"].maps[0].read(), np.full((2, 4), 5))
    with pytest.raises(UserError, match="val_images=3 of 3"):
        open_domains("cityscapes", tmp_path, val_images=3)
    (tmp_path / "gtFine" / "train" / "ulm" / "b_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"b_leftImg8bit.png has no labels: no file"):
        open_domains("cityscapes", tmp_path)


def test_facades_have_the_nearest_colour(tmp_path):
    labels = np.arange(12).reshape(3, 4)
    colours = np.array(list(FACADE.values()), np.int32)
    noise = np.random.default_rng(0).integers(-20, 21, (3, 4, 3))
    pair = np.concatenate([np.zeros((3, 4, 3)), np.clip(colours[labels] + noise, 0, 255)], axis=1).astype(np.uint8)
    for split in ("train", "val", "test"):
        (tmp_path / "facades" / split).mkdir(parents=True)
        PIL.Image.fromarray(pair).save(tmp_path / "facades" / split / "1.png")
    data = open_domains("cmp_facades", tmp_path)
    np.testing.assert_array_equal(data.splits["train"].maps[0].read(), labels)
    assert not data.splits["train"].images[0].pixels().any()
    assert len(data.fingerprint()) == 64


def test_real_facades(real_data):
    data = open_domains("cmp_facades", real_data / "facades")
    assert data.counts() == {"train": 100, "val": 30, "test": 30}
    maps = [data.splits["test"].maps[row].read() for row in range(6)]
    counts = np.bincount(np.concatenate([labels.ravel() for labels in maps]), minlength=12) / (6 * 256 * 256)
    # Walls, then background, then windows, as in the database; colours are hit, not merely neared.
    assert data.classes[int(counts.argmax())] == "facade" and counts[:3].sum() > 0.6
    half = data.splits["test"].maps[0].half.pixels().astype(int)
    nearest = np.array(list(FACADE.values()))[maps[0]]
    assert np.median(np.abs(half - nearest).max(axis=-1)) <= 6


def test_contradictions():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    good = {split: (Domain([f"{split}1", f"{split}2"], images),) * 2 for split in ("train", "val", "test")}
    assert two_domains("mine", ("x", "y"), good, {}).counts()["x"]["train"] == 2
    with pytest.raises(UserError, match=r"two different words for the domains, got \['x', 'x'\]"):
        two_domains("mine", ("x", "x"), good, {})
    with pytest.raises(UserError, match=r"two different words for the domains, got \['x', 'my photos'\]"):
        two_domains("mine", ("x", "my photos"), good, {})
    with pytest.raises(UserError, match="split 'val' has no images"):
        two_domains("mine", ("x", "y"), {**good, "val": (good["val"][0], Domain([], images[:0]))}, {})
    with pytest.raises(UserError, match="val_images=0 of 2"):
        held_out(good["train"][0], 0, 0, "mine")
    assert {"unpaired_folders", "side_by_side", "sbir", "scenes", "cmp_facades", "cityscapes"} <= set(domain_names())
    with pytest.raises(UserError, match="Did you mean 'side_by_side'"):
        open_domains("side_by_sides")
    assert json.dumps(domain_names())
