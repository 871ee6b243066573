"""Keys of cells, and lists that are sorted and joined."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.inverted_index.cells import (
    Part,
    cell_grid,
    cell_keys,
    check_sizes,
    images_in_cells,
    joined,
    sorted_lists,
)

pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=40)


def lists_of(found):
    """Return the lists of `(key, row)` pairs, and as a dict."""
    found = sorted(found, key=lambda pair: pair[1])
    keys, rows = (np.array([pair[place] for pair in found], dtype) for place, dtype in ((0, np.int64), (1, np.int32)))
    return sorted_lists(keys, rows), {key: [r for k, r in found if k == key] for key in sorted({k for k, _ in found})}


def as_dict(lists):
    return {
        int(key): lists.postings[start:end].tolist()
        for key, start, end in zip(lists.keys, lists.offsets, lists.offsets[1:], strict=False)
    }


@hypothesis.given(pairs)
def test_postings_are_sorted_by_cell_and_image(found):
    lists, expected = lists_of(found)
    assert list(as_dict(lists).items()) == list(expected.items())
    assert images_in_cells(lists).tolist() == [len(set(rows)) for rows in expected.values()]


@hypothesis.given(pairs, st.lists(st.integers(0, 12), max_size=12, unique=True).map(sorted))
def test_the_images_of_cells_that_have_some(found, keys):
    lists, expected = lists_of(found)
    places, known = lists.places(np.array(keys, np.int64))
    assert known.tolist() == [key in expected for key in keys]
    postings, lengths = lists.images(places)
    wanted = [expected[key] for key in keys if key in expected]
    assert postings.tolist() == [row for rows in wanted for row in rows]
    assert lengths.tolist() == list(map(len, wanted))


@hypothesis.given(st.lists(pairs, min_size=1, max_size=4), st.integers(1, 30), st.data())
def test_parts_are_joined_in_small_pieces_of_whole_cells(parts, limit, data):
    made, together, first, largest = [], {}, 0, 0
    for found in parts:
        lists, expected = lists_of(found)
        kept = data.draw(st.lists(st.booleans(), min_size=6, max_size=6))
        renumbered = np.where(kept, first + np.cumsum(kept) - 1, -1).astype(np.int32)
        made.append(Part(lists, renumbered if not all(kept) else first))
        largest += max(map(len, expected.values()), default=0)
        for key, rows in expected.items():
            together.setdefault(key, []).extend(int(renumbered[row]) for row in rows if kept[row])
        first += sum(kept)
    pieces = list(joined(made, limit))
    assert all(len(piece.postings) <= limit + largest + len(made) for piece in pieces)
    merged = [item for piece in pieces for item in as_dict(piece).items()]
    assert merged == sorted((key, rows) for key, rows in together.items() if rows)


def test_keys_are_tuples_read_as_numbers():
    words = [np.array([[0, 3], [1, 2]]), np.array([[4, 4], [0, 1]]), np.array([[6, 0], [0, 5]])]
    assert cell_keys(words, (5, 5, 7)).tolist() == [[4 * 7 + 6, (3 * 5 + 4) * 7], [5 * 7, (2 * 5 + 1) * 7 + 5]]
    grid = cell_grid([np.array([[1, 2]]), np.array([[3, 0]])], (5, 5))
    assert grid.tolist() == [[8, 5, 13, 10]]


def test_keys_of_the_largest_index_do_not_overflow():
    sizes = check_sizes([2**21, 2**21, 2**20])
    last = [np.array([size - 1]) for size in sizes]
    assert cell_keys(last, sizes).item() == np.prod([int(size) for size in sizes], dtype=object) - 1


def test_codebooks_that_make_too_many_cells_are_refused():
    assert check_sizes([10_000] * 4) == (10_000,) * 4
    with pytest.raises(UserError, match=r"expected at most 2\^63 cells, got 10000 x 10000 x 10000 x 10000 x 10000"):
        check_sizes([10_000] * 5)
    with pytest.raises(UserError, match="codebooks: expected at least one"):
        check_sizes([])
