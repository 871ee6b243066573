"""Karpathy's JSON files."""

import json

import pytest

from tfthesis.data.image_text import open_image_text
from tfthesis.errors import UserError


def record(name, split, *raw, **more):
    sentences = [{"raw": text, "tokens": text.lower().split(), "sentid": i} for i, text in enumerate(raw)]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def write(folder, records, images=None, root="images", file="dataset_flickr8k.json"):
    (folder / file).write_text(json.dumps({"images": records, "dataset": "x"}))
    for name in images or [r["filename"] for r in records]:
        path = folder / root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return folder


RECORDS = [
    record("1.jpg", "train", "A dog .", "Two dogs ."),
    record("2.jpg", "restval", "A cat ."),
    record("3.jpg", "val", "A bird ."),
    record("4.jpg", "test", "A fish ."),
]


@pytest.mark.parametrize("root", ["images", ".", "Flicker8k_Dataset"])
def test_reads_splits_and_captions(tmp_path, root):
    data = open_image_text("flickr8k", write(tmp_path, RECORDS, root=root))
    assert {split: [item.id for item in items] for split, items in data.splits.items()} == {
        "train": ["1.jpg", "2.jpg"],
        "val": ["3.jpg"],
        "test": ["4.jpg"],
    }
    first = data.items("train")[0]
    assert first.captions == ("A dog .", "Two dogs .")
    assert first.image.read_bytes() == b"picture"


def test_restval_is_an_option(tmp_path):
    data = open_image_text("flickr8k", write(tmp_path, RECORDS), restval=False)
    assert [item.id for item in data.items("train")] == ["1.jpg"]


def test_coco_names_its_folders(tmp_path):
    records = [record("1.jpg", "train", "A dog", filepath="train2014"), record("2.jpg", "val", "A", filepath="val2014")]
    images = ["train2014/1.jpg", "val2014/2.jpg"]
    data = open_image_text("coco_karpathy", write(tmp_path, records, images, ".", "dataset_coco.json"))
    assert data.items("val")[0].image == tmp_path / "val2014" / "2.jpg"


def test_missing_and_empty_images_are_skipped_and_listed(tmp_path):
    write(tmp_path, RECORDS)
    (tmp_path / "images" / "1.jpg").unlink()
    (tmp_path / "images" / "3.jpg").write_bytes(b"")
    data = open_image_text("flickr8k", tmp_path)
    assert data.counts() == {"train": {"images": 1, "captions": 1}, "test": {"images": 1, "captions": 1}}
    assert data.skipped == ["train: image 1.jpg: No such file or directory", "val: image 3.jpg: empty file"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record("5.jpg", "tset", "A"), r"dataset_flickr8k\.json: image 5\.jpg: unknown split 'tset'"),
        (record("5.jpg", "test", "A", " . "), r"image 5\.jpg: sentence 1 has no words"),
        (record("5.jpg", "test"), r"image 5\.jpg has no sentences"),
        ({"split": "test"}, "expected images with a 'filename'"),
    ],
)
def test_broken_records_are_named(tmp_path, bad, message):
    with pytest.raises(UserError, match=message):
        open_image_text("flickr8k", write(tmp_path, [*RECORDS, bad], [r["filename"] for r in RECORDS]))


def test_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"expected one file dataset_flickr8k\.json, found none"):
        open_image_text("flickr8k", tmp_path)
    write(tmp_path, RECORDS)
    (tmp_path / "dataset_flickr8k.json").write_text('{"images":\n [}')
    with pytest.raises(UserError, match=r"dataset_flickr8k\.json:2: not JSON"):
        open_image_text("flickr8k", tmp_path)
    (tmp_path / "dataset_flickr8k.json").write_text('{"pictures": []}')
    with pytest.raises(UserError, match="'images' is missing"):
        open_image_text("flickr8k", tmp_path)


def test_no_images_at_all(tmp_path):
    write(tmp_path, RECORDS, ["other.jpg"])
    with pytest.raises(UserError, match=r"no image such as 1\.jpg found; looked in .*images"):
        open_image_text("flickr8k", tmp_path)


def test_flickr8k_1k(real_data):
    data = open_image_text("flickr8k", real_data / "flickr8k_1k")
    assert {split: count["images"] for split, count in data.counts().items()} == {"train": 753, "val": 113, "test": 125}
    assert sum(count["captions"] for count in data.counts().values()) == 4955
    assert not data.skipped
    assert data.items("train")[0].captions[1] == "A girl going into a wooden building ."
