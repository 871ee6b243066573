"""Checkpoints that are whole or absent, and are checked before they are believed.

A checkpoint is a folder `checkpoint-000007` with arrays, `state.json` and `manifest.json`, which holds the
size and SHA-256 of every file. It is written under a hidden name, flushed to the disk and renamed, so that a
kill, a power cut or a full disk leaves the earlier checkpoints as they were. Best weights stand in a file of
their own beside the folders, written once however many checkpoints refer to them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.errors import UserError
from training.files import describe_file, replacing, sync_folder

KEPT = 2
"""Checkpoints that are kept: one to go on from, and one should that be damaged."""

PREFIX = "checkpoint-"
Arrays = Mapping[str, np.ndarray]


class DamagedCheckpointError(Exception):
    """A checkpoint that is not what was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, verified when it was opened.

    Attributes:
        path: its folder.
        state: the JSON value that was saved with it.
    """

    path: Path
    state: dict[str, Any]

    def arrays(self, group: str) -> dict[str, np.ndarray]:
        """Return the arrays of a group, read without objects."""
        return read_arrays(self.path / f"{group}.npz")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they stand; created by the first `save`.
        note: takes a sentence for the user, such as the name of a damaged checkpoint.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda text: None):
        self.folder = folder
        self._note = note

    def save(self, state: Mapping[str, Any], groups: Mapping[str, Arrays], best: str | None = None) -> str:
        """Write a checkpoint, drop all but the last two, and return its name.

        Args:
            state: JSON values.
            groups: arrays by group and name.
            best: file of `save_best` that this state needs.

        Raises:
            UserError: the disk is full or not writable; the earlier checkpoints are as they were.
        """
        number = max((_number(path) for path in self._all("*")), default=0) + 1
        final = self.folder / f"{PREFIX}{number:06d}"
        hidden = self.folder / f".{final.name}.partial"
        try:
            self.folder.mkdir(exist_ok=True)
            hidden.mkdir()
            self._fill(hidden, state, groups, best)
            os.rename(hidden, final)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise self._failed(error) from error
        self._drop_old()
        return final.name

    def save_best(self, name: str, arrays: Arrays) -> None:
        """Write best weights to the file `name`, for the next `save` to refer to.

        Raises:
            UserError: the disk is full or not writable.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            with replacing(self.folder / name) as file:
                write_arrays(file, arrays)
        except OSError as error:
            raise self._failed(error) from error

    def read_best(self, name: str) -> dict[str, np.ndarray]:
        """Return the best weights of a checkpoint that was opened, and so verified."""
        return read_arrays(self.folder / name)

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None if there never was one.

        Damaged ones are named to the user and renamed, so that they are neither counted nor read again.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        paths = sorted(self._all("checkpoint"), key=_number, reverse=True)
        reasons = []
        for path in paths:
            try:
                return self.open(path.name)
            except DamagedCheckpointError as damage:
                reasons.append(str(damage))
                self._put_aside(path, damage)
        if not paths:
            return None
        raise UserError(
            f"no whole checkpoint is left in {self.folder}: {'; '.join(reasons)}. "
            "Restore the files, or start again in another run directory."
        )

    def open(self, name: str) -> Checkpoint:
        """Return the checkpoint `name`.

        Raises:
            DamagedCheckpointError: a file is missing, or is not what was written.
        """
        path = self.folder / name
        for file, written in _read_manifest(path)["files"].items():
            try:
                found = describe_file(path / file)
            except OSError as error:
                raise DamagedCheckpointError(f"checkpoint {path} is damaged: {file}: {error.strerror}") from error
            if found != written:
                raise DamagedCheckpointError(
                    f"checkpoint {path} is damaged: {file} has {found['bytes']} bytes and SHA-256 "
                    f"{found['sha256'][:12]}..., written were {written['bytes']} and {written['sha256'][:12]}..."
                )
        return Checkpoint(path, json.loads((path / "state.json").read_bytes()))

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for path in self.folder.glob(".*.partial"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _fill(self, hidden: Path, state: Mapping[str, Any], groups: Mapping[str, Arrays], best: str | None) -> None:
        contents = {f"{group}.npz": arrays for group, arrays in groups.items()}
        for name, arrays in contents.items():
            with replacing(hidden / name) as file:
                write_arrays(file, arrays)
        with replacing(hidden / "state.json") as file:
            file.write(json.dumps(state, indent=1).encode())
        files = {name: describe_file(hidden / name) for name in (*contents, "state.json")}
        if best:
            files[f"../{best}"] = describe_file(self.folder / best)
        with replacing(hidden / "manifest.json") as file:
            file.write(json.dumps({"files": files, "sha256": _digest(files)}, indent=1).encode())

    def _drop_old(self) -> None:
        """Remove all but the last two checkpoints, and best weights that none of them refers to."""
        paths = sorted(self._all("checkpoint"), key=_number)
        for path in paths[:-KEPT]:
            shutil.rmtree(path)
        needed = set()
        for path in paths[-KEPT:]:
            try:
                needed |= {Path(file).name for file in _read_manifest(path)["files"]}
            except DamagedCheckpointError as damage:
                self._put_aside(path, damage)
        for path in self.folder.glob("*.npz"):
            if path.name not in needed:
                path.unlink()

    def _put_aside(self, path: Path, damage: DamagedCheckpointError) -> None:
        self._note(f"{damage}; it is put aside")
        os.rename(path, path.with_name(f"damaged-{_number(path):06d}"))

    def _all(self, kind: str) -> Iterable[Path]:
        return self.folder.glob(f"{kind}-" + "[0-9]" * 6)

    def _failed(self, error: OSError) -> UserError:
        return UserError(
            f"a checkpoint could not be written to {self.folder}: {error.strerror}. The earlier "
            "checkpoints are whole: make room, then run the same command again to resume."
        )


def write_arrays(file: Any, arrays: Arrays) -> None:
    """Write arrays as an npz without objects.

    Raises:
        TypeError: an array holds objects or a type that npz does not name.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "biufcUS":
            raise TypeError(f"array {name!r}: expected numbers or strings, got dtype {array.dtype}")
    np.savez(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; objects in it are refused."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        whole = manifest["sha256"] == _digest(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged: manifest.json: {error}") from error
    if not whole:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged: manifest.json is not what was written")
    return manifest


def _digest(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
