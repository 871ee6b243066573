"""Images that are searched: what queries should find, how a dataset is divided, and its readers."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.cropped_image import CroppedImage
from tfthesis.data.grouped_images import GroupedImages
from tfthesis.data.images import decode, read_image
from tfthesis.data.readers.scene_views import seen
from tfthesis.data.scenes.scene import sample_scene
from tfthesis.data.searched_images import Query, SearchedImages, open_searched, searched, searched_names
from tfthesis.errors import UserError


def write(path, seed=0, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    path.write_bytes(tf.io.encode_png(pixels).numpy())
    return pixels


def grouped(**options):
    numbers = np.array([5, 5, 2, 2, 2])
    return GroupedImages("toy", list("abcde"), [b""] * 5, numbers, np.array([0, 3]), **options)


def test_a_query_finds_its_group_and_itself_where_the_measure_says_so():
    first, second = searched(grouped()).queries
    assert (first.id, first.row, first.relevant.tolist(), first.ignored.tolist()) == ("a", 0, [1], [0])
    assert (second.id, second.relevant.tolist(), second.ignored.tolist()) == ("d", [2, 4], [3])
    first, second = searched(grouped(measure="ns_score")).queries
    assert (first.relevant.tolist(), first.ignored.tolist()) == ([0, 1], [])
    assert second.relevant.tolist() == [2, 3, 4]


def test_images_that_are_left_out_move_the_others_up():
    taken = searched(grouped()).take(np.array([0, 2, 3]))
    assert taken.ids == ["a", "c", "d"] and taken.groups.tolist() == [5, 2, 2]
    (query,) = taken.queries
    assert (query.id, query.row, query.relevant.tolist(), query.ignored.tolist()) == ("d", 2, [1], [2])
    assert [query.id for query in searched(grouped()).take(np.arange(5), {"d"}).queries] == ["a"]


def test_groups_stay_together_when_a_dataset_is_divided():
    data = open_searched("scene_views", groups=20, views=3, size=16)
    parts = data.divided((0.5, 0.2, 0.3))
    assert [len(part) for part in parts] == [30, 12, 18]
    groups = [set(part.groups.tolist()) for part in parts]
    assert set.union(*groups) == set(range(20)) and sum(map(len, groups)) == 20
    for part in parts:
        assert len(part.queries) == len(part)
        for query in part.queries:
            assert {part.groups[row] for row in query.relevant} == {part.groups[query.row]}
            assert len(query.relevant) == 2
    assert data.divided((0.5, 0.2, 0.3), seed=1)[0].ids != parts[0].ids
    with pytest.raises(UserError, match="expected shares above 0 with the sum 1"):
        data.divided((0.5, 0.2, 0.2))
    with pytest.raises(UserError, match="no groups to divide it by"):
        SearchedImages("toy", ["a"], [b""], []).divided((0.5, 0.5))


def test_mistakes_are_named():
    query = Query("q", np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(UserError, match="query 'q' has no image to find"):
        SearchedImages("toy", ["a"], [b""], [query])
    with pytest.raises(UserError, match="image ids occur twice: \\['a'\\]"):
        SearchedImages("toy", ["a", "a"], [b"", b""], [])
    with pytest.raises(UserError, match="as many ids as images, got 1 and 2"):
        SearchedImages("toy", ["a"], [b"", b""], [])
    with pytest.raises(UserError, match="unknown dataset to search 'photo'. Did you mean 'photos'"):
        open_searched("photo")
    assert {"oxford", "paris", "photos", "scene_views", "holidays", "ukbench", "image_groups"} <= set(searched_names())


def test_fingerprint_changes_with_queries_and_images(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", 1)
    first = open_searched("photos", tmp_path).fingerprint()
    assert first == open_searched("photos", tmp_path).fingerprint()
    assert first != open_searched("photos", tmp_path, share=0.5).fingerprint()
    write(tmp_path / "b.png", 2)
    assert first != open_searched("photos", tmp_path).fingerprint()


# Readers.


@pytest.fixture
def buildings(tmp_path):
    """Two photographs of one building, one of which is a query, one that is nearly hidden, and another one."""
    pixels = {
        name: write(tmp_path / "jpg" / f"{name}.png", seed, (20, 30))
        for seed, name in enumerate(["all_souls_000001", "all_souls_000002", "all_souls_000003", "hertford_000001"])
    }
    truth = tmp_path / "gt_files"
    truth.mkdir()
    texts = {
        "query": "oxc1_all_souls_000001 3.4 2.0 13.4 11.6\n",
        "good": "all_souls_000002\n",
        "ok": "all_souls_000001\n",
        "junk": "all_souls_000003\n",
    }
    for part, text in texts.items():
        (truth / f"all_souls_1_{part}.txt").write_text(text)
    return tmp_path, pixels


def test_buildings_have_relevant_and_ignored_images(buildings):
    folder, pixels = buildings
    data = open_searched("oxford", folder)
    assert data.rule == "trapezoid" and data.measure == "mean_ap"
    (query,) = data.queries
    named = lambda rows: [data.ids[row] for row in rows]  # noqa: E731
    assert query.id == "all_souls_1"
    assert named(query.relevant) == ["all_souls_000001", "all_souls_000002"]
    assert named(query.ignored) == ["all_souls_000003"]
    found = decode(tf.constant(read_image(query.image))).numpy()
    np.testing.assert_array_equal(found, pixels["all_souls_000001"][2:12, 3:13])


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        (
            "query",
            "oxc1_all_souls_000009 1 1 2 2",
            "has no usable query; the first that is missing: image all_souls_000009: the ground truth names it, but",
        ),
        ("query", "oxc1_all_souls_000001 1 1 2", "expected a name and four numbers"),
        ("query", "oxc1_all_souls_000001 1 1 nan 2", "expected a name and four numbers"),
        ("query", "", "expected a name and four numbers"),
        ("query", b"\xff", "query.txt:1: expected UTF-8 text"),
        ("ok", b"all_souls_000001\n\xff", "ok.txt:2: expected UTF-8 text"),
        ("good", "", "query 'all_souls_1' has no image to find"),
        ("junk", None, "no such file"),
    ],
)
def test_broken_ground_truth_is_named(buildings, part, text, message):
    folder, _ = buildings
    file = folder / "gt_files" / f"all_souls_1_{part}.txt"
    if not text and part == "good":
        (folder / "gt_files" / "all_souls_1_ok.txt").write_text("")
    file.unlink() if text is None else file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        open_searched("paris", folder)
    for query in folder.rglob("*_query.txt"):
        query.unlink()
    with pytest.raises(UserError, match=r"has no files \*_query.txt"):
        open_searched("paris", folder)


def test_photographs_that_were_deleted_are_left_out_and_listed(buildings):
    """Once each, though several queries name them; a query without its photograph, or without any to find, goes too."""
    folder, _ = buildings
    truth = folder / "gt_files"
    others = {
        "all_souls_2": ("all_souls_000009 1 1 9 9", "all_souls_000002", "", ""),
        "all_souls_3": ("hertford_000001 1 1 9 9", "all_souls_000008 all_souls_000009", "all_souls_000008", ""),
        "all_souls_4": ("hertford_000001 1 1 9 9", "all_souls_000001 all_souls_000009", "", "all_souls_000007"),
    }
    for query, texts in others.items():
        for part, text in zip(("query", "good", "ok", "junk"), texts, strict=True):
            (truth / f"{query}_{part}.txt").write_text(text)
    (folder / "jpg" / "all_souls_000003.png").unlink()
    data = open_searched("paris", folder)
    found = {
        query.id: [[data.ids[row] for row in rows] for rows in (query.relevant, query.ignored)]
        for query in data.queries
    }
    assert found == {
        "all_souls_1": [["all_souls_000001", "all_souls_000002"], []],
        "all_souls_4": [["all_souls_000001"], []],
    }
    assert all(rows.dtype == np.int64 for query in data.queries for rows in (query.relevant, query.ignored))
    missing = "the ground truth names it, but there is no such file"
    assert sorted(data.skipped) == [
        *(f"image all_souls_00000{number}: {missing}" for number in (3, 7, 8, 9)),
        *(f"query all_souls_{number}: it, or all it should find, is missing" for number in (2, 3)),
    ]


def test_parts_of_photographs_are_the_queries_of_any_folder(tmp_path):
    pixels = {
        f"sub/{name}.png": write(tmp_path / "sub" / f"{name}.png", seed, (20, 30)) for seed, name in enumerate("abc")
    }
    data = open_searched("photos", tmp_path, crops=2, share=0.5)
    assert data.ids == list(pixels) and len(data.queries) == 2
    for query in data.queries:
        (row,) = query.relevant
        part = decode(tf.constant(read_image(query.image))).numpy()
        whole = pixels[data.ids[row]]
        assert abs(part.shape[0] - 10) <= 1 and abs(part.shape[1] - 15) <= 1
        windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
        assert (windows == part).all((-1, -2, -3)).any()
    assert len(open_searched("photos", tmp_path).queries) == 3
    with pytest.raises(UserError, match="expected crops >= 1 and a share above 0"):
        open_searched("photos", tmp_path, share=1.5)


def test_photographs_whose_names_are_no_utf_8_are_skipped_and_listed(tmp_path):
    write(tmp_path / "ä.png")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    write(tmp_path / "b.png")
    os.rename(tmp_path / "b.png", odd)
    data = open_searched("photos", tmp_path)
    assert data.ids == ["ä.png"] and len(data.queries) == 1
    assert data.skipped == [r"image caf\xe9.png: expected a name in UTF-8; rename the file"]
    (tmp_path / "ä.png").unlink()
    with pytest.raises(UserError, match=r"there is no usable image; the first: image caf\\xe9.png"):
        open_searched("photos", tmp_path)


def test_a_part_that_cannot_be_cut_is_named(tmp_path):
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png of \d+ bytes, pixels 50 0 60 5: the box holds no pixel"):
        CroppedImage(tmp_path / "a.png", (50, 0, 60, 5)).read_bytes()
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:80])
    with pytest.raises(UserError, match="b.png: it does not decode, it is damaged or cut off$"):
        CroppedImage(tmp_path / "b.png", (0, 0, 1, 1), relative=True).read_bytes()
    names = {CroppedImage(tmp_path / "a.png", (0, 0, 1, 1), relative=relative).name for relative in (True, False)}
    assert len(names) == 2


def test_views_keep_what_is_there_and_move_it():
    scene = sample_scene((0, 17, 4))
    views = [seen(scene, view, 0.2) for view in range(3)]
    for view in views:
        assert [(thing.kind, thing.colour, thing.texture) for thing in view.objects] == [
            (thing.kind, thing.colour, thing.texture) for thing in scene.objects
        ]
        assert all(0.05 <= place <= 0.95 for thing in view.objects for place in thing.centre)
    assert len({view.objects for view in views}) == 3
    assert seen(scene, 1, 0.2) == views[1]
    still = seen(scene, 0, 0.0)
    np.testing.assert_allclose([t.centre for t in still.objects], [t.centre for t in scene.objects], atol=1e-12)
    data = open_searched("scene_views", groups=2, views=2, size=16)
    assert data.ids == ["00000-0", "00000-1", "00001-0", "00001-1"]
    assert decode(tf.constant(data.images[0].read_bytes())).shape == (16, 16, 3)
    assert len({image.read_bytes() for image in data.images}) == 4
    with pytest.raises(UserError, match="drawn, not read"):
        open_searched("scene_views", ".")
    with pytest.raises(UserError, match="views >= 2"):
        open_searched("scene_views", views=1)


def test_coil_and_orl_are_groups_of_images(real_data):
    coil = open_searched("image_groups", real_data / "COIL20_32" / "coil20", pattern="(obj[0-9]+)__")
    assert coil.counts() == {"images": 1000, "queries": 1000}
    assert {len(query.relevant) for query in coil.queries} == {49}
    faces = open_searched("image_groups", real_data / "ORL_faces" / "att_faces")
    assert faces.counts() == {"images": 390, "queries": 390}
    assert {len(query.relevant) for query in faces.queries} == {9}
