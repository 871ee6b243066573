"""VSE++ and SCAN features."""

import numpy as np
import pytest

from tfthesis.data.image_text import open_image_text
from tfthesis.errors import UserError

COUNTS = {"train": 6, "dev": 2, "test": 3}


def rows(count, width=4, dtype=np.float16):
    return (np.arange(count)[:, None] + np.arange(width) / 8).astype(dtype)


@pytest.fixture
def folder(tmp_path):
    for split, count in COUNTS.items():
        np.save(tmp_path / f"{split}_ims.npy", rows(count))
        np.save(tmp_path / f"{split}_caps_bert.npy", rows(count * 5, 3))
        (tmp_path / f"{split}_caps.txt").write_text("".join(f"caption {i} of {split}\n" for i in range(count * 5)))
    return tmp_path


def test_one_row_an_image(folder):
    data = open_image_text("precomp", folder, text="bert")
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 6, "val": 2, "test": 3}
    assert data.items("val")[1].captions == tuple(f"caption {i} of dev" for i in range(5, 10))
    assert data.items("val")[1].image is None
    np.testing.assert_array_equal(data.features["image"]["train"], rows(6))
    np.testing.assert_array_equal(data.features["text"]["test"], rows(15, 3))


def test_repeated_rows_are_folded(folder):
    np.save(folder / "test_ims.npy", np.repeat(rows(3), 5, axis=0))
    data = open_image_text("precomp", folder)
    np.testing.assert_array_equal(data.features["image"]["test"], rows(3))
    assert "text" not in data.features


def test_repeated_rows_that_differ_are_refused(folder):
    repeated = np.repeat(rows(3), 5, axis=0)
    repeated[8, 2] += 1
    np.save(folder / "test_ims.npy", repeated)
    with pytest.raises(UserError, match=r"test_ims\.npy: .*rows 5 to 9 differ"):
        open_image_text("precomp", folder)


def test_features_of_regions_are_averaged(folder):
    regions = np.stack([rows(2), rows(2) + 2], axis=1)
    np.save(folder / "dev_ims.npy", regions)
    data = open_image_text("precomp", folder)
    np.testing.assert_allclose(data.features["image"]["val"], rows(2, dtype=np.float32) + 1)


@pytest.mark.parametrize("per", ["image", "caption"])
def test_ids_name_the_images(folder, per):
    names = ["x7", "x3", "x5"]
    lines = names if per == "image" else np.repeat(names, 5)
    (folder / "test_ids.txt").write_text("\n".join(lines))
    assert [item.id for item in open_image_text("precomp", folder).items("test")] == ["test/x7", "test/x3", "test/x5"]
    (folder / "test_ids.txt").write_text("\n".join(names[:2]))
    with pytest.raises(UserError, match=r"test_ids\.txt: expected 3 lines"):
        open_image_text("precomp", folder)


def test_testall(folder):
    for name in ("ims.npy", "caps.txt"):
        (folder / f"testall_{name}").write_bytes((folder / f"train_{name}").read_bytes())
    assert len(open_image_text("precomp", folder, test="testall").items("test")) == 6


def test_broken_caption_line(folder):
    lines = (folder / "dev_caps.txt").read_text().splitlines()
    lines[3] = "  "
    (folder / "dev_caps.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"dev_caps\.txt:4: expected a caption, got ''"):
        open_image_text("precomp", folder)
    (folder / "dev_caps.txt").write_bytes(b"a dog\nb\xffd\n")
    with pytest.raises(UserError, match=r"dev_caps\.txt:2: expected UTF-8 text, got the byte 0xff"):
        open_image_text("precomp", folder)


def test_wrong_width_names_the_file(folder):
    with pytest.raises(UserError, match=r"train_ims\.npy: expected features of width 2048, got 4"):
        open_image_text("precomp", folder, image_dimension=2048)
    np.save(folder / "test_caps_bert.npy", rows(15, 7))
    with pytest.raises(UserError, match=r"test_caps_bert\.npy: expected features of width 3, got 7"):
        open_image_text("precomp", folder, text="bert")


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("dev_ims.npy", rows(3), r"dev_ims\.npy: 3 rows do not fit the 10 captions of dev_caps\.txt; expected 2 rows"),
        ("dev_caps_bert.npy", rows(9, 3), r"dev_caps_bert\.npy: expected 10 rows, one a caption"),
        ("dev_ims.npy", np.zeros(3), r"dev_ims\.npy: expected real features"),
        ("dev_ims.npy", np.array([["a"]]), r"dev_ims\.npy: expected real features"),
    ],
)
def test_counts_that_do_not_fit(folder, file, array, message):
    np.save(folder / file, array)
    with pytest.raises(UserError, match=message):
        open_image_text("precomp", folder, text="bert")


def test_damaged_and_hostile_arrays(folder):
    (folder / "dev_ims.npy").write_bytes(b"not an array")
    with pytest.raises(UserError, match=r"dev_ims\.npy: not a \.npy file of numbers"):
        open_image_text("precomp", folder)
    np.save(folder / "dev_ims.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"dev_ims\.npy: not a \.npy file of numbers"):
        open_image_text("precomp", folder)
    (folder / "train_ims.npy").unlink()
    with pytest.raises(UserError, match=r"train_ims\.npy: no such file"):
        open_image_text("precomp", folder)
    with pytest.raises(UserError, match="No such file"):
        (folder / "train_ims.npy").write_bytes((folder / "test_ims.npy").read_bytes())
        (folder / "train_caps.txt").unlink()
        open_image_text("precomp", folder)


def test_f8k_precomp(real_data):
    data = open_image_text("precomp", real_data / "flickr8k_1k" / "f8k_precomp", text="minilm", image_dimension=1280)
    assert {split: array.shape for split, array in data.features["image"].items()} == {
        "train": (753, 1280),
        "val": (113, 1280),
        "test": (125, 1280),
    }
    assert data.features["text"]["train"].shape == (3765, 384)
