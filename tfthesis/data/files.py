"""Reading the small files of datasets, with errors that name file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def read_text(path: Path) -> str:
    """Return a UTF-8 file as text.

    Raises:
        UserError: it is missing or not UTF-8; the message names the file and the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: expected UTF-8 text, got the byte {data[error.start]:#04x}") from error


def read_captions(path: Path) -> list[str]:
    """Return the captions of a file, one a line; empty lines are allowed at its end only.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or a line holds no word.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not lines:
        raise UserError(f"{path}: expected one caption a line, got an empty file")
    for number, line in enumerate(lines, 1):
        if not has_word(line):
            raise UserError(f"{path}:{number}: expected a caption, got {line!r}")
    return lines


def has_word(text: str) -> bool:
    """Return whether there is a letter or a digit in `text`."""
    return re.search(r"[^\W_]", text) is not None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty, stripped."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return a JSON object that has `keys`.

    Raises:
        UserError: the file is missing, no JSON (with the line), or lacks a key.
    """
    try:
        values = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            raise UserError(f"{path}: expected a JSON object with {', '.join(keys)}; {key!r} is missing")
    return values


def read_features(path: Path, width: int | None = None) -> np.ndarray:
    """Return a `.npy` file of features as an array `[N, D]` or `[N, R, D]` that stays on disk.

    Args:
        path: the file.
        width: expected D; None takes any.

    Raises:
        UserError: missing, damaged, objects instead of numbers, or another shape or width than expected.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a .npy file of numbers: {error}") from error
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{path}: expected real features [N, D], got {array.dtype} {array.shape}")
    check_width(path, array, width)
    return array


def check_width(path: Path, array: np.ndarray, width: int | None) -> None:
    """Raise a `UserError` that names the file if the last axis is not `width`; None accepts any."""
    if width is not None and array.shape[-1] != width:
        raise UserError(f"{path}: expected features of width {width}, got {array.shape[-1]}")


def check_image(path: Path) -> str | None:
    """Return why an image file cannot be used, without opening it; None if it can."""
    try:
        size = path.stat().st_size
    except OSError as error:
        return error.strerror or str(error)
    return None if size else "empty file"


def image_root(directory: Path, folders: Sequence[str], names: Sequence[str]) -> Path:
    """Return the first of `folders` of `directory` that holds one of the images `names`.

    Raises:
        UserError: none does.
    """
    for folder in folders:
        root = directory / folder
        if root.is_dir() and any((root / name).is_file() for name in names):
            return root
    tried = ", ".join(str(directory / folder) for folder in folders)
    raise UserError(f"no image such as {names[0] if names else '(none listed)'} found; looked in {tried}")
