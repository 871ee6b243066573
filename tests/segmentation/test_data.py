"""How images and maps of any size enter a network of one size, and come back."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.data.segmented_images import MapFile, SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.errors import UserError
from tfthesis.segmentation.data import SegmentationData
from tfthesis.segmentation.fields import Field
from tfthesis.trunks.vgg import MEAN


def png(pixels):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def drawn(height, width, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, 256, (height, width, 3)).astype(np.uint8),
        generator.integers(0, 3, (height, width)).astype(np.uint8),
    )


def files(folder, sizes, name="train"):
    images, maps = [], []
    for number, (height, width) in enumerate(sizes):
        pixels, labels = drawn(height, width, number)
        path = folder / f"{name}{number}.png"
        path.write_bytes(png(labels))
        images.append(png(pixels))
        maps.append(MapFile(path))
    split = SegmentedSplit([f"{name}{number}" for number in range(len(sizes))], images, maps)
    return SegmentedImages("mine", {name: split}, ("a", "b", "c"), colour_wheel(3))


def only(data, rows, split="train", key=None):
    ((inputs, targets),) = list(data.batches(split, [np.array(rows)], key))
    return inputs["image"].numpy(), {name: value.numpy() for name, value in targets.items()}


def test_a_smaller_image_lies_in_the_corner_of_the_mean():
    pixels, labels = drawn(5, 7)
    field = Field(8, 9)
    placed = field.place_image(tf.constant(pixels)).numpy()
    np.testing.assert_allclose(placed[:5, :7], pixels, atol=1e-4)
    np.testing.assert_allclose(placed[5:], np.broadcast_to(np.float32(MEAN), (3, 9, 3)), atol=1e-4)
    np.testing.assert_allclose(placed[:5, 7:], np.broadcast_to(np.float32(MEAN), (5, 2, 3)), atol=1e-4)
    inside = field.place_labels(tf.constant(labels)).numpy()
    np.testing.assert_array_equal(inside[:5, :7], labels)
    assert (inside[5:] == 255).all() and (inside[:, 7:] == 255).all()
    np.testing.assert_array_equal(field.take_back(tf.constant(inside), tf.constant([5, 7])), labels)


def test_a_larger_image_is_scaled_until_it_fits():
    pixels, _ = drawn(20, 12)
    field = Field(10, 10)
    np.testing.assert_array_equal(field.inner(tf.constant([20, 12])), [10, 6])
    placed = field.place_image(tf.constant(pixels)).numpy()
    expected = tf.image.resize(pixels, [10, 6], antialias=True).numpy()
    np.testing.assert_allclose(placed[:, :6], expected, atol=1e-3)
    np.testing.assert_allclose(placed[:, 6:], np.broadcast_to(np.float32(MEAN), (10, 4, 3)), atol=1e-4)
    # Blocks of two by two survive the way there and back.
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (10, 6)), np.ones((2, 2))).astype(np.uint8)
    back = field.take_back(field.place_labels(tf.constant(labels)), tf.constant([20, 12]))
    np.testing.assert_array_equal(back, labels)
    # One row of pixels remains of the most extreme image.
    np.testing.assert_array_equal(field.inner(tf.constant([1, 3000])), [1, 10])


def test_batches_of_files(tmp_path):
    data = SegmentationData(files(tmp_path, [(6, 8), (8, 6), (4, 4)]), Field(8, 8))
    images, targets = only(data, [2, 0])
    np.testing.assert_array_equal(targets["row"], [2, 0])
    np.testing.assert_array_equal(targets["size"], [[4, 4], [6, 8]])
    pixels, labels = drawn(4, 4, 2)
    np.testing.assert_allclose(images[0, :4, :4], pixels, atol=1e-4)
    np.testing.assert_array_equal(targets["labels"][0, :4, :4], labels)
    np.testing.assert_array_equal(targets["labels"][1, :6], drawn(6, 8, 0)[1])
    empty, none = only(data, [])
    assert empty.shape == (0, 8, 8, 3) and none["labels"].shape == (0, 8, 8)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_maps_belong_to_the_upright_image(tmp_path, orientation):
    """A photo that its camera turned: people draw their maps on what they see."""
    seen = np.zeros((16, 24, 3), np.uint8)
    seen[:8, :8] = 255
    turns = {1: 0, 3: 2, 6: 1}[orientation]
    exif = PIL.Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    PIL.Image.fromarray(np.rot90(seen, turns)).save(file, "jpeg", quality=98, exif=exif)
    (tmp_path / "map.png").write_bytes(png((seen[..., 0] > 0).astype(np.uint8)))
    split = SegmentedSplit(["a"], [file.getvalue()], [MapFile(tmp_path / "map.png")])
    data = SegmentationData(SegmentedImages("mine", {"train": split}, ("x", "y"), colour_wheel(2)), Field(32, 32))
    images, targets = only(data, [0])
    np.testing.assert_array_equal(targets["size"], [[16, 24]])
    bright = images[0, :16, :24].mean(axis=-1) > 128
    assert (bright == (targets["labels"][0, :16, :24] == 1)).mean() > 0.95


def test_mirrored_by_a_lot_of_seed_epoch_and_row(tmp_path):
    sizes = [(5, 6)] * 12
    data = SegmentationData(files(tmp_path, sizes), Field(8, 8), mirror=True)
    rows = list(range(12))
    images, targets = only(data, rows, key=(3, 1))
    plain, same = only(data, rows)
    flipped = [not np.array_equal(one, other) for one, other in zip(images, plain, strict=True)]
    assert 0 < sum(flipped) < 12
    for row in rows:
        expected, labels = plain[row].copy(), same["labels"][row].copy()
        if flipped[row]:
            # The corner that the image takes is flipped, not the field.
            expected[:, :6], labels[:, :6] = expected[:, 5::-1], labels[:, 5::-1]
        np.testing.assert_array_equal(images[row], expected)
        np.testing.assert_array_equal(targets["labels"][row], labels)
    again, _ = only(data, rows[::-1], key=(3, 1))
    np.testing.assert_array_equal(again[::-1], images)
    other, _ = only(data, rows, key=(3, 2))
    assert not np.array_equal(other, images)


def test_only_training_images_are_mirrored(tmp_path):
    data = SegmentationData(files(tmp_path, [(5, 6)] * 12, "val"), Field(8, 8), mirror=True)
    images, _ = only(data, list(range(12)), "val", key=(3, 1))
    np.testing.assert_array_equal(images, only(data, list(range(12)), "val")[0])


def test_maps_of_another_size(tmp_path):
    dataset = files(tmp_path, [(6, 8), (6, 8)])
    (tmp_path / "train1.png").write_bytes(png(drawn(8, 6)[1]))
    with pytest.raises(UserError, match="train1 of split 'train' has 6 x 8 pixels, its map 8 x 6; expected one size"):
        SegmentationData(dataset, Field(8, 8)).size("train")


def test_labels_out_of_range(tmp_path):
    dataset = files(tmp_path, [(6, 8), (6, 8)])
    (tmp_path / "train1.png").write_bytes(png(np.full((6, 8), 7, np.uint8)))
    with pytest.raises(UserError, match=r"the map of train1, split 'train' has the labels \[7\], expected 0 to 2"):
        SegmentationData(dataset, Field(8, 8)).size("train")


def test_unreadable_files_are_skipped_and_listed(tmp_path):
    dataset = files(tmp_path, [(6, 8)] * 4)
    split = dataset.splits["train"]
    split.images[0] = b"no image"
    (tmp_path / "train1.png").write_bytes(b"no map")
    # The header is right, the rest is gone: found when it is decoded.
    split.images[2] = split.images[2][:60]
    data = SegmentationData(dataset, Field(8, 8))
    assert data.size("train") == 2 and data.item_ids("train", np.array([0, 1])) == ["train2", "train3"]
    images, targets = only(data, [0, 1])
    assert len(images) == 1 and targets["row"].tolist() == [1]
    np.testing.assert_array_equal(targets["labels"][0, :6], drawn(6, 8, 3)[1])
    skipped = data.describe()["skipped"]
    assert skipped["count"] == 3
    assert all(name in line for name, line in zip(("train0", "train1", "train2"), skipped["items"], strict=True))
    for row in range(4):
        split.images[row] = b"no image"
    with pytest.raises(UserError, match="no usable image"):
        SegmentationData(dataset, Field(8, 8)).size("train")


def test_images_in_memory_have_the_size_of_the_network():
    images, maps = np.zeros((2, 6, 8, 3), np.uint8), np.zeros((2, 6, 8), np.uint8)
    dataset = SegmentedImages("mine", {"train": SegmentedSplit(["a", "b"], images, maps)}, ("x", "y"), colour_wheel(2))
    assert SegmentationData(dataset, Field(6, 8)).size("train") == 2
    with pytest.raises(UserError, match="has 6 x 8 pixels, the network takes 8 x 8; set height and width"):
        SegmentationData(dataset, Field(8, 8))
