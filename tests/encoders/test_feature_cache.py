"""The feature cache: computed once, resumed, repaired, shared between processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_open_encoder import png
from tests.encoders.test_word_vectors import write_arrays
from tfthesis.encoders import feature_cache, open_encoder
from tfthesis.encoders.feature_cache import cached_features
from tfthesis.encoders.feature_shards import FeatureShard
from tfthesis.errors import UserError

COLOURS = [(10 * i, 255 - 10 * i, 40) for i in range(20)]


@pytest.fixture
def encoder():
    return open_encoder("pixels")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARD_ITEMS", {"image": 8, "text": 8})
    monkeypatch.setattr(feature_cache, "BATCH_ITEMS", {"image": 4, "text": 4})


@pytest.fixture
def images(tmp_path):
    """Twenty files, of which three are bad."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = []
    for i, colour in enumerate(COLOURS):
        paths.append(folder / f"{i}.png")
        paths[-1].write_bytes(png(colour))
    paths[3].unlink()
    paths[7].write_bytes(b"no image at all")
    paths[12].write_bytes(png(COLOURS[12])[:-30])
    return paths


@pytest.fixture
def computed(monkeypatch):
    """Numbers of items of the shards that are computed and stored."""
    counts = []
    original = FeatureShard.write

    def write(self, rows, bad):
        counts.append(self.stop - self.start)
        original(self, rows, bad)

    monkeypatch.setattr(FeatureShard, "write", write)
    return counts


def folders(cache):
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_computed_once_with_bad_items_listed(tmp_path, encoder, images, small_shards, computed, caplog):
    cache = tmp_path / "cache"
    calls = []
    features = cached_features(encoder, images, dataset="d", cache=cache, progress=lambda *call: calls.append(call))
    assert computed == [8, 8, 4]
    assert [index for index, _ in features.bad] == [3, 7, 12]
    hints = [r"3\.png: No such file", r"7\.png: .*begins with b'no image'", r"12\.png: Invalid PNG data, size \d+$"]
    for (_, reason), hint in zip(features.bad, hints, strict=True):
        assert re.search(hint, reason)
    assert [i for i, ok in enumerate(features.ok) if not ok] == [3, 7, 12]
    good = tf.constant([path.read_bytes() for i, path in enumerate(images) if features.ok[i]])
    np.testing.assert_allclose(features.rows, encoder(good), atol=1e-6)
    assert calls[-1] == (20, 20) and calls == sorted(calls)
    assert sum("skipped item" in record.message for record in caplog.records) == 3

    again = cached_features(encoder, [str(path) for path in images], dataset="d", cache=cache)
    assert computed == [8, 8, 4]
    np.testing.assert_array_equal(again.rows, features.rows)
    assert again.bad == features.bad
    with pytest.raises(ValueError, match="read-only"):
        again.rows[0] = 0


def test_bytes_and_texts(tmp_path, encoder, small_shards):
    data = [png(colour) for colour in COLOURS[:5]]
    features = cached_features(encoder, data, dataset="d", cache=tmp_path)
    np.testing.assert_allclose(features.rows, encoder(tf.constant(data)), atol=1e-6)
    words = open_encoder("hashed_words")
    texts = [f"text number {i}" for i in range(15)] + ["", "\udcff lone surrogate"]
    rows = cached_features(words, texts, dataset="d", cache=tmp_path).rows
    np.testing.assert_allclose(rows[:16], words(tf.constant(texts[:16])), atol=1e-6)
    assert len(rows) == 17
    assert cached_features(words, [], dataset="d", cache=tmp_path).rows.shape == (0, words.dimension)


def test_images_of_different_sizes(tmp_path, encoder, small_shards):
    """An encoder that keeps the aspect ratio gets its images one by one."""
    encoder.item_shape = (None, None, 3)
    encoder.prepare = lambda raw: tf.cast(tf.io.decode_png(raw, channels=3), tf.float32)
    encoder.encode = lambda items: tf.tile(tf.reduce_mean(items, [1, 2]), [1, 22])[:, : encoder.dimension]
    data = [png((90, i, 200), (10 + i, 30 - i)) for i in range(7)]
    rows = cached_features(encoder, data, dataset="d", cache=tmp_path).rows
    np.testing.assert_allclose(rows[:, :3], [(90, i, 200) for i in range(7)], atol=1e-4)


def test_a_changed_key_computes_again(tmp_path, images, small_shards, computed):
    cache = tmp_path / "cache"
    vectors = write_arrays(tmp_path / "v.npy")
    texts = ["the dog", "a", "naïve"]

    def runs(**changes):
        before = len(computed)
        given = {"encoder": open_encoder("word_vectors", vectors), "items": texts, "dataset": "d", **changes}
        cached_features(given["encoder"], given["items"], dataset=given["dataset"], cache=cache)
        return len(computed) - before

    assert runs() == 1
    assert runs() == 0
    assert runs(dataset="e") == 1
    assert runs(items=[*texts[:2], "dog"]) == 1
    assert runs(encoder=open_encoder("word_vectors", vectors, max_words=2)) == 1
    np.save(vectors, np.load(vectors) + 1)
    assert runs() == 1
    pixels = open_encoder("pixels")
    assert runs(encoder=pixels, items=images[:2]) == 1
    images[0].write_bytes(png((1, 2, 3), (50, 60)))
    assert runs(encoder=pixels, items=images[:2]) == 1


def test_a_damaged_shard_is_named_and_rebuilt_alone(tmp_path, encoder, images, small_shards, computed, caplog):
    first = cached_features(encoder, images, dataset="d", cache=tmp_path)
    (folder,) = [path for path in folders(tmp_path) if path.name.startswith("pixels-")]
    array, record = folder / "shard-00001.npy", folder / "shard-00001.json"
    data = array.read_bytes()
    damages = [
        lambda: array.write_bytes(data[:-1] + bytes([data[-1] ^ 1])),
        lambda: array.write_bytes(data[:-8]),
        array.unlink,
        lambda: record.write_text("{"),
    ]
    for damage in damages:
        damage()
        computed.clear()
        caplog.clear()
        again = cached_features(encoder, images, dataset="d", cache=tmp_path)
        assert computed == [8]
        np.testing.assert_array_equal(again.rows, first.rows)
        assert again.bad == first.bad
        warnings = [entry.getMessage() for entry in caplog.records if " is damaged (" in entry.message]
        assert len(warnings) == 1 and str(array) in warnings[0]
        assert array.read_bytes() == data


def test_interrupted_extraction_resumes_at_the_next_shard(tmp_path, encoder, images, small_shards, computed):
    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(encoder, images, dataset="d", cache=tmp_path, progress=stop)
    assert computed == [8, 8]
    features = cached_features(encoder, images, dataset="d", cache=tmp_path)
    assert computed == [8, 8, 4]
    assert len(features.rows) == 17


def test_features_that_are_not_finite_are_bad_items(tmp_path, encoder, small_shards):
    encoder.encode = lambda items: tf.math.log(tf.reshape(items, [-1, 192])[:, :64])
    data = [png((50, 60, 70)), png((0, 0, 0)), png((80, 90, 100))]
    features = cached_features(encoder, data, dataset="d", cache=tmp_path)
    assert features.bad == [(1, "its feature is not finite")]
    assert len(features.rows) == 2 and np.isfinite(features.rows).all()


def test_a_full_disk_leaves_no_half_shard(tmp_path, encoder, images, small_shards, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*TFTHESIS_CACHE"):
            cached_features(encoder, images, dataset="d", cache=tmp_path / "cache")
    (folder,) = folders(tmp_path / "cache")
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert len(cached_features(encoder, images, dataset="d", cache=tmp_path / "cache").rows) == 17


def test_unwritable_cache(tmp_path, encoder):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="feature cache"):
        cached_features(encoder, [], dataset="d", cache=tmp_path / "file")


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFTHESIS_CACHE", str(tmp_path))
    assert feature_cache.default_cache() == tmp_path
    monkeypatch.delenv("TFTHESIS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert feature_cache.default_cache() == tmp_path / ".cache" / "tfthesis"


def test_two_processes_at_once(tmp_path):
    script = f"""
        import json, logging, pathlib
        from tfthesis.encoders import feature_cache, open_encoder
        logging.basicConfig(level=logging.INFO)
        feature_cache.SHARD_ITEMS["text"] = feature_cache.BATCH_ITEMS["text"] = 50
        fills = []
        original = feature_cache.FeatureShard.write
        feature_cache.FeatureShard.write = lambda *arguments: fills.append(1) or original(*arguments)
        texts = [f"text {{i}}" for i in range(1000)]
        folder = pathlib.Path({str(tmp_path)!r})
        features = feature_cache.cached_features(open_encoder("hashed_words"), texts, dataset="d", cache=folder)
        print(json.dumps([len(fills), features.rows.shape[0], float(features.rows.sum(dtype="float64"))]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    assert sum(result[0] for result in results) == 20
    assert results[0][1:] == results[1][1:] == [1000, results[0][2]]
    (folder,) = folders(tmp_path)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
