"""Folds inside train and val: every image is held out once, features stay with their images, test is not touched."""

import numpy as np
import pytest

from tfthesis.data.folds import take_fold
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, open_image_text
from tfthesis.errors import UserError


def dataset(train=17, val=4, test=5):
    """Return images with one to three captions, whose features carry the numbers of image and caption."""
    splits, features, number = {}, {"image": {}, "text": {}}, 0
    for split, size in (("train", train), ("val", val), ("test", test)):
        splits[split], images, texts = [], [], []
        for _ in range(size):
            captions = tuple(f"caption {number} {i}" for i in range(1 + number % 3))
            splits[split].append(ImageTextItem(f"image {number}", None, captions))
            images.append([number])
            texts += [[number, i] for i in range(len(captions))]
            number += 1
        features["image"][split], features["text"][split] = np.array(images), np.array(texts)
    return ImageTextDataset("toy", splits, features=features)


def test_each_image_is_held_out_once_and_the_test_split_never_seen():
    whole = dataset()
    known = [item.id for split in ("train", "val") for item in whole.items(split)]
    folds = [take_fold(whole, f"{k}/5") for k in range(5)]
    for fold in folds:
        assert sorted(item.id for items in fold.splits.values() for item in items) == sorted(known)
    assert sorted(item.id for fold in folds for item in fold.items("test")) == sorted(known)
    for fold, following in zip(folds, [*folds[1:], folds[0]], strict=True):
        assert fold.items("val") == following.items("test")
    assert len({fold.fingerprint() for fold in folds}) == 5


def test_features_stay_with_their_images_and_captions():
    fold = take_fold(dataset(), "2/3")
    for split, items in fold.splits.items():
        assert [f"image {number}" for number in fold.features["image"][split][:, 0]] == [item.id for item in items]
        captions = [f"caption {number} {i}" for number, i in fold.features["text"][split]]
        assert captions == [caption for item in items for caption in item.captions]


@pytest.mark.parametrize("fold", ["5/5", "0/2", "one", "1", "-1/5", "1/99"])
def test_other_folds_are_refused(fold):
    with pytest.raises(UserError, match="option fold"):
        take_fold(dataset(), fold)


def test_every_reader_takes_the_option():
    fold = open_image_text("scenes", images=(6, 3, 4), fold="0/3")
    assert fold.counts()["test"]["images"] == fold.counts()["val"]["images"] == 3
    with pytest.raises(UserError, match=r"unknown option of dataset 'scenes' 'folds'. Did you mean 'fold'"):
        open_image_text("scenes", folds="0/3")
