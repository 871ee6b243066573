"""Readers of the datasets that features are transferred to: classes with published or drawn splits, and groups."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.io import savemat

from tfthesis.data.grouped_images import GroupedImages, grouped_names, open_grouped
from tfthesis.data.image_files import drawn_by_lot, grouped_files
from tfthesis.data.images import decode, read_image
from tfthesis.data.labelled_images import labelled_names, open_labelled
from tfthesis.errors import UserError


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    path.write_bytes(tf.io.encode_jpeg(pixels).numpy())


def label_names(split, classes):
    return [classes[label] for label in split.labels]


# Folders without a split.


@pytest.fixture
def scenes(tmp_path):
    for number in range(15):
        for image in range(4 + number % 2):
            write_image(tmp_path / f"{number:02d}" / f"image_{image:04d}.jpg", image)
    return tmp_path


def test_scene15_draws_training_images_of_each_class(scenes):
    data = open_labelled("scene15", scenes, train_per_class=3)
    assert data.counts() == {"train": 45, "test": 8 * 1 + 7 * 2}
    assert np.bincount(data.split("train").labels).tolist() == [3] * 15
    assert np.bincount(data.split("test").labels).tolist() == [1, 2] * 7 + [1]
    assert all(
        own.startswith(name)
        for own, name in zip(data.split("test").ids, label_names(data.split("test"), data.classes), strict=True)
    )
    with pytest.raises(UserError, match="has 4 images, 100 for training leave none"):
        open_labelled("scene15", scenes)
    (scenes / "00" / "image_0000.jpg").rename(scenes / "image_0000.jpg")
    with pytest.raises(UserError, match="image_0000.jpg: it lies in no folder of a class"):
        open_labelled("scene15", scenes, train_per_class=3)


def test_draws_depend_on_the_seed_alone(scenes):
    first, again, other = (open_labelled("scene15", scenes, train_per_class=2, seed=seed) for seed in (0, 0, 1))
    assert first.split("train").ids == again.split("train").ids
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.split("train").ids != other.split("train").ids
    for split in ("train", "test"):
        assert not set(first.split(split).ids) & set(first.split("test" if split == "train" else "train").ids)
    # Drawn, not the first ones: with four or five images a class the first two are rarely chosen fifteen times.
    assert any("0003" in own for own in first.split("train").ids)


def test_a_lot_is_fixed_for_good():
    """Other versions of numpy or Python have to draw the same images."""
    assert drawn_by_lot(["a", "b", "c", "d", "e"], 0) == [4, 1, 0, 2, 3]
    assert drawn_by_lot(["a", "b", "c", "d", "e"], 1) == [2, 0, 1, 4, 3]


def test_validation_images_come_from_those_for_training(scenes):
    with_val = open_labelled("scene15", scenes, train_per_class=3, val_per_class=1)
    without = open_labelled("scene15", scenes, train_per_class=3)
    assert with_val.counts()["val"] == 15
    joined = {*with_val.split("train").ids, *with_val.split("val").ids}
    assert joined == set(without.split("train").ids)
    assert with_val.split("test").ids == without.split("test").ids
    with pytest.raises(UserError, match="val_per_class: expected 0 or more"):
        open_labelled("scene15", scenes, train_per_class=3, val_per_class=-1)


def test_another_number_of_folders_is_no_scene15(scenes):
    write_image(scenes / "15" / "a.jpg")
    with pytest.raises(UserError, match="expected 15 folders of images, got 16"):
        open_labelled("scene15", scenes, train_per_class=1)


def test_class_folders_and_patterns(tmp_path):
    for name in ("obj1__0", "obj1__1", "obj2__0", "obj2__1"):
        write_image(tmp_path / f"{name}.png")
    data = open_labelled("class_folders", tmp_path, train_per_class=1, pattern="(obj[0-9]+)__")
    assert data.classes == ("obj1", "obj2") and data.counts() == {"train": 2, "test": 2}
    with pytest.raises(UserError, match="train_per_class: expected a number from 1, got None"):
        open_labelled("class_folders", tmp_path, pattern="(obj[0-9]+)__")
    with pytest.raises(UserError, match="has 1 class, expected two or more"):
        open_labelled("class_folders", tmp_path, train_per_class=1, pattern="(obj)")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("obj[0-9]+", "expected one group in parentheses"),
        ("(obj", "is no regular expression"),
        ("(obj2)", r"obj1__0.png: pattern '\(obj2\)' finds no name"),
        ("", "lies in no folder of a class"),
    ],
)
def test_patterns_that_find_no_group(tmp_path, pattern, message):
    for name in ("obj1__0", "obj2__0"):
        write_image(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=message):
        grouped_files(tmp_path, pattern)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "README").write_text("nothing")
    with pytest.raises(UserError, match="no images; they end in .jpg"):
        grouped_files(tmp_path)


# Indoor-67.


@pytest.fixture
def indoor(tmp_path):
    lists = {
        "TrainImages.txt": ["kitchen/a.jpg", "bar/b.jpg", "bar/c.jpg"],
        "TestImages.txt": ["bar/d.jpg", "kitchen/e.jpg"],
    }
    for file, paths in lists.items():
        (tmp_path / file).write_text("\n".join(paths) + "\n")
        for path in paths:
            write_image(tmp_path / "Images" / path)
    return tmp_path


def test_indoor67_follows_its_lists(indoor):
    data = open_labelled("indoor67", indoor)
    assert data.classes == ("bar", "kitchen")
    assert data.split("train").ids == ["kitchen/a.jpg", "bar/b.jpg", "bar/c.jpg"]
    assert data.split("train").labels.tolist() == [1, 0, 0]
    assert label_names(data.split("test"), data.classes) == ["bar", "kitchen"]
    read_image(data.split("test").images[0])
    (indoor / "Images").rename(indoor / "moved")
    for folder in (indoor / "moved").iterdir():
        folder.rename(indoor / folder.name)
    read_image(open_labelled("indoor67", indoor).split("train").images[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [("a.jpg", "expected lines such as"), ("bar/../a.jpg", "expected lines such as"), ("", "it names no image")],
)
def test_indoor67_lists_that_do_not_fit(indoor, text, message):
    (indoor / "TestImages.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        open_labelled("indoor67", indoor)
    (indoor / "TestImages.txt").unlink()
    with pytest.raises(UserError, match="TestImages.txt is missing"):
        open_labelled("indoor67", indoor)


# Flowers.


@pytest.fixture
def flowers(tmp_path):
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[3, 1, 2, 1, 3, 2]], np.uint8)})
    sets = {"trnid": [[2, 3]], "valid": [[1]], "tstid": [[4, 5, 6]]}
    savemat(tmp_path / "setid.mat", {name: np.array(numbers, np.uint16) for name, numbers in sets.items()})
    for number in range(1, 7):
        write_image(tmp_path / "jpg" / f"image_{number:05d}.jpg")
    return tmp_path


def test_flowers_keep_the_published_splits(flowers):
    data = open_labelled("flowers102", flowers)
    assert data.classes == ("001", "002", "003")
    assert data.split("train").ids == ["image_00002", "image_00003"]
    assert data.split("train").labels.tolist() == [0, 1]
    assert data.split("val").labels.tolist() == [2]
    assert label_names(data.split("test"), data.classes) == ["001", "003", "002"]
    assert data.split("test").images[0] == flowers / "jpg" / "image_00004.jpg"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: savemat(folder / "setid.mat", {"trnid": [[7]], "valid": [[1]], "tstid": [[2]]}),
            "names image 7",
        ),
        (lambda folder: savemat(folder / "setid.mat", {"trnid": [[1]]}), "expected the arrays trnid, valid, tstid"),
        (lambda folder: savemat(folder / "imagelabels.mat", {"labels": [[0, 1]]}), "expected classes from 1"),
        (lambda folder: (folder / "setid.mat").write_text("text"), "cannot be read as a MATLAB file"),
        (lambda folder: (folder / "setid.mat").write_bytes(b""), "cannot be read as a MATLAB file"),
        (lambda folder: (folder / "imagelabels.mat").unlink(), "imagelabels.mat is missing"),
    ],
)
def test_flower_files_that_do_not_fit(flowers, spoil, message):
    spoil(flowers)
    with pytest.raises(UserError, match=message):
        open_labelled("flowers102", flowers)


# Birds.


BIRDS = {
    "images.txt": "1 002.B/x.jpg\n2 001.A/y.jpg\n3 001.A/z.jpg\n",
    "image_class_labels.txt": "1 2\n2 1\n3 1\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
    "classes.txt": "1 001.A\n2 002.B\n3 003.C\n",
}


@pytest.fixture
def birds(tmp_path):
    for file, text in BIRDS.items():
        (tmp_path / file).write_text(text)
    return tmp_path


def test_birds_keep_the_published_split(birds):
    data = open_labelled("cub200", birds)
    assert data.classes == ("001.A", "002.B")
    assert data.split("train").ids == ["002.B/x.jpg", "001.A/z.jpg"]
    assert data.split("train").labels.tolist() == [1, 0]
    assert data.split("test").ids == ["001.A/y.jpg"]
    assert data.split("test").images == [birds / "images" / "001.A" / "y.jpg"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("image_class_labels.txt", "1 2\n2 1\n", "it does not name the images of images.txt; image 3"),
        ("train_test_split.txt", "1 1\n2 0\n3 1\n4 1\n", "it does not name the images of images.txt; image 4"),
        ("train_test_split.txt", "1 1\n2 0\n3 2\n", "image 3: expected 0 or 1, got '2'"),
        ("classes.txt", "1 001.A\n", "class 2 of image_class_labels.txt is missing"),
        ("images.txt", "1 a b.jpg\n", "expected lines of a new number and one word"),
        ("images.txt", "1 a.jpg\n1 b.jpg\n", "expected lines of a new number and one word"),
    ],
)
def test_bird_files_that_do_not_fit(birds, file, text, message):
    (birds / file).write_text(text)
    with pytest.raises(UserError, match=message):
        open_labelled("cub200", birds)


def test_real_birds(real_data):
    data = open_labelled("cub200", real_data / "CUB_200_2011")
    assert data.counts() == {"train": 300, "test": 243} and len(data.classes) == 10
    for split in data.splits.values():
        assert all(
            path.parent.name == name for path, name in zip(split.images, label_names(split, data.classes), strict=True)
        )
    decode(tf.constant(read_image(data.split("test").images[-1])))


# Groups.


@pytest.fixture
def holidays(tmp_path):
    for folder, numbers in (("jpg1", (100000, 100001, 100100)), ("jpg2", (100102, 123400, 123401, 123402))):
        for number in numbers:
            write_image(tmp_path / folder / f"{number}.jpg", number)
    return tmp_path


def test_holidays(holidays):
    data = open_grouped("holidays", holidays)
    assert data.ids == ["100000", "100001", "100100", "100102", "123400", "123401", "123402"]
    assert data.groups.tolist() == [1000, 1000, 1001, 1001, 1234, 1234, 1234]
    assert [data.ids[row] for row in data.queries] == ["100000", "100100", "123400"]
    assert (data.measure, data.rule) == ("mean_ap", "trapezoid")
    assert data.counts() == {"images": 7, "groups": 3, "queries": 3}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: write_image(folder / "cover.jpg"), "cover.jpg: expected a number"),
        (lambda folder: (folder / "jpg1/100000.jpg").unlink(), "group 1000 has no query 100000.jpg"),
        (lambda folder: (folder / "jpg1/100001.jpg").unlink(), "query '100000' has no other image"),
        (lambda folder: write_image(folder / "jpg2/100001.jpg"), "occur twice: .'100001'"),
    ],
)
def test_holidays_that_do_not_fit(holidays, spoil, message):
    spoil(holidays)
    with pytest.raises(UserError, match=message):
        open_grouped("holidays", holidays)


@pytest.mark.parametrize("folder", [".", "full"])
def test_ukbench(tmp_path, folder):
    for number in range(12):
        write_image(tmp_path / folder / f"ukbench{number:05d}.jpg", number)
    data = open_grouped("ukbench", tmp_path)
    assert data.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.ids[5] == "ukbench00005.jpg" and data.queries.tolist() == list(range(12))
    assert data.measure == "ns_score"
    first = open_grouped("ukbench", tmp_path, groups=2)
    assert len(first) == 8 and first.fingerprint() != data.fingerprint()
    (tmp_path / folder / "ukbench00006.jpg").unlink()
    with pytest.raises(UserError, match="expected four images from ukbench00004 on"):
        open_grouped("ukbench", tmp_path)
    write_image(tmp_path / folder / "cover.jpg")
    with pytest.raises(UserError, match="expected a name such as ukbench00000.jpg"):
        open_grouped("ukbench", tmp_path)


def test_groups_in_folders(tmp_path):
    for path in ("s1/1.png", "s1/2.png", "s2/1.png", "s2/2.png"):
        write_image(tmp_path / path)
    data = open_grouped("image_groups", tmp_path)
    assert data.ids == ["s1/1.png", "s1/2.png", "s2/1.png", "s2/2.png"]
    assert data.groups.tolist() == [0, 0, 1, 1] and data.queries.tolist() == [0, 1, 2, 3]
    assert (data.measure, data.rule) == ("mean_ap", "step")
    before = data.fingerprint()
    write_image(tmp_path / "s1/1.png", 7)
    assert open_grouped("image_groups", tmp_path).fingerprint() != before
    (tmp_path / "s1/2.png").unlink()
    with pytest.raises(UserError, match="query 's1/1.png' has no other image"):
        open_grouped("image_groups", tmp_path)


def test_real_groups(real_data):
    faces = open_grouped("image_groups", real_data / "ORL_faces" / "att_faces")
    assert faces.counts() == {"images": 390, "groups": 39, "queries": 390}
    objects = open_grouped("image_groups", real_data / "COIL20_32" / "coil20", pattern="(obj[0-9]+)__")
    assert objects.counts() == {"images": 1000, "groups": 20, "queries": 1000}
    assert np.unique(objects.groups, return_counts=True)[1].tolist() == [50] * 20
    decode(tf.constant(read_image(faces.images[-1])))
    decode(tf.constant(read_image(objects.images[-1])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "c"]}, "as many ids as images as groups"),
        ({"ids": ["a", "a", "c", "d"]}, "occur twice"),
        ({"queries": np.array([], int)}, "there is no query"),
        ({"queries": np.array([3])}, "query 'd' has no other image"),
        ({"measure": "mean_app"}, "Did you mean 'mean_ap'"),
    ],
)
def test_parts_of_a_collection_are_checked(change, message):
    parts = {"ids": list("abcd"), "images": [b"1"] * 4, "groups": np.array([0, 0, 0, 1]), "queries": np.array([0])}
    with pytest.raises(UserError, match=message):
        GroupedImages("x", **{**parts, **change})


def test_names_and_options(tmp_path):
    assert {"class_folders", "scene15", "indoor67", "flowers102", "cub200"} <= set(labelled_names())
    assert {"holidays", "ukbench", "image_groups"} <= set(grouped_names())
    # One name says whether features are classified or searched with.
    assert not set(labelled_names()) & set(grouped_names())
    with pytest.raises(UserError, match="Did you mean 'holidays'"):
        open_grouped("holiday", tmp_path)
    with pytest.raises(UserError, match="Did you mean 'pattern'"):
        open_grouped("image_groups", tmp_path, patern="x")
    with pytest.raises(UserError, match=r"no folder .*missing; expected GROUP"):
        open_grouped("image_groups", tmp_path / "missing")
    for name in ("holidays", "ukbench", "image_groups"):
        with pytest.raises(UserError, match="give its folder"):
            open_grouped(name)
