"""The ridge baseline of retrieval: centred, blind to the test split, and the known figures on Flickr8k."""

import dataclasses

import numpy as np
import pytest

from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.metrics.ridge_retrieval import mean_captions, ridge_retrieval


@dataclasses.dataclass
class Pairs:
    image: np.ndarray
    text: np.ndarray
    owner: np.ndarray


def pairs(seed, offset=0.0, count=60):
    """Captions are a linear map of the image and noise, far away from zero."""
    random = np.random.default_rng(seed)
    image = random.normal(size=(count, 12))
    owner = np.repeat(np.arange(count), 2)
    linear = np.random.default_rng(99).normal(size=(12, 6))
    return Pairs(image, (image @ linear)[owner] + 0.5 * random.normal(size=(2 * count, 6)) + offset, owner)


def test_mean_captions():
    found = mean_captions(Pairs(np.zeros((2, 1)), np.array([[1.0], [3], [7]]), np.array([0, 0, 1])))
    np.testing.assert_allclose(found, [[2], [7]])


def test_finds_the_pairs_of_a_linear_map_wherever_its_origin_lies():
    near = ridge_retrieval(pairs(0), pairs(1), pairs(2))
    far = ridge_retrieval(pairs(0, 50.0), pairs(1, 50.0), pairs(2, 50.0))
    assert near.scalars["i2t_r1"] > 60 and near.scalars["t2i_r10"] > 90
    assert far.scalars == pytest.approx(near.scalars, abs=2)
    assert near.scalars["t2i_r1"] == pytest.approx(100 * np.mean(near.text_ranks == 0))


def test_the_test_split_does_not_choose_the_strength():
    first, second = pairs(1), pairs(2)
    chosen = {
        val: [ridge_retrieval(pairs(0), split, test).strength for test in (first, second)]
        for val, split in (("first", first), ("second", second))
    }
    assert chosen["first"][0] == chosen["first"][1] != chosen["second"][0] == chosen["second"][1]


def test_flickr8k_reaches_the_known_recalls(real_data):
    """About .34/.67/.80 and .35/.70/.81 from EfficientNet-Lite0 to MiniLM features."""
    dataset = open_image_text("precomp", real_data / "flickr8k_1k" / "f8k_precomp", text="minilm")
    data = PairedData(dataset, labels="none")
    found = ridge_retrieval(*(data.arrays(split) for split in ("train", "val", "test"))).scalars
    expected = {"i2t_r1": 34, "i2t_r5": 67, "i2t_r10": 80, "t2i_r1": 35, "t2i_r5": 70, "t2i_r10": 81}
    assert found == pytest.approx(expected, abs=2)
