"""Images in TFRecord files: what is read, in which order, and what is refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.classification.data import Crops, ImageClassData
from tfthesis.data.crc32c import crc32c, masked_crc32c
from tfthesis.data.image_header import MAX_BYTES
from tfthesis.data.images import DamagedImageError, check_source
from tfthesis.data.labelled_images import open_labelled
from tfthesis.data.records import walk
from tfthesis.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def png(number: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3)).astype(np.uint8)
    return tf.io.encode_png(pixels).numpy()


def feature(value) -> tf.train.Feature:
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def example(**features) -> bytes:
    """Return an Example; names have `__` for `/`."""
    values = {name.replace("__", "/"): feature(value) for name, value in features.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()


def record(number: int, label: int, **changes) -> bytes:
    """Return an Example as ImageNet's conversion writes it."""
    features = {
        "image__height": 32,
        "image__object__bbox__xmin": 0.25,
        "image__class__label": label,
        "image__class__synset": f"n{label:08d}".encode(),
        "image__class__text": b"crane" if label in (1, 3) else b"tench, Tinca tinca",
        "image__filename": f"n{label:08d}_{number}.PNG".encode(),
        "image__encoded": png(number),
    }
    return example(**{**features, **changes})


def write(folder: Path, prefix: str, payloads: list[bytes], shards: int = 2, ending: str = "") -> list[Path]:
    paths = [folder / f"{prefix}-{number:05d}-of-{shards:05d}{ending}" for number in range(shards)]
    for number, path in enumerate(paths):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for payload in payloads[number::shards]:
                writer.write(payload)
    return paths


@pytest.fixture
def folder(tmp_path):
    """12 training and 6 validation records of the classes 1, 2 and 3, in two files each."""
    write(tmp_path, "train", [record(number, number % 3 + 1) for number in range(12)])
    write(tmp_path, "validation", [record(100 + number, number % 3 + 1) for number in range(6)])
    return tmp_path


def opened(folder, **options):
    return open_labelled("image_records", folder, **{"val_per_class": 1, **options})


@pytest.mark.parametrize("length", [0, 1, 9, 511, 512, 513, 1024, 5000, 70_001])
def test_checksum_is_the_one_that_tensorflow_writes(tmp_path, length):
    assert crc32c(b"123456789") == 0xE3069283
    payload = np.random.default_rng(length).bytes(length)
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        writer.write(payload)
    data = (tmp_path / "one").read_bytes()
    assert masked_crc32c(data[:8]) == struct.unpack("<I", data[8:12])[0]
    assert masked_crc32c(payload) == struct.unpack("<I", data[-4:])[0]


def test_images_labels_and_names(folder):
    data = opened(folder)
    assert data.counts() == {"train": 9, "test": 6, "val": 3}
    assert data.classes == ("crane (n00000001)", "tench, Tinca tinca", "crane (n00000003)")
    # Records are in the order of the files, here the even ones and then the odd ones.
    numbers = [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
    train, val = data.split("train"), data.split("val")
    places = {f"train/n{number % 3 + 1:08d}_{number}.PNG": number for number in numbers}
    assert sorted(train.ids + val.ids) == sorted(places)
    assert val.ids == ["train/n00000002_7.PNG", "train/n00000001_9.PNG", "train/n00000003_11.PNG"]
    for split in (train, val):
        for row in (len(split) - 1, 0):
            number = places[split.ids[row]]
            assert split.images[row].read_bytes() == png(number)
            assert split.labels[row] == number % 3
    assert [image.read_bytes() for image in data.split("test").images] == [png(100 + n) for n in (0, 2, 4, 1, 3, 5)]


def test_random_access_gives_the_pixels_of_each_row(folder):
    data = ImageClassData(opened(folder), Crops(32, 32))
    rows = np.array([5, 0, 7])
    ((inputs, targets),) = data.batches("train", [rows], None)
    assert targets["row"].numpy().tolist() == [5, 0, 7]
    for pixels, name in zip(inputs["image"].numpy(), data.item_ids("train", rows), strict=True):
        number = int(name.split("_")[1].removesuffix(".PNG"))
        np.testing.assert_array_equal(pixels, tf.io.decode_png(png(number)))


def test_what_does_not_fit_a_window_is_found_too(tmp_path):
    """Images that are longer than what is read at once, with the label behind them or before them."""
    large = png(0, 64)
    assert len(large) > 2 * 4096
    before = example(image__encoded=large) + example(image__class__label=0, a=b"x" * 9000)
    after = example(image__class__label=1) + example(image__encoded=large, zz=b"y")
    write(tmp_path, "train", [before, after, before, after])
    write(tmp_path, "validation", [after], shards=1)
    data = opened(tmp_path, first_label=0)
    assert data.classes == ("0", "1")
    assert data.split("train").ids == ["train-00000-of-00002/0", "train-00001-of-00002/0"]
    assert [image.read_bytes() == large for image in data.split("train").images] == [True, True]
    assert data.split("train").labels.tolist() == [0, 1]


def test_another_number_of_the_first_class_and_three_sets_of_files(tmp_path):
    for prefix in ("learn", "choose", "judge"):
        write(tmp_path, prefix, [record(n, n % 2, image__filename=b"same.png") for n in range(4)], 1, ".tfrecord")
    names = {"train": "learn", "val": "choose", "test": "judge"}
    data = opened(tmp_path, **names, first_label=0, val_per_class=0)
    assert data.counts() == {"train": 4, "val": 4, "test": 4}
    # A file name that comes again gives way to the place of the record.
    assert data.split("val").ids == [
        "val/same.png",
        *(f"choose-00000-of-00001.tfrecord/{number}" for number in (1, 2, 3)),
    ]
    with pytest.raises(UserError, match=r"label 0, expected 1 to 1.*first_label=N"):
        opened(tmp_path, **names, val_per_class=0)


def test_fingerprint_follows_the_records(folder):
    before = opened(folder).fingerprint()
    assert opened(folder).fingerprint() == before
    assert opened(folder, val_per_class=2).fingerprint() != before
    payloads = [record(number, number % 3 + 1) for number in range(12)]
    write(folder, "train", [record(77, 1, image__filename=b"n00000001_0.PNG"), *payloads[1:]])
    assert opened(folder).fingerprint() != before


def test_a_record_costs_forty_bytes(folder):
    split = opened(folder).split("train")
    assert split.images.places.nbytes == 40 * len(split)
    kept = split.take(np.array([3, 1]))
    assert kept.images.places.nbytes == 80 and kept.images[1] == split.images[1]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_damaged_image_is_left_out_of_its_batch_and_listed(folder):
    image = opened(folder).split("test").images[1]
    flip(image.path, image.image + image.size // 2)
    dataset = opened(folder)
    with pytest.raises(DamagedImageError, match="checksum does not fit"):
        dataset.split("test").images[1].read_bytes()
    data = ImageClassData(dataset, Crops(32, 32))
    ((inputs, targets),) = data.batches("test", [np.arange(6)], None)
    assert targets["row"].numpy().tolist() == [0, 2, 3, 4, 5] and len(inputs["image"]) == 5
    (line,) = data.describe()["skipped"]["items"]
    assert "n00000003_102.PNG" in line and "damaged" in line


def test_record_whose_image_is_no_image_is_skipped_and_listed(folder):
    records = [record(number, number % 3 + 1) for number in range(12)]
    records[4] = record(4, 2, image__encoded=b"no image")
    write(folder, "train", records)
    data = ImageClassData(opened(folder), Crops(32, 32))
    assert data.size("train") + data.size("val") == 11
    (line,) = data.describe()["skipped"]["items"]
    assert "n00000002_4.PNG" in line and "expected JPEG, PNG, GIF or BMP" in line


def test_records_without_the_features_are_listed(folder):
    records = [record(number, number % 3 + 1) for number in range(12)]
    records[2] = record(2, 3, image__class__label=None)
    records[4] = record(4, 2, image__encoded=None)
    records[6] = record(6, 1, image__class__label=b"1")
    records[8] = b"\xff\xff\xff"
    write(folder, "train", records)
    data = opened(folder)
    assert data.counts()["train"] + data.counts()["val"] == 8
    assert len(data.skipped) == 4
    assert all(f"train-00000-of-00002/{number}:" in line for number, line in enumerate(data.skipped, 1))
    assert "got features image/class/synset, image/class/text, image/encoded" in data.skipped[0]
    assert "no tf.train.Example" in data.skipped[3]


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def compress(path: Path) -> None:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        writer.write(record(0, 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "train-00001-of-00002").unlink(), "missing: train-00001-of-00002"),
        (lambda f: (f / "train-00002-of-00003").touch(), r"of one set.*-of-00002.*-of-00003"),
        (lambda f: (f / "train-00007-of-00002").touch(), "got 3; missing: none"),
        (lambda f: (f / "train-00000-of-00002.copy").touch(), "of one set"),
        (lambda f: [path.unlink() for path in f.glob("validation*")], "no files validation-00000-of-"),
        (
            lambda f: cut(f / "train-00001-of-00002", 1),
            r"train-00001-of-00002: it ends inside the record .* at byte \d",
        ),
        (lambda f: cut(f / "train-00001-of-00002", 3000), "it is cut off"),
        (lambda f: (f / "train-00001-of-00002").write_bytes(b"12345"), "record that begins at byte 0"),
        (lambda f: flip(f / "train-00001-of-00002", 0), "no TFRecord at byte 0: it is damaged"),
        (lambda f: compress(f / "train-00001-of-00002"), "it is compressed, unpack it"),
        (lambda f: write(f, "train", [b""] * 4), r"no labelled image.*got features none"),
        (lambda f: write(f, "train", []), "the files are empty"),
        (lambda f: write(f, "train", [record(n, n % 2 + 1) for n in range(6)]), "label 3, expected 1 to 2"),
        (lambda f: write(f, "train", [record(n, n % 3) for n in range(6)]), "label 0, expected 1 to 2"),
        (lambda f: write(f, "train", [record(n, 3 * (n % 2) + 1) for n in range(6)]), "got 2 labels and no image of 2"),
        (lambda f: write(f, "train", [record(n, 10**15 * (n % 2) + 1) for n in range(6)]), "no image of 2"),
        (lambda f: write(f, "train", [record(n, -1) for n in range(6)]), "has the label -1"),
    ],
)
def test_files_that_do_not_fit(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        opened(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_per_class": 0}, "weights are selected by validation images"),
        ({"val": "validation"}, "got val='validation' and val_per_class=1"),
        ({"test": "train"}, "other files for each split"),
        ({"val_per_class": 4}, "cannot be held out"),
        ({"first_lable": 0}, "Did you mean 'first_label'"),
    ],
)
def test_options_that_do_not_fit(folder, options, message):
    with pytest.raises(UserError, match=message):
        opened(folder, **options)


def test_one_class_is_none(tmp_path):
    for prefix in ("train", "validation"):
        write(tmp_path, prefix, [record(n, 1) for n in range(4)])
    with pytest.raises(UserError, match="two classes or more"):
        opened(tmp_path)


def test_headers_are_checked_by_the_first_bytes(folder, tmp_path):
    image = opened(folder).split("test").images[0]
    check_source(image)
    # The checksum is not asked: a flipped byte behind the header does not matter here.
    flip(image.path, image.image + image.size - 1)
    check_source(image)
    flip(image.path, image.image)
    with pytest.raises(UserError, match="checksum"):
        check_source(image)
    comments = b"".join(b"\xff\xfe" + struct.pack(">H", 4002) + bytes(4000) for _ in range(2))
    jpeg = tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy()
    (tmp_path / "long.jpg").write_bytes(jpeg[:2] + comments + jpeg[2:])
    check_source(tmp_path / "long.jpg")
    (tmp_path / "huge.jpg").write_bytes(jpeg)
    os.truncate(tmp_path / "huge.jpg", MAX_BYTES + 1)
    with pytest.raises(UserError, match="expected at most"):
        check_source(tmp_path / "huge.jpg")
    for name, data in {"void.png": b"", "cut.jpg": (jpeg[:2] + comments)[:5000], "text.png": b"text"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            check_source(tmp_path / name)
    with pytest.raises(UserError, match=r"gone\.png"):
        check_source(tmp_path / "gone.png")


def test_walking_ends_with_its_file(folder):
    path = folder / "train-00000-of-00002"
    assert len(list(walk(path))) == 6
    with pytest.raises(UserError, match="No such file"):
        list(walk(folder / "gone"))


def test_cfn_trains_on_records(folder, tmp_path):
    """From the command line, on images of any size."""
    command = [sys.executable, "-m", "training.run", "--method", "cfn", "--preset", "tiny", "--data", "image_records"]
    options = ["--set", "reader=val_per_class=1", "--set", "batch_size=3", "--data-dir", folder]
    done = subprocess.run(
        [*command, *options, "--run-dir", tmp_path / "run"], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/data.json").read_text())["counts"] == {"train": 9, "test": 6, "val": 3}
    assert "error" in json.loads((tmp_path / "run/evaluation.json").read_text())["scalars"]
    assert (
        "In one panel each: fusion weight 1, 2, 3; fusion spread 1, 2, 3." in (tmp_path / "run/report.html").read_text()
    )
