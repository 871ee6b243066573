"""Reed's descriptions of flowers and birds, by classes, official splits and lists."""

import numpy as np
import pytest
from scipy.io import savemat

from tfthesis.data.image_text import open_image_text
from tfthesis.errors import UserError


def write_texts(folder, images, captions=11):
    for key in images:
        path = folder / "text_c10" / f"{key}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"a {key} seen {k} times\n" for k in range(captions)))


@pytest.fixture
def flowers(tmp_path):
    """Three classes of four flowers; the images lie in one folder."""
    images = [f"class_{c:05d}/image_{4 * c + i:05d}" for c in (1, 2, 3) for i in range(4)]
    write_texts(tmp_path, images)
    (tmp_path / "jpg").mkdir()
    for key in images:
        (tmp_path / "jpg" / f"{key.split('/')[1]}.jpg").write_bytes(b"picture")
    for part, label in zip(("train", "val", "test"), (2, 1, 3), strict=True):
        (tmp_path / f"{part}classes.txt").write_text(f"class_{label:05d}\n")
    return tmp_path


@pytest.fixture
def birds(tmp_path):
    """Two classes of five birds in class folders, with the official lists."""
    images = [f"00{c}.Bird/B_{c}_{i}" for c in (1, 2) for i in range(5)]
    write_texts(tmp_path, images, captions=10)
    root = tmp_path / "CUB_200_2011"
    for key in images:
        path = root / "images" / f"{key}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    (root / "images.txt").write_text("".join(f"{n} {key}.jpg\n" for n, key in enumerate(images, 1)))
    (root / "train_test_split.txt").write_text("".join(f"{n} {int(n % 5 != 0)}\n" for n in range(1, 11)))
    return tmp_path


def counts(data):
    return {split: len(items) for split, items in data.splits.items()}


def test_class_splits_are_disjoint(flowers):
    data = open_image_text("flowers", flowers)
    assert counts(data) == {"train": 4, "val": 4, "test": 4}
    assert {item.labels for item in data.items("train")} == {("class_00002",)}
    assert data.classes == ("class_00001", "class_00002", "class_00003") and not data.multi_label
    item = data.items("test")[0]
    assert len(item.captions) == 10 and item.captions[3] == f"a {item.id} seen 3 times"
    assert item.image.name == "image_00012.jpg"


def test_official_split_of_flowers_trains_on_train_and_val(flowers):
    sets = {"trnid": [4, 8, 12], "valid": [5, 9, 13], "tstid": [6, 7, 10, 11, 14, 15]}
    savemat(flowers / "setid.mat", {name: np.array([ids], np.uint16) for name, ids in sets.items()})
    data = open_image_text("flowers", flowers, split="official")
    assert counts(data) == {"train": 3, "val": 3, "test": 6}
    assert [item.id[-5:] for item in data.items("val")] == ["00005", "00009", "00013"]
    assert counts(open_image_text("flowers", flowers, split="official", val_per_class=0)) == {"train": 6, "test": 6}
    with pytest.raises(UserError, match="class 'class_00001' has 2 training images, 2 asked for"):
        open_image_text("flowers", flowers, split="official", val_per_class=2)


def test_official_split_of_birds(birds):
    data = open_image_text("cub", birds, split="official")
    assert counts(data) == {"train": 6, "val": 2, "test": 2}
    assert [item.id for item in data.items("test")] == ["001.Bird/B_1_4", "002.Bird/B_2_4"]


def test_given_lists(birds):
    folder = birds / "mine"
    folder.mkdir()
    (folder / "train.txt").write_text("001.Bird/B_1_0.jpg\n002.Bird/B_2_0\nB_1_1\n")
    (folder / "val.txt").write_text("B_2_1.jpg\n")
    (folder / "test.txt").write_text("B_2_2\n")
    data = open_image_text("cub", birds, split="mine", captions=3)
    assert counts(data) == {"train": 3, "val": 1, "test": 1}
    assert len(data.items("train")[0].captions) == 3
    (folder / "test.txt").write_text("B_2_2\nB_9_9\n")
    with pytest.raises(UserError, match=r"test\.txt:2: image 'B_9_9' has no description"):
        open_image_text("cub", birds, split="mine")
    (folder / "test.txt").write_text("B_2_1\n")
    with pytest.raises(UserError, match=r"test\.txt:1: image 'B_2_1' is in 'val' already"):
        open_image_text("cub", birds, split="mine")


def test_missing_images_are_skipped_and_listed(flowers):
    (flowers / "jpg" / "image_00009.jpg").unlink()
    (flowers / "jpg" / "image_00012.jpg").write_bytes(b"")
    data = open_image_text("flowers", flowers)
    assert counts(data) == {"train": 3, "val": 4, "test": 3}
    assert data.skipped == [
        "train: image class_00002/image_00009: no image file",
        "test: image class_00003/image_00012: empty file",
    ]


def test_broken_lines_are_named(flowers):
    path = flowers / "text_c10" / "class_00002" / "image_00008.txt"
    path.write_text("a flower\n...\n")
    with pytest.raises(UserError, match=r"image_00008\.txt:2: expected a caption, got '\.\.\.'"):
        open_image_text("flowers", flowers)
    path.write_text("\n")
    with pytest.raises(UserError, match=r"image_00008\.txt: expected one caption a line, got an empty file"):
        open_image_text("flowers", flowers)


def test_broken_class_lists_are_named(flowers):
    (flowers / "testclasses.txt").write_text("class_00003\nclass_00009\n")
    with pytest.raises(UserError, match=r"testclasses\.txt:2: class 'class_00009' has no folder"):
        open_image_text("flowers", flowers)
    (flowers / "testclasses.txt").write_text("class_00001\n")
    with pytest.raises(UserError, match=r"testclasses\.txt:1: class 'class_00001' is in 'val' already"):
        open_image_text("flowers", flowers)
    (flowers / "testclasses.txt").unlink()
    with pytest.raises(UserError, match=r"testclasses\.txt: No such file"):
        open_image_text("flowers", flowers)


def test_missing_split_files_are_named(flowers, birds):
    with pytest.raises(UserError, match=r"setid\.mat: no such file"):
        open_image_text("flowers", flowers, split="official")
    (birds / "CUB_200_2011" / "train_test_split.txt").write_text("1 1 1\n")
    with pytest.raises(UserError, match=r"train_test_split\.txt:1: expected an image number and one value"):
        open_image_text("cub", birds, split="official")


def test_no_descriptions(tmp_path):
    with pytest.raises(UserError, match="no <class>/<image>.txt there"):
        open_image_text("cub", tmp_path)


def test_birds_of_the_real_layout(real_data, tmp_path):
    """Ten real classes with the official lists; the descriptions, which are not at hand, are made up."""
    root = real_data / "CUB_200_2011" / "CUB_200_2011"
    images = [line.split()[1].removesuffix(".jpg") for line in (root / "images.txt").read_text().splitlines()]
    write_texts(tmp_path, images, captions=2)
    (tmp_path / "CUB_200_2011").symlink_to(root)
    data = open_image_text("cub", tmp_path, split="official", val_per_class=5)
    assert counts(data) == {"train": 250, "val": 50, "test": 243}
    assert len(data.classes) == 10 and not data.skipped
