"""Pairs as features: alignment, batches, and what is skipped."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.caption_labels import build_word_list
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.encoders import open_encoder
from tfthesis.errors import UserError
from tfthesis.method import Spec


def scenes(**options):
    return open_image_text("scenes", **{"images": (6, 3, 4), "size": 24, "captions": 3, **options})


def paired(dataset, **options):
    return PairedData(dataset, open_encoder("pixels"), open_encoder("hashed_words"), **options)


@pytest.fixture(scope="module")
def data():
    return paired(scenes())


def precomputed(image=None, text=None, captions=2):
    """Two splits of four and two items whose features say which they are."""
    items = {
        split: [
            ImageTextItem(
                f"{split}{i}", None, tuple(f"caption {k} of {split} dog {i}" for k in range(captions)), ("a",)
            )
            for i in range(count)
        ]
        for split, count in (("train", 4), ("test", 2))
    }
    counts = {split: len(found) for split, found in items.items()}
    features = {
        "image": image or {s: np.arange(n * 3, dtype=np.float16).reshape(n, 3) for s, n in counts.items()},
        "text": text or {s: np.arange(n * captions * 2.0).reshape(-1, 2) for s, n in counts.items()},
    }
    return ImageTextDataset("toy", items, classes=("a",), features=features)


def test_arrays_are_aligned(data):
    found = data.arrays("test")
    assert found.image.shape == (4, 64) and found.image.dtype == np.float32
    assert found.text.shape[0] == 12 == len(found.captions) == data.size("test")
    np.testing.assert_array_equal(found.owner, np.repeat(np.arange(4), 3))
    assert found.text_ids[4] == "test-000001#1"
    for row, owner in enumerate(found.owner):
        item = data.dataset.items("test")[owner]
        assert found.captions[row] == item.captions[row % 3]
        assert [name for name, on in zip(data.spec.classes, found.label[row], strict=True) if on] == list(item.labels)
    expected = open_encoder("hashed_words")(tf.constant(found.captions))
    np.testing.assert_allclose(found.text, expected, atol=1e-6)
    one = open_encoder("pixels")(tf.constant([data.image_bytes("test", 2)]))
    np.testing.assert_allclose(found.image[2], one[0], atol=1e-5)


def test_spec_describes_inputs_and_encoders(data):
    spec = data.spec
    assert spec.inputs == {"image": (64,), "text": (data.arrays("test").text.shape[1],)}
    assert spec.multi_label and len(spec.classes) == 16
    assert spec.encoders["image"]["name"] == "pixels"
    assert spec.dataset["counts"]["train"] == {"images": 6, "captions": 18}
    assert Spec.from_json(spec.to_json()) == dataclasses.replace(spec, **{})


def test_single_label():
    data = paired(scenes(labels="category"))
    label = data.arrays("train").label
    assert label.dtype == np.int64 and not data.spec.multi_label
    for row, owner in enumerate(data.arrays("train").owner):
        assert data.spec.classes[label[row]] == data.dataset.items("train")[owner].labels[0]


def test_batches_follow_the_rows_and_may_be_empty(data):
    rows = [np.array([5, 0, 17]), np.array([], np.int64), np.array([3])]
    arrays = data.arrays("train")
    batches = list(data.batches("train", rows, (0, 0)))
    assert len(batches) == 3
    for (inputs, targets), expected in zip(batches, rows, strict=True):
        np.testing.assert_array_equal(targets["row"], expected)
        np.testing.assert_array_equal(targets["image_id"], arrays.owner[expected])
        np.testing.assert_array_equal(inputs["image"], arrays.image[arrays.owner[expected]])
        np.testing.assert_array_equal(inputs["text"], arrays.text[expected])
        np.testing.assert_array_equal(targets["label"], arrays.label[expected])
    assert batches[1][0]["image"].shape == (0, 64)


def test_batches_declare_shapes_and_keep_their_order(data):
    dataset = data.batches("train", [np.array([i % 18]) for i in range(200)], (1, 2))
    inputs, targets = dataset.element_spec
    assert inputs["image"] == tf.TensorSpec([None, 64], tf.float32)
    assert targets["label"] == tf.TensorSpec([None, 16], tf.float32)
    assert targets["image_id"] == tf.TensorSpec([None], tf.int64)
    assert [int(t["row"][0]) for _, t in dataset] == [i % 18 for i in range(200)]


def test_batches_without_labels():
    data = paired(scenes(), labels="none")
    _, targets = next(iter(data.batches("val", [np.array([1])], (0, 0))))
    assert set(targets) == {"row", "image_id"}
    assert data.spec.classes == () and data.arrays("val").label is None


def test_item_ids(data):
    assert data.item_ids("val", np.array([4, 0])) == ["val-000001#1", "val-000000#0"]


def test_unknown_split(data):
    with pytest.raises(UserError, match="Did you mean 'test'"):
        data.size("tests")


def test_bad_images_are_skipped_counted_and_listed(tmp_path):
    good = scenes(images=(4, 2, 2))
    folder = tmp_path / "images"
    folder.mkdir()
    items = []
    for number, item in enumerate(good.items("train")):
        path = folder / f"{number}.png"
        path.write_bytes(item.image.read_bytes())
        items.append(dataclasses.replace(item, image=path))
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:300])
    (folder / "2.png").unlink()
    damaged = dataclasses.replace(good, splits={**good.splits, "train": items})
    data, reference = paired(damaged), paired(good)
    found, expected = data.arrays("train"), reference.arrays("train")
    assert found.image_ids == ["train-000000", "train-000003"]
    kept = np.isin(expected.owner, [0, 3])
    np.testing.assert_array_equal(found.text, expected.text[kept])
    np.testing.assert_array_equal(found.label, expected.label[kept])
    np.testing.assert_allclose(found.image, expected.image[[0, 3]], atol=1e-5)
    np.testing.assert_array_equal(found.owner, np.repeat([0, 1], 3))
    assert data.image_bytes("train", 1) == (folder / "3.png").read_bytes()
    skipped = data.describe()["skipped"]
    assert skipped["count"] == 2
    assert "train-000001" in skipped["items"][0] and "train-000002" in skipped["items"][1]
    assert data.describe()["usable"] == {"train": 6}


def test_a_split_without_a_usable_image_is_an_error():
    good = scenes()
    items = [dataclasses.replace(item, image=b"broken") for item in good.items("val")]
    data = paired(dataclasses.replace(good, splits={**good.splits, "val": items}))
    with pytest.raises(UserError, match="split 'val' has no usable pair"):
        data.size("val")


def test_precomputed_features_need_no_encoder():
    data = PairedData(precomputed())
    found = data.arrays("train")
    assert data.spec.inputs == {"image": (3,), "text": (2,)} and data.spec.encoders == {}
    assert found.image.dtype == np.float32 and found.image[1].tolist() == [3, 4, 5]
    assert found.text[3].tolist() == [6, 7] and found.owner[3] == 1
    assert data.image_bytes("train", 0) is None


def test_an_encoder_goes_before_precomputed_features():
    data = PairedData(precomputed(), text_encoder=open_encoder("hashed_words"))
    assert data.spec.inputs["text"] == (open_encoder("hashed_words").dimension,)
    assert set(data.spec.encoders) == {"text"}


def test_features_that_are_not_finite_are_skipped():
    image = {"train": np.arange(12.0).reshape(4, 3), "test": np.zeros((2, 3))}
    text = {"train": np.arange(16.0).reshape(8, 2), "test": np.zeros((4, 2))}
    image["train"][1, 0] = np.nan
    text["train"][[4, 5, 6], 1] = np.inf
    data = PairedData(precomputed(image, text))
    found = data.arrays("train")
    assert found.image_ids == ["train0", "train3"]
    assert found.text_ids == ["train0#0", "train0#1", "train3#1"]
    assert found.text[:, 0].tolist() == [0, 2, 14] and found.owner.tolist() == [0, 0, 1]
    assert data.describe()["skipped"]["count"] == 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PairedData(scenes()), "brings no image features"),
        (lambda: PairedData(precomputed(), open_encoder("pixels")).size("train"), "no image files"),
        (lambda: paired(scenes(), labels="givn"), "Did you mean 'given'"),
        (lambda: paired(ImageTextDataset("toy", {"train": [ImageTextItem("1", b"", ("a",))]})), "no labels"),
        (
            lambda: PairedData(precomputed(image={"train": np.zeros((4, 3)), "test": np.zeros((2, 5))})),
            "widths of the image features differ",
        ),
        (
            lambda: PairedData(precomputed(image={"train": np.zeros((4, 3))})).size("test"),
            "no image features for split 'test'",
        ),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_caption_words_label_by_the_other_captions():
    data = paired(scenes(images=(40, 3, 4)), labels="caption_words", max_words=12)
    found = data.arrays("test")
    assert data.spec.multi_label and len(data.spec.classes) == 12
    assert found.label.shape == (12, 12) and found.label.any()
    column = data.spec.classes.index("red") if "red" in data.spec.classes else 0
    word = data.spec.classes[column]
    for row, owner in enumerate(found.owner):
        others = [caption for k, caption in enumerate(found.captions) if found.owner[k] == owner and k != row]
        assert found.label[row, column] == any(word in caption.split() for caption in others)


def test_a_word_list_from_test_captions_is_refused():
    dataset = scenes(images=(2, 1, 20))
    leaked = build_word_list([*dataset.items("train"), *dataset.items("test")], 20).words
    with pytest.raises(UserError, match="captions of split '(val|test)' entered the word list"):
        paired(dataset, labels="caption_words", words=leaked)
    own = build_word_list(dataset.items("train"), 20, min_images=1).words[::-1]
    assert paired(dataset, labels="caption_words", words=own).spec.classes == own


def test_nothing_is_computed_before_it_is_asked_for(tmp_path):
    data = paired(scenes(), cache=tmp_path / "cache")
    assert data.describe()["usable"] == {}
    assert not (tmp_path / "cache").exists()
    data.size("val")
    assert set(data.describe()["usable"]) == {"val"}
    assert (tmp_path / "cache").exists()


def test_coco_mini_labels_and_pictures(real_data):
    data = paired(open_image_text("coco", real_data / "coco_mini"))
    found = data.arrays("val")
    assert found.image.shape[0] == 39 and found.label.shape == (195, 80)
    assert data.image_bytes("val", 0)[:2] == b"\xff\xd8"
