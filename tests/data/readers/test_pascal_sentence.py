"""Pascal Sentence: photos with sentences, and the features published with DSCMR."""

import numpy as np
import pytest
from scipy.io import savemat

from tfthesis.data.image_text import open_image_text
from tfthesis.errors import UserError


def write(folder, images=".", texts=".", per_class=6):
    for label in ("bird", "cow"):
        for root in (images, texts):
            (folder / root / label).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            (folder / images / label / f"2008_{i}.jpg").write_bytes(b"picture")
            (folder / texts / label / f"2008_{i}.txt").write_text("".join(f"A {label} {k}.\n" for k in range(5)))
    return folder


@pytest.mark.parametrize("folders", [(".", "."), ("dataset", "sentence")])
def test_each_class_is_divided(tmp_path, folders):
    data = open_image_text("pascal_sentence", write(tmp_path, *folders), per_class=(3, 2, 1))
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert data.classes == ("bird", "cow")
    assert [item.labels for item in data.items("test")] == [("bird",), ("cow",)]
    assert data.items("train")[0].captions == tuple(f"A bird {k}." for k in range(5))
    again = open_image_text("pascal_sentence", tmp_path, per_class=(3, 2, 1))
    other = open_image_text("pascal_sentence", tmp_path, per_class=(3, 2, 1), seed=1)
    assert again.splits == data.splits != other.splits


def test_images_without_sentences_are_skipped_and_listed(tmp_path):
    write(tmp_path)
    (tmp_path / "cow" / "2008_1.txt").unlink()
    (tmp_path / "bird" / "2008_2.jpg").write_bytes(b"")
    data = open_image_text("pascal_sentence", tmp_path, per_class=(3, 1, 1))
    assert data.skipped[0] == "image bird/2008_2.jpg: empty file"
    assert data.skipped[1].startswith("image cow/2008_1.jpg: no sentences")
    with pytest.raises(UserError, match=r"bird: 5 usable images; per_class \(4, 1, 1\) asks for more"):
        open_image_text("pascal_sentence", tmp_path, per_class=(4, 1, 1))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="no class folders with images"):
        open_image_text("pascal_sentence", tmp_path)
    write(tmp_path)
    (tmp_path / "cow" / "2008_0.txt").write_text("A cow.\n\nA cow.\n")
    with pytest.raises(UserError, match=r"2008_0\.txt:2: expected a caption"):
        open_image_text("pascal_sentence", tmp_path, per_class=(3, 1, 1))
    with pytest.raises(UserError, match="three counts"):
        open_image_text("pascal_sentence", tmp_path, per_class=(3, 1))


def features(folder, split, count=4, **changes):
    values = {
        "img": np.random.default_rng(0).normal(size=(count, 4096)).astype(np.float32),
        "txt": np.ones((count, 300), np.float32),
        "img_lab": np.arange(count)[:, None] % 2,
        **changes,
    }
    for name, array in values.items():
        savemat(folder / f"{split}_{name}.mat", {f"{split}_{name}": array})


def test_dscmr_features(tmp_path):
    features(tmp_path, "train")
    features(tmp_path, "test", 2)
    data = open_image_text("pascal_dscmr", tmp_path)
    assert data.features["image"]["train"].shape == (4, 4096)
    assert [item.labels for item in data.items("train")] == [("0",), ("1",), ("0",), ("1",)]
    assert data.classes == ("0", "1")


def test_dscmr_mistakes(tmp_path):
    features(tmp_path, "test", txt=np.ones((4, 200)))
    with pytest.raises(UserError, match=r"train_img\.mat: no such file; name the splits"):
        open_image_text("pascal_dscmr", tmp_path)
    with pytest.raises(UserError, match=r"test_txt\.mat: expected features of width 300, got 200"):
        open_image_text("pascal_dscmr", tmp_path, splits=("test",))
    features(tmp_path, "test", txt=np.ones((3, 300)))
    with pytest.raises(UserError, match=r"differ in number: \[4, 3, 4\]"):
        open_image_text("pascal_dscmr", tmp_path, splits=("test",))
    (tmp_path / "test_txt.mat").write_bytes(b"garbage" * 50)
    with pytest.raises(UserError, match=r"test_txt\.mat: not a MATLAB 5 file"):
        open_image_text("pascal_dscmr", tmp_path, splits=("test",))


def test_published_dscmr_features(real_data):
    data = open_image_text("pascal_dscmr", real_data / "pascal_sentence_dscmr", splits=("test",))
    assert data.features["image"]["test"].shape == (100, 4096)
    assert len(data.classes) == 20
    with pytest.raises(UserError, match=r"train_img\.mat"):
        open_image_text("pascal_dscmr", real_data / "pascal_sentence_dscmr")
