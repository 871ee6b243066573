"""Pieces of a list of images: they cover it, and a change of one image changes few of them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfthesis.data.searched_images import open_searched
from tfthesis.deep_index.data import Axis, IndexedImageData
from tfthesis.deep_index.pieces import cut_by_content, regrouped
from tfthesis.encoders import feature_cache, open_encoder


def digests(*names):
    return [hashlib.sha256(str(name).encode()).digest() for name in names]


@given(st.integers(0, 60), st.integers(2, 12))
def test_pieces_cover_the_list_in_order(count, most):
    pieces = cut_by_content(digests(*range(count)), most)
    assert [place for piece in pieces for place in range(piece.start, piece.stop)] == list(range(count))
    assert all(0 < piece.stop - piece.start <= most for piece in pieces)
    assert len({piece.key for piece in pieces}) == len(pieces)


@given(st.integers(0, 999), st.sampled_from(["comes", "goes", "changes"]))
def test_one_image_changes_the_pieces_around_it_alone(place, what):
    names = list(range(1000))
    before = {piece.key for piece in cut_by_content(digests(*names), 32)}
    names[place : place + (what != "comes")] = [] if what == "goes" else ["new"]
    after = cut_by_content(digests(*names), 32)
    new = [piece for piece in after if piece.key not in before]
    # What lies between two ends that images ask for is cut anew: at a mean of 16 images up to 78.
    assert sum(piece.stop - piece.start for piece in new) <= 100
    assert 70 <= len(after) <= 85


def test_the_key_is_of_the_images_and_their_order():
    one, two = cut_by_content(digests("a", "b"), 100), cut_by_content(digests("b", "a"), 100)
    assert one == cut_by_content(digests("a", "b"), 100) and one[-1].key != two[-1].key


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 9), st.data())
def test_groups_are_the_same_however_pieces_are_cut(good, size, data):
    kept = np.flatnonzero(good)
    bounds = sorted(data.draw(st.sets(st.integers(1, len(kept) - 1)))) if len(kept) > 1 else []
    pieces = [(part, [part * 2.0, np.stack([part, part], 1)]) for part in np.split(kept, bounds) if len(part)]
    groups = list(regrouped(iter(pieces), size))
    expected = [kept[kept // size == group] for group in np.unique(kept // size)]
    assert [places.tolist() for places, _ in groups] == [places.tolist() for places in expected]
    for places, (first, second) in groups:
        np.testing.assert_array_equal(first, places * 2.0)
        np.testing.assert_array_equal(second, np.stack([places, places], 1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty-four photographs in a folder, pieces of at most sixteen, and a cache of their own."""
    monkeypatch.setattr("tfthesis.deep_index.data._PIECE", 16)
    monkeypatch.setenv("TFTHESIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for number in range(24):
        photograph(tmp_path / "photos" / f"{number:03}.bmp", number)
    return tmp_path / "photos"


def photograph(path, seed):
    """Write noise; a BMP has the same size whatever it shows."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def read(monkeypatch):
    """The names of images that are read for their features, queries aside."""
    names, whole = [], feature_cache.read_image

    def reading(source):
        names.extend([source.name] if source.name.endswith(".bmp") else [])
        return whole(source)

    monkeypatch.setattr(feature_cache, "read_image", reading)
    return names


def features_of(folder):
    """Return the features of photographs by name, and of parts that are queries."""
    dataset, encoder = open_searched("photos", folder, crops=30), open_encoder("pixels_patches")
    data = IndexedImageData(dataset, {"pixels": encoder}, [Axis("pixels", 0, 64)], words=5)
    names = [*data.split("test").ids, *(query.id for query in data.split("test").queries)]
    asked = [features for _, (features,) in data.query_features("test")]
    return dict(zip(names, np.concatenate([*(found for _, (found,) in data.features("test")), *asked]), strict=True))


def test_a_new_photograph_is_computed_with_its_piece_alone(folder, read):
    first = features_of(folder)
    assert sorted(read) == [f"{number:03}.bmp" for number in range(24)]
    read.clear()
    photograph(folder / "012b.bmp", 100)
    second = features_of(folder)
    assert "012b.bmp" in read and len(read) <= 16
    assert set(second) == {*first, "012b.bmp", "part of 012b.bmp"}
    assert all(np.array_equal(second[name], first[name]) for name in first if not name.startswith("part"))
    read.clear()
    (folder / "012b.bmp").unlink()
    assert features_of(folder).keys() == first.keys() and not read


def test_a_changed_photograph_of_the_same_name_and_size_is_computed_anew_and_so_is_its_part(folder, read):
    first, size = features_of(folder), (folder / "012.bmp").stat().st_size
    photograph(folder / "012.bmp", 100)
    assert (folder / "012.bmp").stat().st_size == size
    read.clear()
    second = features_of(folder)
    assert "012.bmp" in read and len(read) <= 16
    changed = {name for name, row in first.items() if not np.array_equal(second[name], row)}
    assert changed == {"012.bmp", "part of 012.bmp"}
