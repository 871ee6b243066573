"""The drawn scenes: repeatable, frozen by their version, and true to what they say."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.image_text import open_image_text
from tfthesis.data.images import check_header, decode
from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.captions import ANNOTATORS, describe
from tfthesis.data.scenes.paint import BACKGROUNDS, COLOURS, TEXTURES, inside
from tfthesis.data.scenes.render import render
from tfthesis.data.scenes.scene import Scene, SceneObject, sample_scene
from tfthesis.data.scenes.shapes import KINDS
from tfthesis.errors import UserError

SCENES = [sample_scene((0, 0, index)) for index in range(40)]
# Mean grey level of the first pictures, and a digest of the first captions, as they were when VERSION was set.
FROZEN_GREY = (118.73, 206.07, 111.18, 106.29, 104.72, 119.82, 57.17, 60.39)
FROZEN_WORDS = "7762aa993c828301"


def test_version_is_frozen():
    """A change of pixels or words needs a new VERSION, new figures here and a new run of the difficulty benchmark."""
    words = hashlib.sha256("\n".join(sum(map(describe, SCENES), ())).encode()).hexdigest()
    grey = [render(scene, 32).image.mean() for scene in SCENES[:8]]
    assert VERSION == 1
    assert words[:16] == FROZEN_WORDS
    np.testing.assert_allclose(grey, FROZEN_GREY, atol=0.05)


def test_a_scene_is_a_function_of_its_key():
    again = sample_scene((0, 0, 7))
    assert again == SCENES[7]
    assert describe(again) == describe(SCENES[7])
    np.testing.assert_array_equal(render(again, 48).image, render(SCENES[7], 48).image)
    assert len({scene.objects for scene in SCENES}) == len(SCENES)


def test_captions_do_not_depend_on_pixels_drawn_before():
    scene = SCENES[3]
    before = describe(scene)
    render(scene, 32)
    assert describe(scene) == before


@pytest.mark.parametrize("number", range(6))
def test_the_object_map_says_where_each_object_is(number):
    """Taking an object out changes its own pixels and, but for softened outlines, no others."""
    scene = SCENES[number]
    whole = render(scene, 64)
    assert set(np.unique(whole.objects)) == set(range(len(scene.objects) + 1))
    # The last in the list is drawn first: what lies over it stays.
    last = len(scene.objects)
    without = render(dataclasses.replace(scene, objects=scene.objects[:-1]), 64)
    changed = (whole.image != without.image).any(-1)
    mask = whole.objects == last
    assert (changed & mask).sum() > 0.9 * mask.sum()
    near = np.pad(mask, 1)
    near = np.any([near[i : i + 64, j : j + 64] for i in range(3) for j in range(3)], axis=0)
    assert not (changed & ~near).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fills_a_good_part_of_its_box(kind):
    scene = Scene((1, 2, 3), "snow", (SceneObject(kind, "red", "plain", (0.5, 0.5), 0.3),))
    mask = render(scene, 64).objects == 1
    rows, columns = np.nonzero(mask)
    assert 0.15 < mask.sum() / (0.6 * 64) ** 2 < 1.1
    assert rows.min() >= 10 and rows.max() <= 53 and columns.min() >= 10 and columns.max() <= 53


def test_objects_turn_clockwise():
    def mask(angle):
        scene = Scene((1, 2, 3), "snow", (SceneObject("rocket", "red", "plain", (0.5, 0.5), 0.35, angle),))
        return render(scene, 64).objects == 1

    turned, expected = mask(np.pi / 2), np.rot90(mask(0.0), -1)
    assert (turned & expected).sum() > 0.93 * (turned | expected).sum()
    assert mask(0.6).sum() == pytest.approx(mask(0.0).sum(), rel=0.05)


def test_textures_turn_with_their_object():
    """Stripes run across the object: level at no angle, upright after a quarter turn."""

    def steps(angle):
        scene = Scene((1, 2, 3), "snow", (SceneObject("ball", "red", "striped", (0.5, 0.5), 0.4, angle),))
        green = render(scene, 64).image[22:42, 22:42, 1].astype(float)
        return np.abs(np.diff(green, axis=0)).mean() / np.abs(np.diff(green, axis=1)).mean()

    assert steps(0.0) > 2 and steps(np.pi / 2) < 0.5


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("colour", COLOURS)
def test_colour_and_texture_are_seen(colour, texture):
    scene = Scene((1, 2, 3), "night", (SceneObject("ball", colour, texture, (0.5, 0.5), 0.4),))
    shown = render(scene, 64).image[20:44, 20:44].reshape(-1, 3).astype(float)
    tones = np.abs(shown - np.array(COLOURS[colour])).max(1) < 60
    if texture == "plain":
        assert tones.mean() > 0.75
    else:
        assert 0.3 < tones.mean() < 0.9


def test_backgrounds_differ():
    pictures = [render(Scene((5, 5), name, ()), 16).image.astype(float) for name in BACKGROUNDS]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(gaps) > 8


def test_objects_stay_in_the_picture_and_apart():
    for scene in SCENES:
        assert 2 <= len(scene.objects) <= 4
        assert len(scene.kinds) == len(scene.objects)
        radii = [item.radius for item in scene.objects]
        assert radii == sorted(radii, reverse=True) and radii[-1] > 0.08
        for item in scene.objects:
            assert all(0.85 * item.radius < place < 1 - 0.85 * item.radius for place in item.centre)


def named(annotator, caption):
    """Return the kinds that a caption may mean, by the annotator's own nouns."""
    words = set(caption.split())
    return {kind for kind in KINDS if annotator.nouns.get(kind, kind) in words}


def test_annotators_name_only_what_is_there_and_agree_on_the_largest():
    for scene in SCENES:
        for annotator, caption in zip(ANNOTATORS, describe(scene), strict=True):
            mentioned = named(annotator, caption)
            assert mentioned & set(scene.kinds)
            if "animal" not in caption:
                assert mentioned <= set(scene.kinds)
            if annotator.main_first:
                assert scene.category in mentioned


def test_annotators_mention_different_subsets():
    several = [scene for scene in SCENES if len(scene.objects) > 2]
    differing = [
        len({frozenset(named(a, c)) for a, c in zip(ANNOTATORS, describe(scene), strict=True)}) for scene in several
    ]
    assert np.mean(differing) > 2.5


@pytest.mark.parametrize(
    ("centre", "relation"),
    [((0.8, 0.4), "left of"), ((0.2, 0.6), "right of"), ((0.5, 0.9), "above"), ((0.45, 0.1), "below")],
)
def test_relations_are_as_the_viewer_sees_them(centre, relation):
    main = SceneObject("star", "red", "plain", (0.5, 0.5), 0.2)
    scene = Scene((0,), "sea", (main, SceneObject("fish", "blue", "plain", centre, 0.19)))
    assert relation in describe(scene)[1]


def test_polygons_cover_their_area_and_are_cut_at_the_border():
    triangle = np.array([[10.0, 10], [50, 10], [10, 50]])
    rows, _ = inside(triangle, 64)
    assert len(rows) == pytest.approx(800, rel=0.05)
    rows, columns = inside(triangle - 30, 64)
    assert len(rows) == 0 or (rows.min() >= 0 and columns.min() >= 0)
    assert len(inside(triangle + 100, 64)[0]) == 0


def test_dataset_has_pictures_captions_and_labels():
    data = open_image_text("scenes", images=(3, 2, 4), captions=2, size=32)
    assert data.counts() == {
        "train": {"images": 3, "captions": 6},
        "val": {"images": 2, "captions": 4},
        "test": {"images": 4, "captions": 8},
    }
    item = data.items("test")[1]
    scene = item.image.scene
    assert item.labels == scene.kinds and item.captions == describe(scene)[:2]
    picture = item.image.read_bytes()
    assert check_header(picture) == (32, 32)
    np.testing.assert_array_equal(decode(tf.constant(picture)), render(scene, 32).image)
    scenes = [item.image.scene for items in data.splits.values() for item in items]
    assert len({scene.objects for scene in scenes}) == 9


def test_dataset_with_one_label():
    data = open_image_text("scenes", images=(2, 1, 1), labels="category")
    assert not data.multi_label
    assert [item.labels for item in data.items("train")] == [(s.image.scene.category,) for s in data.items("train")]


def test_options_change_the_fingerprint_and_extending_a_split_keeps_its_scenes():
    small = open_image_text("scenes", images=(2, 1, 1))
    large = open_image_text("scenes", images=(4, 1, 1))
    other = open_image_text("scenes", images=(2, 1, 1), seed=1)
    assert large.items("train")[:2] == small.items("train")
    assert len({data.fingerprint() for data in (small, large, other)}) == 3
    assert open_image_text("scenes", images=(2, 1, 1)).fingerprint() == small.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": (1, 0, 1)}, "images"),
        ({"captions": 6}, "captions"),
        ({"labels": "object"}, "Did you mean 'objects'"),
        ({"objects": (3, 9)}, "objects"),
        ({"size": 4}, "size"),
        ({"sise": 4}, "Did you mean 'size'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        open_image_text("scenes", **options)


def test_no_folder_is_read(tmp_path):
    with pytest.raises(UserError, match="drawn"):
        open_image_text("scenes", tmp_path)


def test_the_kept_difficulty_is_of_this_version_and_fit():
    """Who changes what is drawn measures again: python -m benchmarks.scene_difficulty."""
    kept = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "scene_difficulty.json").read_text())
    rows = kept["rows"]["ridge"]
    assert {row["seed"] for row in rows} >= {0, 1, 2}
    for row in rows:
        assert row["version"] == VERSION and row["fit"]
        assert min(row["i2t_r1"], row["t2i_r1"]) >= 10 and max(row["i2t_r10"], row["t2i_r10"]) <= 95
