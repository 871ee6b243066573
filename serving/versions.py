"""Version folders below a model's base path: which there are, which are whole, which are wanted."""

from __future__ import annotations

import dataclasses
import enum
import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from serving.manifest import has_manifest, missing_files
from tfthesis.errors import UserError

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
_MAX_INT64 = 2**63 - 1
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")

logger = logging.getLogger(__name__)

#: Size and time of change of every file of a version.
Snapshot = dict[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which versions are served.

    Attributes:
        kind: "latest" serves the `count` highest, "all" every one, "specific" those of `versions`.
    """

    kind: str = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, present: Collection[int]) -> set[int]:
        """Return the numbers among `present` that are to be served."""
        if self.kind == "specific":
            return set(self.versions) & set(present)
        ranked = sorted(present, reverse=True)
        return set(ranked if self.kind == "all" else ranked[: self.count])


def version_number(name: str) -> int | None:
    """Return the number that a whole folder name spells, as an int64; None for any other name."""
    if not _NUMBER.fullmatch(name):
        return None
    number = int(name)
    return number if number <= _MAX_INT64 else None


def list_versions(base_path: Path) -> dict[int, Path]:
    """Return the folder of each version below `base_path`; `00000123` is version 123.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    found: dict[int, Path] = {}
    for child in sorted(base_path.iterdir()):
        number = version_number(child.name)
        if number is None or not child.is_dir():
            continue
        if number in found:
            logger.warning("%s and %s are the same version; the first is used", found[number], child)
        found.setdefault(number, child)
    return found


def take_snapshot(path: Path) -> Snapshot:
    """Return size and time of change of every file below `path`; a file that just went away is left out."""
    return dict(_walk(path))


def _walk(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for folder, _, files in os.walk(path, followlinks=True):
        for name in files:
            file = os.path.join(folder, name)
            try:
                status = os.stat(file)
            except FileNotFoundError:
                continue
            yield os.path.relpath(file, path), (status.st_size, status.st_mtime_ns)


class Look(enum.Enum):
    """What a look at a version folder told."""

    WHOLE = enum.auto()
    SETTLING = enum.auto()
    INCOMPLETE = enum.auto()


class CopyWatch:
    """Tells whole version folders from those that are still being copied.

    With a manifest a version is whole when all its files have their sizes. Without one it is whole when it
    has a graph and nothing about it changed between two looks.
    """

    def __init__(self):
        self._last: dict[Path, Snapshot] = {}
        self._said: dict[Path, str] = {}

    def look(self, path: Path, snapshot: Snapshot) -> Look:
        """Judge the version in `path`, of which `snapshot` was just taken."""
        before, self._last[path] = self._last.get(path), snapshot
        if has_manifest(path):
            return self._compare(path)
        if not any(name in snapshot for name in _GRAPHS):
            self._say(path, f"{path} is not a SavedModel, or not yet: it has no saved_model.pb")
            return Look.INCOMPLETE
        return Look.WHOLE if before == snapshot else Look.SETTLING

    def _compare(self, path: Path) -> Look:
        try:
            missing = missing_files(path)
        except (OSError, UserError) as error:
            self._say(path, str(error))
            return Look.INCOMPLETE
        if missing:
            self._say(path, f"{path} is incomplete: {missing[0]} is not there in the size its manifest says")
            return Look.INCOMPLETE
        return Look.WHOLE

    def forget(self, present: Collection[Path]) -> None:
        """Drop what is known of folders that are no longer among `present`."""
        for path in set(self._last) - set(present):
            self._last.pop(path)
            self._said.pop(path, None)

    def _say(self, path: Path, message: str) -> None:
        # Once, not on every look.
        if self._said.get(path) != message:
            self._said[path] = message
            logger.warning(message)
