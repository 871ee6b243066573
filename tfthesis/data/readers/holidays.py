"""INRIA Holidays: groups of photographs of one scene, the first of each the query."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.data.grouped_images import GroupedImages
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.errors import UserError

GROUPED = {"holidays": "the images 100000.jpg, 100001.jpg and so on, in any folders below"}
# The last digits of a name number the images of a group.
_NUMBERS = 100


def open_grouped(name: str, directory: Path | None = None) -> GroupedImages:
    """Return the photographs: 500 queries and 991 others of the whole set (Liu 2018, Table 2.5).

    A name without its last two digits is the group's; the image whose two digits are 00 is its query. As in the
    dataset's own evaluation a query is not in its list and average precision is that of the trapezoids.

    Args:
        name: "holidays".
        directory: with the images.

    Raises:
        UserError: a file's name is no number, there are two of a name, or a query has no other image in its group.
    """
    files = image_files(required(directory, name, GROUPED[name]))
    for file in files:
        if not file.stem.isdecimal():
            raise UserError(f"dataset {name!r}: {file}: expected a number such as 100001.jpg; expected {GROUPED[name]}")
    numbers = np.array([int(file.stem) for file in files], np.int64)
    order = np.argsort(numbers, kind="stable")
    files, numbers = [files[row] for row in order.tolist()], numbers[order]
    groups = numbers // _NUMBERS
    queries = np.flatnonzero(numbers % _NUMBERS == 0)
    without = np.setdiff1d(groups, groups[queries])
    if len(without):
        raise UserError(f"dataset {name!r}: group {without[0]} has no query {without[0]}00.jpg")
    return GroupedImages(name, [file.stem for file in files], files, groups, queries, rule="trapezoid")
