"""Oxford and Paris Buildings: photographs, and for each query the good, the passable and the junk ones."""

from __future__ import annotations

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

    Args:
        name: "oxford" or "paris".
        directory: with the images and the ground truth.

    Raises:
        UserError: files of the ground truth are missing or broken, or name images that are not there.
    """
    folder = required(directory, name, _LAYOUT)
    files = image_files(folder)
    ids = [file.stem for file in files]
    rows = {own: row for row, own in enumerate(ids)}
    asked = sorted(folder.rglob(f"*{_QUERY}"))
    if not asked:
        raise UserError(f"dataset {name!r}: {folder} has no files *{_QUERY}; expected {_LAYOUT}")
    queries = [_query(file, rows, files) for file in asked]
    return SearchedImages(name, ids, files, queries, rule="trapezoid")


def _query(file: Path, rows: dict[str, int], files: list[Path]) -> Query:
    words = read_text(file).split()
    try:
        image, box = words[0].removeprefix(_PREFIX), tuple(float(word) for word in words[1:])
    except (ValueError, IndexError) as error:
        raise UserError(f"{file}: expected a name and four numbers, got {' '.join(words)!r}") from error
    if len(box) != 4 or not np.isfinite(box).all():
        raise UserError(f"{file}: expected a name and four numbers, got {' '.join(words)!r}")
    if image not in rows:
        raise UserError(f"{file}: there is no image {image!r}")
    good, passable, junk = (_rows(file, part, rows) for part in ("good", "ok", "junk"))
    relevant = np.union1d(good, passable)
    source = CroppedImage(files[rows[image]], box)
    return Query(file.name.removesuffix(_QUERY), relevant, np.setdiff1d(junk, relevant), image=source)


def _rows(query: Path, part: str, rows: dict[str, int]) -> np.ndarray:
    file = query.with_name(f"{query.name.removesuffix(_QUERY)}_{part}.txt")
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected {_LAYOUT}")
    names = read_text(file).split()
    missing = [name for name in names if name not in rows]
    if missing:
        raise UserError(f"{file}: there is no image {missing[0]!r} (of {len(missing)} that are missing)")
    return np.unique(np.array([rows[name] for name in names], np.int64))
