"""Folders that appear whole or not at all, under the next free version number."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from tfthesis.errors import UserError

HIDDEN = ".unfinished-"
MAX_VERSION = 2**63 - 1

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", re.ASCII)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)

logger = logging.getLogger(__name__)


def check_model_name(name: str) -> str:
    """Return `name` if a folder, a URL and a model server can all take it.

    Raises:
        UserError: it is not 1 to 100 ASCII letters, digits, `_`, `.` or `-` that begin with a letter.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"name of the export: expected up to 100 letters, digits, '_', '.' or '-', the first a letter, got {name!r}"
        )
    return name


def versions(model: Path) -> list[int]:
    """Return the version numbers in the folder of a model, rising; `00000123` is version 123."""
    if not model.is_dir():
        return []
    numbers = [int(child.name) for child in model.iterdir() if re.fullmatch(r"[0-9]+", child.name)]
    return sorted(number for number in numbers if number <= MAX_VERSION)


def publish(model: Path, write: Callable[[Path], None], version: int | None = None) -> Path:
    """Let `write` fill a hidden folder in `model`, then make it visible as a version.

    A model server that polls `model` sees the whole version or none, and exporters that run at the same
    time get different numbers.

    Args:
        model: folder of the model's versions; made where it is missing.
        write: fills the folder it is given.
        version: number to publish; by default one more than the highest there is.

    Returns:
        The version's folder.

    Raises:
        UserError: the disk is full, or the version exists. Whatever is raised, nothing is left behind.
    """
    if version is not None:
        _check_version(model, version)
    is_new = not model.exists()
    hidden = model / f"{HIDDEN}{uuid.uuid4().hex}"
    try:
        hidden.mkdir(parents=True)
        write(hidden)
        _sync(hidden)
        return _reveal(hidden, model, version)
    except BaseException as error:
        _remove(hidden, model if is_new else None)
        if _is_disk_full(error):
            raise UserError(f"{model}: no space left on the device; nothing was exported") from error
        raise


def _check_version(model: Path, version: int) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_VERSION:
        raise UserError(f"version: expected an integer from 1 to {MAX_VERSION}, got {version!r}")
    if version in versions(model):
        raise UserError(f"version: {model} has a version {version} already; choose another or leave it out")


def _reveal(hidden: Path, model: Path, version: int | None) -> Path:
    while True:
        number = version if version is not None else max(versions(model), default=0) + 1
        if number > MAX_VERSION:
            raise UserError(f"{model}: no version number is left above {MAX_VERSION}; remove some")
        target = model / str(number)
        try:
            # The system call refuses a folder that is not empty, so of two exporters one wins the number.
            os.rename(hidden, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            if version is not None:
                raise UserError(f"version: {model} has a version {version} already") from error
            continue
        _sync_folder(model)
        return target


def _sync(folder: Path) -> None:
    """Bring every file and folder below `folder` to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(Path(parent) / name, "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(hidden: Path, model: Path | None) -> None:
    """Delete `hidden`, and the folder `model` where it is empty; a failure here must not hide the first one."""
    if hidden.exists():
        try:
            shutil.rmtree(hidden)
        except OSError as error:
            logger.warning("%s is left behind: %s", hidden, error)
    # Another exporter may be at work in it, then it stays.
    if model is not None and model.exists() and not any(model.iterdir()):
        model.rmdir()


def _is_disk_full(error: BaseException) -> bool:
    """Whether an error means a full disk; TensorFlow tells so in the text of its own errors only."""
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    return type(error).__module__.startswith("tensorflow") and "No space left on device" in str(error)
