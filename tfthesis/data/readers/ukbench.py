"""UKBench: four photographs of each object, every one a query."""

from __future__ import annotations

import re
from pathlib import Path

from tfthesis.data.grouped_images import GroupedImages, of_groups
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.errors import UserError
from tfthesis.metrics.ranked_lists import NS_IMAGES

GROUPED = {"ukbench": "the images ukbench00000.jpg, ukbench00001.jpg and so on, there or in full/"}


def open_grouped(name: str, directory: Path | None = None, *, groups: int = 0) -> GroupedImages:
    """Return the photographs, 10,200 of the whole set (Liu 2018, Table 2.5); four numbers in a row are one group.

    Args:
        name: "ukbench".
        directory: with the images.
        groups: the first so many groups alone; 0 takes all.

    Raises:
        UserError: a file's name is another, or a group has other than four images.
    """
    folder = required(directory, name, GROUPED[name])
    if groups < 0:
        raise UserError(f"dataset {name!r}: groups: expected 0 or more, got {groups}")
    folder = folder / "full" if (folder / "full").is_dir() else folder
    found: dict[int, list[Path]] = {}
    for file in image_files(folder):
        number = re.fullmatch(r"ukbench(\d+)", file.stem)
        if not number:
            raise UserError(f"dataset {name!r}: {file}: expected a name such as ukbench00000.jpg")
        found.setdefault(int(number[1]) // NS_IMAGES, []).append(file)
    chosen = sorted(found)[: groups or None]
    for group in chosen:
        if len(found[group]) != NS_IMAGES:
            raise UserError(
                f"dataset {name!r}: expected four images from ukbench{NS_IMAGES * group:05d} on, "
                f"got {[file.name for file in found[group]]}"
            )
    return of_groups(
        name, {str(group): found[group] for group in chosen}, folder, measure="ns_score", source={"groups": groups}
    )
