"""Any folder of photographs, to be searched; parts of some of them are the queries that measure the search."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfthesis.data.cropped_image import CroppedImage
from tfthesis.data.image_files import drawn_by_lot, image_files
from tfthesis.data.image_text import required
from tfthesis.data.searched_images import Query, SearchedImages
from tfthesis.errors import UserError

SEARCHED = {"photos": "images (.jpg, .jpeg, .png, .bmp, .gif), in any folders below"}


def open_searched(
    name: str, directory: Path | None = None, *, crops: int = 100, share: float = 0.7, seed: int = 0
) -> SearchedImages:
    """Return the photographs below a folder, each by its path there.

    Nobody says which of them belong together. What can be measured is whether a part of a photograph finds the whole:
    of `crops` photographs, drawn by lot, a box at a random place is cut out and searched with. Files whose names are no
    UTF-8 are left out and listed: no index or answer could name them.

    Args:
        name: "photos".
        directory: with the images.
        crops: number of queries; fewer where there are fewer images.
        share: of either side that the box has.
        seed: of the photographs and the places.

    Raises:
        UserError: there are no images with names in UTF-8, or an option is out of range.
    """
    if crops < 1 or not 0 < share <= 1:
        raise UserError(f"{name}: expected crops >= 1 and a share above 0 up to 1, got {crops} and {share}")
    folder = required(directory, name, SEARCHED[name])
    files, skipped = [], []
    for file in image_files(folder):
        own = file.relative_to(folder).as_posix()
        try:
            own.encode()
        except UnicodeEncodeError:
            own = os.fsencode(own).decode(errors="backslashreplace")
            skipped.append(f"image {own}: expected a name in UTF-8; rename the file")
        else:
            files.append(file)
    if not files:
        raise UserError(f"{folder}: there is no usable image; the first: {skipped[0]}")
    ids = [file.relative_to(folder).as_posix() for file in files]
    queries = []
    for row in sorted(drawn_by_lot(ids, seed)[:crops]):
        left, top = np.random.default_rng((seed, row)).uniform(0, 1 - share, 2).tolist()
        part = CroppedImage(files[row], (left, top, left + share, top + share), relative=True)
        queries.append(Query(f"part of {ids[row]}", np.array([row]), np.zeros(0, np.int64), image=part))
    source = {"crops": crops, "share": share, "seed": seed}
    return SearchedImages(name, ids, files, queries, skipped=skipped, source=source)
