"""Broken galleries are refused with the item's name."""

import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.method import Gallery
from tfthesis.retrieval.neighbours import build_neighbours, check_gallery

GOOD = {"ids": ["a", "b"], "vectors": np.eye(2), "payload": ["", "ß"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "a"]}, "unique names, got 'a' in rows 0 and 1"),
        ({"ids": ["a"]}, "as many ids as vectors and payloads"),
        ({"payload": ["x"]}, "as many ids as vectors and payloads"),
        ({"ids": ["a", 3]}, "gallery ids: expected text, got int 3 in row 1"),
        ({"payload": ["a", None]}, "gallery payload: expected text, got NoneType"),
        ({"ids": ["a", "\ud800"]}, "row 1 is not valid Unicode"),
        ({"vectors": np.array([[0, 1], [np.nan, 0]])}, "1 vectors hold NaN or infinity, the first is of item 'b'"),
        ({"vectors": np.array([[0, np.inf], [0, 0]])}, "of item 'a'"),
        ({"vectors": np.array([[0, 1e39], [0, 0]])}, "of item 'a'"),
        ({"vectors": np.zeros(2)}, r"expected shape \[items, width\], got \[2\]"),
        ({"vectors": np.zeros((2, 0))}, r"got \[2, 0\]"),
        ({"vectors": [[1, 2], [3]]}, "expected numbers of shape"),
        ({"vectors": [["x"], ["y"]]}, "expected numbers of shape"),
        ({"ids": [], "payload": [], "vectors": np.zeros((0, 2))}, "it has no items"),
    ],
)
def test_broken_galleries_are_refused(change, message):
    with np.errstate(over="ignore"), pytest.raises(UserError, match=message):
        build_neighbours(Gallery(**{**GOOD, **change}))


def test_vectors_become_float32():
    assert check_gallery(Gallery(**GOOD)).dtype == np.float32


def test_unknown_kind_suggests_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'exact'"):
        build_neighbours(Gallery(**GOOD), "exakt")
