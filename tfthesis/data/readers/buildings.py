"""Oxford and Paris Buildings: photographs, and for each query the good, the passable and the junk ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from tfthesis.data.cropped_image import CroppedImage
from tfthesis.data.files import read_text
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.data.searched_images import Query, SearchedImages
from tfthesis.errors import UserError

_LAYOUT = "the images and the files NAME_query.txt, NAME_good.txt, NAME_ok.txt and NAME_junk.txt, in any folders below"
SEARCHED = {"oxford": _LAYOUT, "paris": _LAYOUT}
# Oxford's query files put this before the names of images.
_PREFIX = "oxc1_"
_QUERY = "_query.txt"


def open_searched(name: str, directory: Path | None = None) -> SearchedImages:
    """Return the photographs: 5,062 of Oxford, 6,412 of Paris (Liu 2018, section 4.4.1), with 55 queries each.

    A query is the box that its file names, cut out of a photograph. Good and passable photographs are relevant, its own
    among them, junk is ignored, and average precision is that of the trapezoids, as in the dataset's own evaluation.

    Photographs that the ground truth names and that are not there are left out of its lists and listed, and so are
    queries that lose their own or all that they should find: some 20 of Paris are published damaged, and often deleted.

    Args:
        name: "oxford" or "paris".
        directory: with the images and the ground truth.

    Raises:
        UserError: files of the ground truth are missing or broken, or no query is left.
    """
    folder = required(directory, name, _LAYOUT)
    files = image_files(folder)
    ids = [file.stem for file in files]
    rows = {own: row for row, own in enumerate(ids)}
    asked = sorted(folder.rglob(f"*{_QUERY}"))
    if not asked:
        raise UserError(f"dataset {name!r}: {folder} has no files *{_QUERY}; expected {_LAYOUT}")
    found = [_query(file, rows, files) for file in asked]
    queries = [query for query, _ in found if query is not None]
    # An image is in the lists of several queries.
    skipped = list(dict.fromkeys(line for _, lines in found for line in lines))
    if not queries:
        raise UserError(f"dataset {name!r}: {folder} has no usable query; the first that is missing: {skipped[0]}")
    return SearchedImages(name, ids, files, queries, rule="trapezoid", skipped=skipped)


def _query(file: Path, rows: dict[str, int], files: list[Path]) -> tuple[Query | None, list[str]]:
    """Return the query of a file, None where its image or all it should find is missing, and lines on what is."""
    words = read_text(file).split()
    try:
        image, box = words[0].removeprefix(_PREFIX), tuple(float(word) for word in words[1:])
    except (ValueError, IndexError) as error:
        raise UserError(f"{file}: expected a name and four numbers, got {' '.join(words)!r}") from error
    if len(box) != 4 or not np.isfinite(box).all():
        raise UserError(f"{file}: expected a name and four numbers, got {' '.join(words)!r}")
    own = file.name.removesuffix(_QUERY)
    named = {part: _names(file.with_name(f"{own}_{part}.txt")) for part in ("good", "ok", "junk")}
    missing = [
        f"image {name}: the ground truth names it, but there is no such file"
        for name in (image, *itertools.chain(*named.values()))
        if name not in rows
    ]
    good, passable, junk = (
        np.array([rows[name] for name in names if name in rows], np.int64) for names in named.values()
    )
    relevant = np.union1d(good, passable)
    # Without a name there was nothing to find from the beginning, which is a mistake in the ground truth.
    if image not in rows or (not len(relevant) and (named["good"] or named["ok"])):
        return None, [*missing, f"query {own}: it, or all it should find, is missing"]
    source = CroppedImage(files[rows[image]], box)
    return Query(own, relevant, np.setdiff1d(junk, relevant), image=source), missing


def _names(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected {_LAYOUT}")
    return read_text(file).split()
