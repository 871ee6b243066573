"""Image files as they are stored, those below a folder, and what groups them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from tfthesis.data.image_header import PNG_SIGNATURE
from tfthesis.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class Stored(NamedTuple):
    """An image as its file has it: PIL's name of the mode, bits a channel (8 where it is no PNG), and the values."""

    mode: str
    bits: int
    values: np.ndarray


def read_stored(path: Path) -> Stored:
    """Return the values of an image file without a conversion; PIL spreads grey of fewer than 8 bits over 0..255.

    Raises:
        UserError: no such file, or it is no whole picture.
    """
    try:
        with PIL.Image.open(path) as image:
            mode, values = image.mode, np.array(image)
        with path.open("rb") as file:
            head = file.read(26)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{path}: {error}") from error
    return Stored(mode, head[24] if head.startswith(PNG_SIGNATURE) else 8, values)


def image_files(folder: Path) -> list[Path]:
    """Return the image files below `folder`, at any depth, in the order of their paths.

    Raises:
        UserError: there is none.
    """
    found = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    if not found:
        raise UserError(f"{folder}: no images; they end in {', '.join(ENDINGS)}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def grouped_files(folder: Path, pattern: str = "") -> dict[str, list[Path]]:
    """Return the image files below `folder` by the name of their class or group, names and files in order.

    Args:
        folder: holds a folder for each group, or all files where a pattern tells the groups.
        pattern: regular expression with one group in parentheses, which finds the name in a file's path below `folder`;
            empty takes the path of the file's own folder.

    Raises:
        UserError: there are no images, the pattern is no such expression, or it finds no name in a file's path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"option pattern: {pattern!r} is no regular expression: {error}") from error
    if pattern and expression.groups != 1:
        raise UserError(f"option pattern: expected one group in parentheses, got {pattern!r}")
    groups: dict[str, list[Path]] = {}
    for file in image_files(folder):
        path = file.relative_to(folder)
        if pattern:
            found = expression.search(path.as_posix())
            name = (found[1] or "") if found else ""
        else:
            name = path.parent.as_posix().removeprefix(".")
        if not name and pattern:
            raise UserError(f"{file}: pattern {pattern!r} finds no name in its path below {folder}")
        if not name:
            raise UserError(
                f"{file}: it lies in no folder of a class; move it into one, or say with the option pattern where a "
                "file's name tells its class"
            )
        groups.setdefault(name, []).append(file)
    return dict(sorted(groups.items()))


def drawn_by_lot(names: Sequence[str], seed: int) -> list[int]:
    """Return the places of `names` in an order that depends on each name and the seed alone."""
    lots = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names]
    return sorted(range(len(names)), key=lots.__getitem__)
