"""A run with a fitted text encoder holds what was fitted: it needs neither the cache nor its own old place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_word_vectors import write_arrays
from tfthesis.data.image_text import open_image_text
from tfthesis.encoders.hglmm_fitting import HGLMMFitting
from tfthesis.encoders.words import split_words
from tfthesis.errors import UserError
from training.execution import execute
from training.export import export_run
from training.request import Request, without_places


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    """A run whose text encoder is fitted, over random vectors of words of scenes."""
    items = open_image_text("scenes", None, images=(30, 3, 4), size=24, captions=3).items("train")
    words = {
        word
        for item in items
        for text in item.captions
        for word in split_words(tf.constant([text])).flat_values.numpy()
    }
    words = sorted(word.decode() for word in words)
    rows = np.random.default_rng(0).standard_normal((len(words), 6)).astype(np.float32)
    vectors = write_arrays(tmp_path_factory.mktemp("vectors") / "v.npy", rows, words)
    changes = ["text_encoder=hglmm", f"text_weights={vectors}", "text_options=centres=3,dimension=8"]
    return Request.create("cycle_match", "tiny", None, changes)


@pytest.fixture(scope="module")
def finished(request_, tmp_path_factory):
    """The folders of a finished run and of its cache."""
    with pytest.MonkeyPatch.context() as patch:
        cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs") / "run"
        patch.setenv("TFTHESIS_CACHE", str(cache))
        execute(request_, folder)
    return folder, cache


@pytest.fixture
def copies(finished, tmp_path, monkeypatch):
    """Copies of both folders that a test may change; the first cache is out of sight."""
    folder, cache = (Path(shutil.copytree(path, tmp_path / path.name)) for path in finished)
    monkeypatch.setenv("TFTHESIS_CACHE", str(cache))
    return folder, cache


def kept(folder):
    (file,) = (folder / "encoders").iterdir()
    return file


def fitted_of(cache):
    return next(cache.glob("hglmm-fit-*/fitted.npz"))


def spec_of(folder):
    return without_places(json.loads((folder / "spec.json").read_text()))


def unfinished(folder):
    for name in ("DONE", "evaluation.json", "pictures.json"):
        (folder / name).unlink()


def test_the_run_directory_holds_the_fit(finished):
    folder, cache = finished
    assert kept(folder).name == f"{fitted_of(cache).parent.name}.npz"
    assert kept(folder).read_bytes() == fitted_of(cache).read_bytes()


def test_an_export_needs_no_cache_and_no_fit(copies, tmp_path, monkeypatch):
    folder, cache = copies
    expected = folder / "expected"
    export_run(folder, expected)
    shutil.rmtree(cache)
    monkeypatch.setenv("TFTHESIS_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(HGLMMFitting, "fit", lambda self, texts: pytest.fail("fitted again"))
    moved = folder.rename(tmp_path / "moved")
    path = export_run(moved, tmp_path / "saved")
    text = {"text": tf.constant(["a red circle", "unknown"])}
    one, two = (
        tf.saved_model.load(str(each)).signatures for each in (path, moved / "expected" / path.parent.name / "1")
    )
    name = next(name for name in one if set(one[name].structured_input_signature[1]) == {"text"})
    for key, value in two[name](**text).items():
        np.testing.assert_array_equal(one[name](**text)[key], value)


def test_the_copy_comes_before_another_fit_in_the_cache(copies, tmp_path):
    """Fits of two machines have one key but not the same bits."""
    folder, cache = copies
    with np.load(fitted_of(cache)) as file:
        arrays = dict(file)
    np.savez(fitted_of(cache), **{**arrays, "mean": arrays["mean"] + np.float32(1e-6)})
    assert export_run(folder, tmp_path / "saved").is_dir()
    before, spec = kept(folder).read_bytes(), spec_of(folder)
    unfinished(folder)
    execute(Request.from_json(json.loads((folder / "recipe.json").read_text())), folder)
    assert kept(folder).read_bytes() == before and spec_of(folder) == spec


def test_a_run_resumes_without_its_cache_and_mends_its_copy(copies, request_, monkeypatch, caplog):
    folder, cache = copies
    spec, before = spec_of(folder), kept(folder).read_bytes()
    (folder / "encoders/left-behind").write_text("half a file")
    kept_file = next((folder / "encoders").glob("*.npz"))
    kept_file.write_bytes(before[:-20])
    unfinished(folder)
    execute(request_, folder)
    assert kept(folder).read_bytes() == before and "is damaged" in caplog.text
    shutil.rmtree(cache)
    monkeypatch.setattr(HGLMMFitting, "fit", lambda self, texts: pytest.fail("fitted again"))
    whole = (folder / "spec.json").read_bytes()
    unfinished(folder)
    execute(request_, folder)
    assert kept(folder).read_bytes() == before
    assert spec_of(folder) == spec and (folder / "spec.json").read_bytes() == whole


def test_a_copy_of_something_else_is_refused(copies, tmp_path):
    folder, _ = copies
    with np.load(kept(folder)) as file:
        arrays = dict(file)
    np.savez(kept(folder), **{**arrays, "mean": arrays["mean"] + 1})
    with pytest.raises(UserError, match=r"the data changed since training.*encoders.text.fingerprint"):
        export_run(folder, tmp_path / "saved")
