"""COCO captions and instances."""

import json

import pytest

from tfthesis.data.image_text import open_image_text
from tfthesis.errors import UserError

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}, {"id": 90, "name": "brush"}]


def write_part(folder, part, count, first=0, captions=6):
    """Image i has `captions` captions, out of order, and the categories i % 3."""
    images = [{"id": first + i, "file_name": f"{first + i:03d}.jpg"} for i in range(count)]
    annotations = [
        {"id": 1000 * image["id"] + k, "image_id": image["id"], "caption": f"caption {k} of {image['id']} "}
        for k in reversed(range(captions))
        for image in images
    ]
    instances = [
        {"id": i, "image_id": image["id"], "category_id": CATEGORIES[image["id"] % 3]["id"], "iscrowd": 0}
        for i, image in enumerate(images * 2)
    ]
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / part).mkdir()
    for image in images:
        (folder / part / image["file_name"]).write_bytes(b"picture")
    values = {"images": images, "annotations": annotations}
    (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps(values))
    values = {"images": images, "annotations": instances, "categories": CATEGORIES}
    (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(values))


@pytest.fixture
def folder(tmp_path):
    write_part(tmp_path, "train2014", 4)
    write_part(tmp_path, "val2014", 7, first=50)
    return tmp_path


def change(path, key, index, **fields):
    values = json.loads(path.read_text())
    values[key][index].update(fields)
    path.write_text(json.dumps(values))


def test_reads_captions_and_labels(folder):
    data = open_image_text("coco", folder)
    assert data.multi_label and data.classes == ("person", "car", "brush")
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 4, "val": 3, "test": 4}
    item = data.items("train")[1]
    assert item.id == "train2014/001.jpg" and item.image.is_file()
    assert item.captions == tuple(f"caption {k} of 1" for k in range(5))
    assert [i.labels for i in data.items("train")] == [("car",), ("person",), ("brush",), ("car",)]


def test_division_is_repeatable_disjoint_and_sized(folder):
    first, again = (open_image_text("coco", folder, val_images=2, test_images=3) for _ in range(2))
    other = open_image_text("coco", folder, val_images=2, test_images=3, seed=1)
    ids = [{item.id for item in data.items("val")} for data in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert len(first.items("val")) == 2 and len(first.items("test")) == 3
    assert not ids[0] & {item.id for item in first.items("test")}


def test_division_of_karpathy(folder):
    images = [{"cocoid": 50 + i, "split": split} for i, split in enumerate(["test", "val", "restval", "test", "test"])]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": [*images, {"cocoid": 1, "split": "train"}]}))
    data = open_image_text("coco", folder, division="dataset_coco.json", test_images=2)
    assert [item.id for item in data.items("val")] == ["val2014/051.jpg"]
    assert [item.id for item in data.items("test")] == ["val2014/050.jpg", "val2014/053.jpg"]


def test_too_many_images_asked_for(folder):
    with pytest.raises(UserError, match="test_images 6: val2014 leaves 5 images for 'test'"):
        open_image_text("coco", folder, val_images=2, test_images=6)


def test_missing_images_and_captions_are_skipped_and_listed(folder):
    (folder / "train2014" / "002.jpg").unlink()
    values = json.loads((folder / "annotations" / "captions_train2014.json").read_text())
    values["annotations"] = [record for record in values["annotations"] if record["image_id"] != 3]
    (folder / "annotations" / "captions_train2014.json").write_text(json.dumps(values))
    data = open_image_text("coco", folder)
    assert [item.id for item in data.items("train")] == ["train2014/000.jpg", "train2014/001.jpg"]
    assert data.skipped == [
        "train2014: image 002.jpg: No such file or directory",
        "train2014: image 003.jpg: no caption",
    ]


@pytest.mark.parametrize(
    ("file", "key", "fields", "message"),
    [
        (
            "captions_val2014",
            "annotations",
            {"caption": " ", "id": 77},
            r"captions_val2014\.json: annotation 77: expected",
        ),
        ("instances_val2014", "annotations", {"category_id": 7}, "unknown category 7"),
        ("instances_val2014", "categories", {"name": "dog"}, "categories of train2014 and val2014 differ"),
    ],
)
def test_broken_annotations_are_named(folder, file, key, fields, message):
    change(folder / "annotations" / f"{file}.json", key, 0, **fields)
    with pytest.raises(UserError, match=message):
        open_image_text("coco", folder)


def test_several_years_need_a_choice(folder):
    write_part(folder, "train2017", 1)
    with pytest.raises(UserError, match="2014"):
        open_image_text("coco", folder)
    assert open_image_text("coco", folder, year="2014").source["year"] == "2014"


def test_coco_mini(real_data):
    data = open_image_text("coco", real_data / "coco_mini")
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 80, "val": 39, "test": 40}
    assert len(data.classes) == 80 and data.classes[0] == "person" and data.classes[-1] == "toothbrush"
    assert {label for item in data.items("train") for label in item.labels} == set(data.classes)
    assert not data.skipped
