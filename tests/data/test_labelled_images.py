"""Readers of classification datasets, and what a network is given of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.classification.data import Crops, ImageClassData
from tfthesis.classification.evaluation import predict
from tfthesis.classification.served import class_gallery
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit, labelled_names, open_labelled
from tfthesis.errors import UserError


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def write_binary(folder, name, images, labels, files):
    """Write images in the published binary layout, spread over `files`."""
    parts = np.array_split(np.arange(len(images)), len(files))
    for file, rows in zip(files, parts, strict=True):
        planes = images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1)
        heads = labels[rows, None] if name == "cifar10" else np.stack([labels[rows] // 2, labels[rows]], axis=1)
        np.concatenate([heads.astype(np.uint8), planes], axis=1).tofile(folder / file)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_binary_files(tmp_path, name):
    count = 10
    labels = np.arange(40) % count
    train = [f"data_batch_{n}.bin" for n in range(1, 6)] if name == "cifar10" else ["train.bin"]
    test = ["test_batch.bin"] if name == "cifar10" else ["test.bin"]
    write_binary(tmp_path, name, pixels(40), labels, train)
    write_binary(tmp_path, name, pixels(10, 1), labels[:10], test)
    names = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
    (tmp_path / names).write_text("".join(f"class {n}\n" for n in range(count)) + "\n")
    data = open_labelled(name, tmp_path, val_per_class=1)
    assert data.counts() == {"train": 30, "val": 10, "test": 10}
    assert data.classes[3] == "class 3"
    np.testing.assert_array_equal(data.split("train").images, pixels(40)[:30])
    np.testing.assert_array_equal(data.split("val").images, pixels(40)[30:])
    np.testing.assert_array_equal(data.split("test").labels, labels[:10])
    few = open_labelled(name, tmp_path, train_per_class=2, val_per_class=1, test_per_class=1)
    assert few.counts() == {"train": 10, "val": 10, "test": 10}
    assert few.fingerprint() != data.fingerprint()
    (tmp_path / test[0]).write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="expected records of"):
        open_labelled(name, tmp_path)
    (tmp_path / names).unlink()
    with pytest.raises(UserError, match="is missing"):
        open_labelled(name, tmp_path)


def test_npz_files_of_pixels_and_of_jpeg(tmp_path):
    smooth = np.kron(pixels(20)[:, ::8, ::8], np.ones((1, 8, 8, 1), np.uint8))
    labels = np.arange(20) % 10
    np.savez(tmp_path / "cifar10_train.npz", images=smooth, labels=labels, class_names=np.array(list("abcdefghij")))
    files = [tf.io.encode_jpeg(image, quality=98).numpy() for image in smooth[:10]]
    ends = np.cumsum([0, *map(len, files)])
    joined = np.frombuffer(b"".join(files), np.uint8)
    np.savez(tmp_path / "cifar10_test.npz", jpeg=joined, offsets=ends, labels=labels[:10])
    data = open_labelled("cifar10", tmp_path, val_per_class=1)
    assert data.classes == tuple("abcdefghij")
    np.testing.assert_array_equal(data.split("train").images, smooth[:10])
    assert np.abs(data.split("test").images.astype(int) - smooth[:10]).mean() < 12
    np.savez(tmp_path / "cifar10_test.npz", images=smooth[:, :16], labels=labels)
    with pytest.raises(UserError, match="expected uint8 images of 32 x 32 x 3"):
        open_labelled("cifar10", tmp_path)
    np.savez(tmp_path / "cifar10_test.npz", pictures=smooth)
    with pytest.raises(UserError, match="labels"):
        open_labelled("cifar10", tmp_path)


def test_real_cifar10(real_data):
    data = open_labelled("cifar10", real_data / "CIFAR10", train_per_class=20, val_per_class=5, test_per_class=10)
    assert data.counts() == {"train": 150, "val": 50, "test": 100}
    assert data.classes[0] == "airplane"
    assert data.split("train").images.std() > 30


@pytest.fixture
def folders(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for key in ("n01", "n02"):
            (tmp_path / split / key).mkdir(parents=True)
            for number in range(count):
                image = tf.io.encode_png(pixels(1, number)[0]).numpy()
                (tmp_path / split / key / f"{number}.png").write_bytes(image)
    return tmp_path


def test_folders(folders):
    (folders / "classes.json").write_text(json.dumps({"n01": "tench", "n02": "goldfish"}))
    data = open_labelled("image_folders", folders, val_per_class=1)
    assert data.classes == ("tench", "goldfish")
    assert data.counts() == {"train": 4, "test": 4, "val": 2}
    assert data.split("val").ids == ["train/n01/2.png", "train/n02/2.png"]


def test_another_picture_in_a_file_is_another_dataset(folders):
    before = open_labelled("image_folders", folders, val_per_class=1).fingerprint()
    file = folders / "train/n01/0.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert open_labelled("image_folders", folders, val_per_class=1).fingerprint() != before


def open_folders(folder):
    return open_labelled("image_folders", folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [path.unlink() for path in (folder / "test/n02").iterdir()], "no images"),
        (lambda folder: (folder / "test/n02").rename(folder / "n02"), "folder of this class is missing"),
        (lambda folder: (folder / "test/n03").mkdir(), "'n03'.*not among"),
        (lambda folder: (folder / "test").rename(folder / "else"), "test is missing"),
        (lambda folder: (folder / "classes.json").write_text('{"n01": "a"}'), "a name for each class"),
        (lambda folder: (folder / "classes.json").write_text('{"n01": "a", "n02": "a"}'), "share a name"),
    ],
)
def test_folders_that_do_not_fit(folders, spoil, message):
    spoil(folders)
    with pytest.raises(UserError, match=message):
        open_labelled("image_folders", folders, val_per_class=1)


def test_unknown_names_and_options(tmp_path):
    assert {"cifar10", "cifar100", "image_folders", "scenes"} <= set(labelled_names())
    with pytest.raises(UserError, match="cifar10"):
        open_labelled("cifar1", tmp_path)
    with pytest.raises(UserError, match="val_per_class"):
        open_labelled("cifar10", tmp_path, val_per_clas=1)
    with pytest.raises(UserError, match="cannot be held out"):
        open_labelled_of(LabelledSplit(["a"], np.array([0]), pixels(1)))


def open_labelled_of(split):
    from tfthesis.data.labelled_images import held_out

    return held_out(split, 1, ["only"])


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        (["a", "b"], [0, 2], "has the label 2, expected 0 to 1"),
        (["a", "a"], [0, 1], "twice"),
        (["a"], [0, 1], "as many"),
    ],
)
def test_labels_and_names_are_checked(ids, labels, message):
    with pytest.raises(UserError, match=message):
        LabelledImages("x", {"train": LabelledSplit(ids, np.array(labels), pixels(2))}, ("p", "q"))


def in_memory(**crops):
    split = LabelledSplit([str(n) for n in range(6)], np.arange(6) % 2, pixels(6))
    return ImageClassData(
        LabelledImages("x", {"train": split, "test": LabelledSplit(["t"], np.array([0]), pixels(1, 9))}, ("p", "q")),
        Crops(**{"size": 32, "resize": 32, **crops}),
    )


def images_of(data, rows, key=(0, 0), split="train"):
    return np.concatenate([inputs["image"].numpy() for inputs, _ in data.batches(split, rows, key)])


def test_whole_images_are_what_was_read():
    data = in_memory()
    rows = [np.array([4, 1]), np.array([], int), np.array([5])]
    elements = list(data.batches("train", rows, (0, 0)))
    assert [inputs["image"].shape for inputs, _ in elements] == [(2, 32, 32, 3), (0, 32, 32, 3), (1, 32, 32, 3)]
    np.testing.assert_array_equal(images_of(data, rows), pixels(6)[[4, 1, 5]])
    np.testing.assert_array_equal(elements[0][1]["label"], [0, 1])


def test_crops_depend_on_seed_epoch_and_row_alone():
    data = in_memory(pad=4, random=True, mirror=True)
    rows = np.arange(6)
    first = images_of(data, [rows])
    np.testing.assert_array_equal(first, images_of(data, [rows[:2], rows[2:]]))
    assert np.abs(first - images_of(data, [rows], (0, 1))).max() > 0
    assert np.abs(first - images_of(data, [rows], (1, 0))).max() > 0
    padded = np.pad(pixels(6), ((0, 0), (4, 4), (4, 4), (0, 0)))
    for image, source in zip(first, padded, strict=True):
        found = [
            np.array_equal(image, crop) or np.array_equal(image, crop[:, ::-1])
            for top in range(9)
            for left in range(9)
            for crop in [source[top : top + 32, left : left + 32]]
        ]
        assert sum(found) == 1
    # Some are mirrored and some are not.
    plain = images_of(in_memory(pad=4, random=True), [rows])
    mirrored = [np.array_equal(image, other[:, ::-1]) for image, other in zip(first, plain, strict=True)]
    assert 0 < sum(mirrored) < 6
    # What is measured is neither cropped nor mirrored by lot, training images included.
    np.testing.assert_array_equal(images_of(data, [rows], None), pixels(6))
    np.testing.assert_array_equal(images_of(data, [np.array([0])], split="test"), pixels(1, 9))


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match="have 32 x 32 pixels, the network takes 24 x 24"):
        in_memory(resize=24, size=24)
    with pytest.raises(UserError, match="do not fit"):
        in_memory(size=48, pad=4)


class Brightness:
    """Stands for a network."""

    def __call__(self, inputs, training):
        mean = tf.reduce_mean(inputs["image"], axis=[1, 2])
        return {"logits": mean[:, :2], "feature": mean}


def test_files_that_do_not_decode_are_left_out_and_listed(folders):
    whole = (folders / "train/n01/0.png").read_bytes()
    (folders / "train/n01/1.png").write_bytes(whole[: len(whole) // 2])
    (folders / "train/n02/0.png").write_bytes(b"no image")
    (folders / "val").symlink_to(folders / "test")
    data = ImageClassData(open_folders(folders), Crops(size=28, resize=32))
    assert data.size("train") == 5
    ((inputs, targets),) = data.batches("train", [np.arange(5)], (0, 0))
    assert inputs["image"].shape == (4, 28, 28, 3)
    assert targets["row"].numpy().tolist() == [0, 2, 3, 4]
    skipped = data.describe()["skipped"]
    assert skipped["count"] == 2
    model = Brightness()
    found = predict(model, data, "train")
    assert found.rows.tolist() == [0, 2, 3, 4]
    (gallery,) = class_gallery(model, data, "train").values()
    assert gallery.ids == [data.split("train").ids[row] for row in found.rows]
    assert gallery.payload == ["n01", "n01", "n02", "n02"]
    assert len(gallery.vectors) == 4
    assert any("n01/1.png: it does not decode" in line for line in skipped["items"])
    assert any("n02/0.png" in line for line in skipped["items"])
