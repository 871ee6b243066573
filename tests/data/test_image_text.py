"""The common form of all datasets: what it refuses, and what its fingerprint depends on."""

import dataclasses

import numpy as np
import pytest

from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, dataset_names, open_image_text
from tfthesis.errors import UserError


def item(name, labels=(), image=b"x", captions=("a cat",)):
    return ImageTextItem(name, image, captions, labels)


def dataset(**changes):
    values = {"name": "toy", "splits": {"train": [item("a"), item("b")], "test": [item("c")]}}
    return ImageTextDataset(**{**values, **changes})


def test_unknown_split_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown split of toy 'tset'. Did you mean 'test'"):
        dataset().items("tset")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"train": [item("a")], "test": [item("a")]}}, "'a' is in 'train' and again in 'test'"),
        ({"splits": {"train": [item("a", captions=())]}}, "no caption"),
        ({"splits": {"train": [item("a", ("dog",))]}, "classes": ("cat",), "multi_label": True}, "unknown labels"),
        ({"splits": {"train": [item("a")]}, "classes": ("cat",)}, "expected one label"),
        ({"features": {"image": {"train": np.zeros((3, 4))}}}, "expected 2 rows, one for each image, got"),
        ({"features": {"text": {"test": np.zeros((4, 4))}}}, "expected 1 rows, one for each caption"),
        ({"features": {"image": {"dev": np.zeros((3, 4))}}}, "unknown split"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        dataset(**changes)


def test_fingerprint_depends_on_everything_but_the_folder(tmp_path):
    def files(folder, content=b"picture" * 100):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "1.jpg").write_bytes(content)
        return dataset(splits={"train": [item("a", image=tmp_path / folder / "1.jpg")]})

    first = files("one")
    assert files("two").fingerprint() == first.fingerprint()
    assert files("two", b"picturf" * 100).fingerprint() != first.fingerprint()
    assert files("two", b"picture" * 101).fingerprint() != first.fingerprint()
    large = b"picture" * 100_000
    changed = bytearray(large)
    changed[300_000:400_000] = bytes(100_000)
    assert files("two", large).fingerprint() != files("two", bytes(changed)).fingerprint()
    kinds = [
        dataset(),
        dataset(name="other"),
        dataset(source={"seed": 1}),
        dataset(features={"image": {"test": np.zeros((1, 4))}}),
        dataset(features={"image": {"test": np.ones((1, 4))}}),
        dataset(splits={"train": [item("a"), item("b")], "test": [item("c", captions=("a dog",))]}),
        dataset(splits={"train": [item("a"), item("b")], "test": [item("c", image=b"y")]}),
        dataset(splits={"train": [item("a"), item("b")], "val": [item("c")]}),
    ]
    assert len({data.fingerprint() for data in kinds}) == len(kinds)
    assert dataset().fingerprint() == dataset().fingerprint()


def test_fingerprint_of_images_does_not_depend_on_captions_or_labels():
    plain, other = dataset(), dataset(splits={"train": [item("a", captions=("x", "y")), item("b")]})
    assert plain.modality_fingerprint("image", "train") == other.modality_fingerprint("image", "train")
    assert plain.modality_fingerprint("text", "train") != other.modality_fingerprint("text", "train")


def test_datasets_are_found_by_name():
    names = dataset_names()
    assert {"scenes", "flickr8k", "coco", "precomp", "flowers", "cub", "pascal_sentence"} <= set(names)
    assert all(len(sentence) > 10 for sentence in names.values())
    with pytest.raises(UserError, match="Did you mean 'flickr8k'"):
        open_image_text("flickr8", None)
    with pytest.raises(UserError, match=r"give its folder .*dataset_flickr8k\.json"):
        open_image_text("flickr8k", None)


def test_a_missing_folder_says_what_should_be_there(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*gone; expected annotations/"):
        open_image_text("coco", tmp_path / "gone")


def test_items_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        item("a").id = "b"
