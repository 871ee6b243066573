"""The folder of an index: versions that appear whole or not at all, and are checked before they are used.

A version is a folder `1`, `2`, ... of `.npy` files and `index.json`, which holds the size and SHA-256 of every file.
It is written under a hidden name, brought to the disk and renamed; then the versions before it are removed. A process
that has mapped one of them goes on reading it, since its files live until nobody has them open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from tfthesis.errors import UserError
from tfthesis.export.publish import versions

FORMAT = 2
LOCK = "lock"
MANIFEST = "index.json"
# What names of folders begin with that are no versions yet, or no more.
_HIDDEN = ".unfinished-"
# And names of files that are being saved: another beginning, since they may lie in the folder of an index, and whoever
# locks it may not remove what another process is writing.
_SAVING = ".saving-"

_FULL = (errno.ENOSPC, errno.EDQUOT)


class GrowingArray:
    """A `.npy` file whose rows are appended; a context manager that completes it."""

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...] = ()):
        """Create the file.

        Args:
            row: shape of a row.
        """
        self.rows = 0
        self._dtype, self._row = np.dtype(dtype), row
        # Unbuffered, so that a full disk is known at once and not when the file is closed.
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, it is closed by __exit__
        self._header()

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._file:
            if exception[0] is None:
                self._file.seek(0)
                self._header()

    def append(self, rows: np.ndarray) -> None:
        """Write rows `[n, ...]` below those that are there."""
        rows = np.ascontiguousarray(rows, self._dtype)
        write(self._file, rows.reshape(-1).view(np.uint8))
        self.rows += len(rows)

    def _header(self) -> None:
        # numpy leaves room in the header for the first axis to grow.
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._row)}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, description)
        write(self._file, np.frombuffer(header.getvalue(), np.uint8))


def write(file: BinaryIO, data: np.ndarray) -> None:
    """Write all bytes of `data`, of which an unbuffered file may take a part at a time."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


@contextlib.contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill; when the block ends well it becomes the newest version in `folder`.

    What a killed process left is removed first, and the versions before the new one last.

    Raises:
        UserError: the disk is full, another process is writing to `folder`, versions of something else are in it, or it
            is a file. Whatever is raised, what was there is as it was.
    """
    _check_folder(folder)
    with _locked(folder):
        known = versions(folder)
        for version in known:
            # It would be removed in the end, and may be somebody's model.
            if not (folder / str(version) / MANIFEST).is_file():
                raise UserError(f"{folder}: {version} in it is no version of an index; choose another folder")
        number = max(known, default=0) + 1
        hidden, made = folder / f"{_HIDDEN}{number}", folder / str(number)
        try:
            with _full_disk_named(folder):
                for left in folder.glob(f"{_HIDDEN}*"):
                    _remove(left)
                hidden.mkdir()
                yield hidden
                _sync(hidden)
                os.rename(hidden, made)
                _sync_folder(folder)
                _sync_folder(folder.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.rename(made, hidden)
            shutil.rmtree(hidden, ignore_errors=True)
            if not known:
                _remove_empty(folder)
            raise
        for old in known:
            # Under another name first: what is half removed must not pass for a version.
            leaving = folder / f"{_HIDDEN}old-{old}"
            os.rename(folder / str(old), leaving)
            shutil.rmtree(leaving, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Raise a `UserError` where the block is ended by a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"{path}: no space left on the device; nothing was written") from error
        raise


def _remove_empty(folder: Path) -> None:
    """Remove a folder in which nothing but the lock is."""
    if [path.name for path in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write `index.json` with `values` (JSON) and the size and SHA-256 of every file in `folder`."""
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    text = _render({**values, "format": FORMAT, "files": files})
    with open(folder / MANIFEST, "wb", buffering=0) as file:
        write(file, np.frombuffer(text.encode(), np.uint8))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a version after comparing every file with it.

    Raises:
        UserError: a file is missing, or is not what was written.
    """
    file = folder / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected a version of an index") from None
    except ValueError as error:
        raise UserError(f"{file}: damaged, it is not JSON ({error}); build the index again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or text != _render(values):
        raise UserError(
            f"{file}: damaged, or of another format than {FORMAT}: it is not as it was written; build the index again"
        )
    for name, expected in values["files"].items():
        path = folder / Path(name).name
        if not path.is_file():
            raise UserError(f"{path}: no such file; build the index again")
        found = _describe(path)
        if found != expected:
            raise UserError(f"{path}: damaged: expected {expected}, found {found}; build the index again")
    return values


def newest(folder: Path) -> Path:
    """Return the newest version in `folder`; a `UserError` says that there is none."""
    _check_folder(folder)
    known = versions(folder)
    if not known:
        raise UserError(f"{folder}: expected the folder of an index, found no version in it; build one first")
    return folder / str(known[-1])


def _check_folder(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.exists():
            if not path.is_dir():
                raise UserError(f"{folder}: expected the folder of an index, but {path} is a file")
            return


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a file, whole or not at all: the SHA-256 of an `.npz` file in a line of its own, and that file.

    Raises:
        UserError: the disk is full, or the folder of `path` is missing. Then `path` is as it was.
    """
    hidden = path.with_name(f"{_SAVING}{os.getpid()}-{path.name}")
    try:
        with _full_disk_named(path), open(hidden, "wb", buffering=0) as file:
            content = io.BytesIO()
            np.savez(content, **arrays)
            line = f"{hashlib.sha256(content.getbuffer()).hexdigest()}\n".encode()
            write(file, np.frombuffer(line + content.getbuffer(), np.uint8))
            os.fsync(file.fileno())
        os.replace(hidden, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            hidden.unlink()
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{path}: expected a path in a folder that exists, found no {path.parent}") from error
        raise


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the arrays `names` of a file that `save_arrays` wrote; objects in it are refused.

    Raises:
        UserError: there is no such file, it is damaged, or it holds other arrays.
    """
    try:
        line, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    if line != hashlib.sha256(content).hexdigest().encode():
        raise UserError(f"{path}: damaged, or no file of arrays: it is not as it was written")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if sorted(arrays) != sorted(names):
        raise UserError(f"{path}: expected the arrays {sorted(names)}, found {sorted(arrays)}")
    return arrays


def mapped(path: Path) -> np.ndarray:
    """Return the array of a `.npy` file, read from the disk where it is used; objects in it are refused."""
    # As a plain array, whose parts are taken without the detours of `np.memmap`.
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes from writing to it."""
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is writing to this index; try again later") from None
        # The file may have been removed, and made anew by another process, between opening and locking.
        path = folder / LOCK
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise UserError(f"{folder}: another process was writing to this index; try again")
        yield


def _lock_file(folder: Path) -> TextIO:
    with _full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return open(folder / LOCK, "w")
        except OSError:
            # It may have been made for an index that cannot be written now.
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise


def _render(values: Mapping[str, Any]) -> str:
    """Return the one text of a manifest, which ends in the digest of the rest."""
    body = json.dumps({name: value for name, value in values.items() if name != "sha256"}, sort_keys=True, indent=1)
    return f'{body[:-2]},\n "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
