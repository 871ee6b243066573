"""Folders in which encoders keep what took long to compute."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tfthesis.errors import UserError

CACHE_VARIABLE = "TFTHESIS_CACHE"

_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """Return $TFTHESIS_CACHE, or `tfthesis` in the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tfthesis")


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and let one process at a time compute in it; the lock of a killed one is released by the system.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("waiting for another process that computes %s", folder)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        reason = f"{error.strerror or error}; free space, or set {CACHE_VARIABLE} to another folder"
        raise UserError(f"feature cache {folder}: {reason}") from error
