"""DeepIndex: the thesis's figures, its fits, what it measures, what it leaves out, and what it serves."""

from __future__ import annotations

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.images import read_image
from tfthesis.data.searched_images import NO_ROW, Query, SearchedImages, open_searched
from tfthesis.deep_index.data import IndexedImageData
from tfthesis.deep_index.evaluation import best_answers, judged, precisions
from tfthesis.deep_index.model import codebooks, prepared
from tfthesis.deep_index.searching import build_searcher
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.export.exporter import export
from tfthesis.inverted_index.index import thesis_bytes
from tfthesis.inverted_index.search import idf
from tfthesis.method import Spec
from tfthesis.methods.deep_index import rules

DEEP_INDEX = load_method("deep_index")
BOTH = ("pixels:projection", "pixels:pixels")
PIXELS = "pixels_patches"


def fitted(recipe, directory=None, seed=0):
    """Return data and model after all fits."""
    data = DEEP_INDEX.data(recipe, recipe.dataset, directory)
    keras.utils.set_random_seed(seed)
    model = DEEP_INDEX.build(recipe, data.spec)
    arrays = {}
    for stage in DEEP_INDEX.stages(recipe):
        arrays |= stage.run(model, data, recipe)
    return data, model, arrays


@pytest.fixture(scope="module")
def tiny():
    recipe = DEEP_INDEX.recipe("tiny", axes=BOTH)
    return recipe, *fitted(recipe)


@pytest.fixture
def photos(tmp_path):
    """Nine photographs, of which two are none, one is cut off and one is too small to be cut into patches."""
    drawn = open_searched("scene_views", groups=9, views=2, size=32)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(9):
        (folder / "sub" / f"{number}.png").write_bytes(read_image(drawn.images[2 * number]))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    whole = (folder / "sub" / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "small.png").write_bytes(tf.io.encode_png(np.zeros((2, 40, 3), np.uint8)).numpy())
    (folder / "notes.txt").write_text("not an image")
    return folder


# The thesis's figures.


def test_presets_have_the_numbers_of_the_thesis():
    holidays, paris, ukbench = (DEEP_INDEX.recipe(name) for name in ("thesis", "thesis_paris", "thesis_ukbench"))
    assert [recipe.words for recipe in (holidays, paris, ukbench)] == [5000, 5000, 10_000]
    assert [recipe.alpha for recipe in (holidays, paris, ukbench)] == [8, 4, 10]
    assert holidays.axes == ("alexnet:fc6", "vgg19:fc18")
    assert paris.axes == ukbench.axes == ("alexnet:fc7", "vgg19:fc18")
    assert holidays.measured_assignments == (1, 3, 5) and paris.measured_assignments == (1, 5, 10)
    assert all(recipe.width == 512 and recipe.levels == (1, 2, 3) for recipe in (holidays, paris, ukbench))
    assert all(recipe.idf == "ratio" for recipe in (holidays, paris, ukbench))


def test_sizes_of_the_thesis():
    """Table 4.4: 2.06 and 4.06 KB an image; 14 patches; squares of the idf."""
    assert (thesis_bytes([512]), thesis_bytes([512, 512])) == (2104, 4152)
    assert idf(np.array([2]), 10, "ratio")[0] ** 2 == 25
    assert idf(np.array([2]), 10, "log")[0] ** 2 == pytest.approx(2.5902904, abs=1e-7)
    spec = Spec(inputs={"axis_0": (14, 4096), "axis_1": (14, 4096)}, extra={"words": 5000})
    model = DEEP_INDEX.build(DEEP_INDEX.recipe("thesis"), spec)
    assert model.count_params() == 2 * (4096 + 4096 * 512 + 5000 * 512)
    assert [tuple(output.shape) for output in model.outputs] == [(None, 14, 512)] * 2
    assert not model.trainable_weights


def test_variants_are_the_rows_of_table_4_1():
    rows = ["dpi6", "dpi7", "dpi17", "dpi18", "dpi6_7", "dpi17_18", "dpi7_17", "dpi6_17", "dpi7_18", "dpi6_18"]
    axes = [DEEP_INDEX.recipe("thesis", row).axes for row in rows]
    assert [len(own) for own in axes] == [1] * 4 + [2] * 6
    assert len(set(axes)) == 10
    for own, row in zip(axes, rows, strict=True):
        layers = [f"fc{number}" for number in row.removeprefix("dpi").split("_")]
        assert [axis.partition(":")[2] for axis in own] == layers
        assert all((axis.startswith("alexnet:")) == (axis[-3:] in ("fc6", "fc7")) for axis in own)


# Fits.


def test_features_are_of_length_one_projected_and_of_length_one_again(tiny):
    recipe, data, model, arrays = tiny
    _, (features, _) = next(data.features("train"))
    found, _ = prepared(model, [features, features[..., :1] @ np.ones((1, 192), np.float32)])
    scaled = features / np.linalg.norm(features, axis=-1, keepdims=True)
    expected = (scaled - arrays["mean_0"]) @ arrays["components_0"]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(arrays["components_0"].T @ arrays["components_0"], np.eye(recipe.width), atol=1e-4)
    assert 0 < arrays["explained_0"] <= 1


def test_words_are_means_of_the_training_patches_next_to_them(tiny):
    recipe, data, model, arrays = tiny
    features = [np.concatenate(parts) for parts in zip(*(found for _, found in data.features("train")), strict=True)]
    for axis, (codebook, vectors) in enumerate(zip(codebooks(model), prepared(model, features), strict=True)):
        assert len(codebook) == data.spec.extra["words"] == 14 * data.size("train") // 4
        vectors = vectors.reshape(-1, recipe.width)
        nearest = codebook.nearest(vectors)[:, 0]
        moved = [np.linalg.norm(vectors[nearest == word].mean(0) - codebook.words[word]) for word in np.unique(nearest)]
        # Few passes of k-means: most words have come to rest.
        assert np.median(moved) < 1e-5
        np.testing.assert_array_equal(codebook.words, arrays[f"codebook_{axis}"])


def test_another_seed_finds_other_words(tiny):
    recipe, _, _, arrays = tiny
    other = fitted(recipe, seed=1)[2]
    assert np.array_equal(other["components_0"], arrays["components_0"])
    assert not np.array_equal(other["codebook_0"], arrays["codebook_0"])


def test_codebooks_are_fitted_to_patches_drawn_by_lot_where_there_are_many(tiny, monkeypatch):
    recipe, data, model, _ = tiny
    seen = []

    def fit(vectors, size, **options):
        seen.append(len(vectors))
        return codebooks(model)[len(seen) - 1]

    monkeypatch.setattr("tfthesis.deep_index.model.fit_codebook", fit)
    monkeypatch.setattr("tfthesis.deep_index.model._MOST_FEATURES", 0)
    monkeypatch.setattr("tfthesis.deep_index.model._FEATURES_A_WORD", 2)
    DEEP_INDEX.stages(recipe)[-1].run(model, data, recipe)
    assert seen == [2 * data.spec.extra["words"]] * 2


def test_without_a_width_nothing_is_projected():
    recipe = DEEP_INDEX.recipe("tiny", width=0)
    assert [stage.name for stage in DEEP_INDEX.stages(recipe)] == ["codebooks"]
    data, model, _ = fitted(recipe)
    assert codebooks(model)[0].words.shape[1] == 64
    assert DEEP_INDEX.evaluate(model, data, recipe, "test").scalars["mean_ap"] > 0


# What is measured.


def test_ignored_images_are_taken_out_before_ranks_are_counted():
    query = Query("q", np.array([2, 7]), np.array([4, 9]))
    assert judged(np.array([4, 2, 1, 9, 7, -1, -1]), query).tolist() == [0, 2]
    assert judged(np.array([-1, -1]), query).tolist() == []


@pytest.mark.parametrize(("rule", "expected"), [("step", (1 / 2 + 2 / 3) / 2), ("trapezoid", (1 / 4 + 7 / 12) / 2)])
def test_images_without_a_shared_word_are_never_found(rule, expected):
    queries = [Query("q", np.array([0, 1]), np.zeros(0, np.int64)), Query("r", np.array([5]), np.zeros(0, np.int64))]
    dataset = SearchedImages("toy", list("abcdef"), [b""] * 6, queries, rule=rule)
    found, hits = precisions(np.array([[3, 0, 1, -1], [3, 0, 1, -1]]), dataset, np.array([0, 1]))
    assert found == [pytest.approx(expected), 0] and hits == [2, 0]


def test_evaluation_measures_the_grid_of_table_4_1(tiny):
    recipe, data, model, _ = tiny
    found = DEEP_INDEX.evaluate(model, data, recipe, "test")
    grid = {f"{part}.mean_ap_ma{count}" for part in ("words", "gis") for count in (1, 3, 5)}
    others = {"mean_ap", "global.mean_ap", "answered", "bytes_an_image", "thesis_bytes"}
    assert set(found.scalars) == grid | others
    assert found.scalars["mean_ap"] == found.scalars["gis.mean_ap_ma3"] == found.selection
    assert found.scalars["thesis_bytes"] == 4 * 14 + 4 * 16 * 2
    for name, sample in found.samples.items():
        assert len(sample) == len(data.split("test").queries)
        assert found.scalars[name.replace("average_precision", "mean_ap")] == pytest.approx(100 * sample.mean())
    assert 0 < found.scalars["words.mean_ap_ma1"] < 100
    none = DEEP_INDEX.evaluate(model, data, dataclasses.replace(recipe, alpha=0.0), "test").scalars
    assert "gis.mean_ap_ma1" not in none
    assert none["mean_ap"] == found.scalars["words.mean_ap_ma3"] and none["thesis_bytes"] == 56


def test_a_dataset_with_an_n_s_score_is_selected_by_it(tiny):
    recipe, data, model, _ = tiny
    data = dataclasses.replace(data.dataset, measure="ns_score")
    for number, query in enumerate(data.queries):
        relevant = np.union1d(query.relevant, [query.row])
        data.queries[number] = dataclasses.replace(query, relevant=relevant, ignored=np.zeros(0, np.int64))
    opened = DEEP_INDEX.data(recipe, "scene_views", None)
    measured = IndexedImageData(data, opened.encoders, opened.axes, shares=recipe.shares)
    found = DEEP_INDEX.evaluate(model, measured, recipe, "test")
    assert found.selection == found.scalars["ns_score"] and 1 <= found.selection <= 3
    assert found.samples["ns_hits"].max() <= 3


def test_both_axes_match_where_each_alone_does(tiny):
    """A match in two dimensions is one in each, so that no image of the two is missed by one."""
    recipe, data, model, _ = tiny
    plain = dataclasses.replace(recipe, alpha=0.0)
    pair = build_searcher(model, data, "test", rules(plain))
    single = build_searcher(model, data, "test", rules(dataclasses.replace(plain, late_fusion=True)))
    _, features = next(data.query_features("test"))
    features = prepared(model, features)
    both = pair.ask(features, len(pair)).rows
    for axis, index in enumerate(single.indexes):
        alone = dataclasses.replace(pair, indexes=(index,)).ask([features[axis]], len(pair)).rows
        for mine, theirs in zip(both, alone, strict=True):
            assert set(mine[mine >= 0].tolist()) <= set(theirs.tolist())
        # An image of the index finds itself.
        assert all(row in set(theirs.tolist()) for row, theirs in enumerate(alone))


@pytest.mark.parametrize("changes", [{"late_fusion": True}, {"expansion": 2}, {"idf": "log"}, {"signature": "int8"}])
def test_options_change_what_is_found(tiny, changes):
    recipe, data, model, _ = tiny
    plain = DEEP_INDEX.evaluate(model, data, recipe, "test")
    other = DEEP_INDEX.evaluate(model, data, dataclasses.replace(recipe, **changes), "test")
    if changes == {"signature": "int8"}:
        assert other.scalars["bytes_an_image"] < plain.scalars["bytes_an_image"]
    else:
        assert other.scalars["words.mean_ap_ma3"] != plain.scalars["words.mean_ap_ma3"]


def test_training_validation_and_test_images_are_others(tiny):
    _, data, _, _ = tiny
    ids = [set(data.item_ids(split, np.arange(data.size(split)))) for split in ("train", "val", "test")]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 36
    with pytest.raises(UserError, match="unknown split 'tests'. Did you mean 'test'"):
        data.size("tests")
    rows = [np.array([1, 0]), np.zeros(0, np.int64)]
    (inputs, targets), (empty, _) = data.batches("train", rows, (0, 0))
    _, features = next(data.features("train"))
    np.testing.assert_array_equal(inputs["axis_1"], features[1][[1, 0]])
    assert targets["row"].numpy().tolist() == [1, 0] and empty["axis_0"].shape == (0, 14, 64)


# Any folder of photographs.


def test_photographs_that_are_none_are_skipped_and_listed(photos):
    recipe = DEEP_INDEX.recipe("tiny", dataset="photos", reader=("crops=20",), shares=())
    data, model, _ = fitted(recipe, photos)
    assert [data.size(split) for split in ("train", "val", "test")] == [9, 0, 9]
    skipped = data.describe()["skipped"]
    # The four, and the parts of them that were queries; what was cut out of a broken file is listed with its reason.
    assert sum(line.startswith("image ") and "of query" not in line for line in skipped["items"]) == 4
    for name in ("empty.jpg", "text.png", "cut.png", "small.png"):
        assert sum(f"image {name}: " in line for line in skipped["items"]) == 1, name
        assert any(line.startswith(f"query part of {name}: ") for line in skipped["items"]), name
    (small,) = (line for line in skipped["items"] if line.startswith("image small.png: "))
    assert small.endswith(
        "small.png: image: expected at least 3 pixels along each side, to cut it into patches, got "
        "height and width [2 40]"
    )
    assert not any("\n" in line or "node" in line for line in skipped["items"])
    assert data.describe()["counts"] == {"images": 13, "queries": 13, "train": 9, "val": 0, "test": 9}
    found = DEEP_INDEX.evaluate(model, data, recipe, "test")
    # Parts of what was left out cannot be searched for, and are not counted as misses.
    assert len(found.samples["average_precision"]) == 9
    assert found.scalars["mean_ap"] > 40
    with pytest.raises(UserError, match="split 'val' has no images to search"):
        DEEP_INDEX.evaluate(model, data, recipe, "val")


def test_a_folder_without_a_photograph_is_refused(photos):
    shutil.rmtree(photos / "sub")
    recipe = DEEP_INDEX.recipe("tiny", dataset="photos", reader=(), shares=())
    few = dataclasses.replace(recipe, words=4, measured_assignments=(1,))
    data = DEEP_INDEX.data(few, "photos", photos)
    with pytest.raises(UserError, match="split 'train' has no usable image; the last: image "):
        data.size("train")
    for name in ("cut.png", "small.png"):
        (photos / name).unlink()
    with pytest.raises(UserError, match="there is no usable image; the first: image empty.jpg"):
        DEEP_INDEX.data(recipe, "photos", photos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": ("pixels",)}, "expected network:layer, such as alexnet:fc7, got 'pixels'"),
        ({"axes": ()}, "expected at least one network:layer"),
        ({"axes": ("pixel:pixels",)}, "unknown encoder 'pixel_patches'. Did you mean 'pixels_patches'"),
        ({"weights": ("vgg19=file.h5",)}, "'vgg19' is no network of the axes pixels"),
        ({"words": 10_000}, "expected from 1 to the"),
        ({"shares": (0.5, 0.5)}, "three shares"),
        ({"levels": (2, 3)}, "the pyramid's levels need a 1"),
        ({"late_fusion": True, "expansion": 1}, "leave out late_fusion"),
        ({"assignments": 0}, "recipe field 'assignments': expected a whole number from 1, got 0"),
        (
            {"measured_assignments": (1, 0)},
            "field 'measured_assignments': expected a whole number from 1, got 0",
        ),
        ({"iterations": 0}, "recipe field 'iterations': expected a whole number from 1, got 0"),
        ({"width": -2}, "recipe field 'width': expected a whole number from 0, got -2"),
        ({"words": -1}, "recipe field 'words': expected a whole number from 0, got -1"),
        ({"candidates": -1}, "recipe field 'candidates': expected a whole number from 0, got -1"),
        ({"expansion": -1}, "recipe field 'expansion': expected a whole number from 0, got -1"),
        ({"thumbnail": -3}, "recipe field 'thumbnail': expected a whole number from 0, got -3"),
        ({"width": 65}, "recipe field 'width': expected at most the 64 numbers of pixels:projection, got 65"),
        # 15 images are fitted to, in 14 patches each: a quarter of them are 52 words.
        ({"assignments": 500}, "recipe field 'assignments': expected from 1 to the 52 words of a codebook, got 500"),
        ({"words": 4}, "recipe field 'measured_assignments': expected from 1 to the 4 words of a codebook, got 5"),
        (
            {"measured_assignments": (1, 500)},
            "'measured_assignments': expected from 1 to the 52 words .*, got 500",
        ),
    ],
)
def test_mistakes_in_a_recipe_are_named(changes, message):
    recipe = DEEP_INDEX.recipe("tiny", **changes)
    with pytest.raises(UserError, match=message):
        DEEP_INDEX.data(recipe, recipe.dataset, None)


def test_levels_that_part_no_image_are_named_before_the_first_fit():
    recipe = DEEP_INDEX.recipe("tiny", levels=(1, 40))
    data = DEEP_INDEX.data(recipe, recipe.dataset, None)
    model = DEEP_INDEX.build(recipe, data.spec)
    message = (
        r"scene_views: split 'train' has no usable image; the last: image .*: expected at least 40 pixels along each "
        r"side, to cut it into patches, got height and width \[32 32\]"
    )
    for stage in DEEP_INDEX.stages(recipe):
        with pytest.raises(UserError, match=message):
            stage.run(model, data, recipe)


def test_axes_of_one_network_share_the_features_of_its_layers():
    """A recipe with fewer axes reads what was computed for another, if the layers that are computed are named."""
    recipe = DEEP_INDEX.recipe("tiny", taps=("pixels:pixels", "vgg19:fc18", "pixels:projection"))
    one, both = (DEEP_INDEX.data(r, r.dataset, None) for r in (recipe, dataclasses.replace(recipe, axes=BOTH)))
    assert one.encoders["pixels"].fingerprint == both.encoders["pixels"].fingerprint
    assert list(one.encoders) == ["pixels"]
    assert [(axis.layer, axis.width) for axis in both.axes] == [(1, 64), (0, 192)]
    (_, (alone,)), (_, (first, _)) = next(one.features("val")), next(both.features("val"))
    np.testing.assert_array_equal(alone, first)


# The export.


@pytest.mark.parametrize(
    "changes", [{}, {"alpha": 0.0, "idf": "log"}, {"late_fusion": True}, {"expansion": 2}, {"signature": "int8"}]
)
def test_an_export_answers_as_the_index_in_memory(tiny, tmp_path, changes):
    recipe, data, model, _ = tiny
    recipe = dataclasses.replace(recipe, **changes)
    path = export(DEEP_INDEX, "toy", model, recipe, data.spec, data, tmp_path)
    served = tf.saved_model.load(path).signatures["search_by_image"]
    split, searcher = data.split("test"), build_searcher(model, data, "test", rules(recipe))
    numbers = list(range(0, len(split.queries), 3))
    queries = [split.queries[number] for number in numbers]
    assert all(query.row != NO_ROW for query in queries)
    answer = served(image=tf.constant([read_image(split.images[query.row]) for query in queries]))
    # A search in memory leaves the query out, which the served one finds among the others.
    wanted = best_answers(model, data, searcher, "test", numbers, len(split) - 1)
    for line, query in enumerate(queries):
        names, scores = answer["ids"][line].numpy(), answer["scores"][line].numpy()
        assert split.ids[query.row].encode() in names.tolist()
        best = zip(wanted.rows[line], wanted.scores[line], strict=True)
        theirs = {split.ids[row]: score for row, score in best if row >= 0}
        kept = [place for place, name in enumerate(names) if name and name.decode() != split.ids[query.row]]
        assert len(kept) == len(theirs)
        for place in kept:
            assert scores[place] == pytest.approx(theirs[names[place].decode()], rel=1e-3)
        small = tf.io.decode_jpeg(answer["thumbnail_bytes"][line, 0])
        assert max(small.shape[:2]) == recipe.thumbnail
    described = json.loads((path / "manifest.json").read_text())["metadata"]["index"]["image"]
    assert described["kind"] == "inverted" and described["size"] == len(split) and described["split"] == "test"


def test_signatures_are_roots_whose_inner_product_is_the_hellinger_kernel(tiny, tmp_path):
    recipe, data, model, _ = tiny
    recipe = dataclasses.replace(recipe, thumbnail=0)
    path = export(DEEP_INDEX, "toy", model, recipe, data.spec, data, tmp_path)
    signatures = tf.saved_model.load(path).signatures
    split = data.split("test")
    raw = tf.constant([read_image(image) for image in split.images[:4]])
    embedding = signatures["encode_image"](image=raw)["embedding"].numpy()
    _, features = next(data.features("test"))
    searcher = build_searcher(model, data, "test", rules(recipe))
    roots = np.concatenate(searcher.indexes[0].signatures.decoded(np.arange(4)), axis=1) / np.sqrt(2)
    np.testing.assert_allclose(embedding, roots, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    words = signatures["words_of_image"](image=raw)["words"].numpy()
    for axis, (codebook, part) in enumerate(zip(codebooks(model), prepared(model, features), strict=True)):
        expected = codebook.nearest(part[:4].reshape(-1, recipe.width))[:, 0].reshape(4, 14)
        assert (words[..., axis] == expected).mean() > 0.98
    assert set(signatures["search_by_image"].structured_outputs) == {"ids", "scores", "payload"}
    with pytest.raises(UserError, match="it has a search of its own, and no kind 'scann'"):
        export(DEEP_INDEX, "toy", model, recipe, data.spec, data, tmp_path, kind="scann")


def test_without_whole_images_there_are_no_signatures_to_encode():
    recipe = DEEP_INDEX.recipe("tiny", levels=(2, 3), alpha=0.0)
    data, model, _ = fitted(recipe)
    assert data.spec.inputs["axis_0"] == (13, 64)
    found = DEEP_INDEX.evaluate(model, data, recipe, "test").scalars
    assert "global.mean_ap" not in found and found["mean_ap"] > 0


def test_pictures_frame_what_is_asked_for(tiny, tmp_path):
    recipe, data, model, _ = tiny
    drawn = DEEP_INDEX.pictures(model, data, recipe, tmp_path)
    assert [picture.path.name for picture in drawn] == ["answers.png", "cells.png"]
    assert all(picture.path.read_bytes().startswith(b"\x89PNG") for picture in drawn)


@pytest.mark.parametrize(("folder", "preset"), [("COIL20_32/coil20", "coil20"), ("ORL_faces/att_faces", "orl_faces")])
def test_real_groups_are_found_better_than_by_chance(real_data, folder, preset):
    recipe = DEEP_INDEX.recipe(preset, axes=("pixels:pixels",), taps=(), width=32, iterations=5, words=200)
    data, model, _ = fitted(recipe, real_data / folder)
    found = DEEP_INDEX.evaluate(model, data, recipe, "test").scalars
    assert found["mean_ap"] > 30
