"""A folder a group of images that show the same, such as the views of an object or the pictures of a person."""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.grouped_images import GroupedImages, of_groups
from tfthesis.data.image_files import grouped_files
from tfthesis.data.image_text import required

GROUPED = {
    "image_groups": (
        "GROUP/*.jpg (also .jpeg, .png, .bmp, .gif), or all files in one folder with a pattern that finds the group"
    )
}


def open_grouped(name: str, directory: Path | None = None, *, pattern: str = "") -> GroupedImages:
    """Return the images below a folder, each a query that should find the others of its group.

    Args:
        name: "image_groups".
        directory: with the folders of the groups.
        pattern: of `tfthesis.data.image_files.grouped_files`, such as `(obj[0-9]+)__` for COIL-20's files.

    Raises:
        UserError: there are no images, or a group has a single one.
    """
    folder = required(directory, name, GROUPED[name])
    return of_groups(name, grouped_files(folder, pattern), folder, source={"pattern": pattern})
