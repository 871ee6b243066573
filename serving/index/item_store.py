"""The items of an index and the log of what happened to them, in one SQLite file.

A change is one transaction: a command that is killed leaves the items of before or of after it. Rows are
numbered once and for ever, so that an item which is removed and comes back is another row.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Gallery

FILE = "items.sqlite"
LOCK = "lock"

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    row INTEGER PRIMARY KEY AUTOINCREMENT, modality TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL,
    vector BLOB NOT NULL, thumbnail BLOB, digest BLOB NOT NULL, UNIQUE (modality, id)
);
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL CHECK (action IN ('upsert', 'remove')),
    modality TEXT NOT NULL, id TEXT NOT NULL
);
"""


class StoredItem(NamedTuple):
    """An item with its embedding `[D]`, float32, and, of an image, a small JPEG for pages."""

    modality: str
    id: str
    payload: str
    vector: np.ndarray
    thumbnail: bytes | None = None


class ItemStore:
    """Items in the folder of an index; see the module. A context manager that closes the file."""

    def __init__(self, folder: Path):
        """Open the items in `folder`.

        Raises:
            UserError: there is no index, or its file is damaged.
        """
        self.folder = Path(folder)
        file = self.folder / FILE
        if not file.is_file():
            raise UserError(f"{file}: no such file; make an index first: python -m serving.index build --help")
        with _explained(file):
            self._database = _connect(file)
            self.meta = {name: json.loads(value) for name, value in self._rows("SELECT name, value FROM meta")}

    @classmethod
    def create(cls, folder: Path, meta: Mapping[str, Any]) -> ItemStore:
        """Make an empty store whose `meta` (JSON values) says what its vectors are.

        Raises:
            UserError: the folder has one already.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        if file.exists():
            raise UserError(f"{file} exists already; add to it, or choose another --index")
        draft = folder / f".{FILE}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        with contextlib.closing(_connect(draft)) as database, database:
            database.executescript(_SCHEMA)
            rows = [(name, json.dumps(value)) for name, value in meta.items()]
            database.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        draft.rename(file)
        return cls(folder)

    def __enter__(self) -> ItemStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one that changes the index, for a `with` block.

        Raises:
            UserError: another command is at work.
        """
        with open(self.folder / LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.folder}: another command is changing this index; try again later") from error
            yield

    def upsert(self, items: Iterable[StoredItem]) -> int:
        """Add items, in place of those that have their ids; returns how many. All of them are stored, or none.

        Raises:
            UserError: a vector has another width than the index, or holds NaN or infinity.
        """
        rows = []
        for item in items:
            vector = np.ascontiguousarray(item.vector, np.float32)
            if vector.shape != (self.meta["dimension"],):
                raise UserError(f"item {item.id!r}: expected a vector of {self.meta['dimension']}, got {vector.shape}")
            if not np.isfinite(vector).all():
                raise UserError(f"item {item.id!r}: its vector holds NaN or infinity")
            data = vector.tobytes()
            digest = _digest(item.modality, item.id, item.payload, data)
            rows.append((item.modality, item.id, item.payload, data, item.thumbnail, digest))
        keys = [row[:2] for row in rows]
        with self._database:
            self._database.executemany("DELETE FROM items WHERE modality = ? AND id = ?", keys)
            self._database.executemany(
                "INSERT INTO items (modality, id, payload, vector, thumbnail, digest) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            self._log("upsert", keys)
        return len(rows)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items of either modality; returns how many. All of them go, or none.

        Raises:
            UserError: there is no item of one of the ids.
        """
        with self._database:
            keys = []
            for name in ids:
                found = self._rows("SELECT modality, id FROM items WHERE id = ?", (name,))
                if not found:
                    raise UserError(f"item {name!r} is not in the index {self.folder}; nothing was removed")
                keys += found
            self._database.executemany("DELETE FROM items WHERE modality = ? AND id = ?", keys)
            self._log("remove", keys)
        return len(keys)

    def galleries(self) -> dict[str, Gallery]:
        """Return the items by modality, in the order of their rows.

        Raises:
            UserError: an item is not as it was stored.
        """
        with _explained(self.folder / FILE):
            rows = self._rows("SELECT modality, id, payload, vector, digest FROM items ORDER BY row")
        width = self.meta["dimension"]
        for modality, name, payload, data, digest in rows:
            if digest != _digest(modality, name, payload, data) or len(data) != 4 * width:
                raise UserError(f"{self.folder / FILE}: item {name!r} is damaged; remove it and add it again")
        found = {}
        for modality in dict.fromkeys(row[0] for row in rows):
            own = [row for row in rows if row[0] == modality]
            vectors = np.frombuffer(b"".join(row[3] for row in own), np.float32).reshape(len(own), width)
            found[modality] = Gallery([row[1] for row in own], vectors, [row[2] for row in own])
        return found

    def thumbnail(self, name: str) -> bytes | None:
        """Return the small JPEG of an image, None where there is none."""
        rows = self._rows("SELECT thumbnail FROM items WHERE modality = 'image' AND id = ?", (name,))
        return rows[0][0] if rows else None

    def count(self) -> int:
        """Return the number of items."""
        return self._rows("SELECT count(*) FROM items")[0][0]

    def sequence(self) -> int:
        """Return the number of the last change, 0 before the first."""
        return self._rows("SELECT coalesce(max(sequence), 0) FROM log")[0][0]

    def set_meta(self, **values: Any) -> None:
        """Write JSON values down."""
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        self.meta.update(values)

    def verify(self) -> None:
        """Check the file and every item.

        Raises:
            UserError: something is not as it was stored.
        """
        with _explained(self.folder / FILE):
            answers = [row[0] for row in self._rows("PRAGMA integrity_check")]
        if answers != ["ok"]:
            raise UserError(f"{self.folder / FILE}: damaged: {answers[0]}")
        self.galleries()

    def _log(self, action: str, keys: Sequence[tuple[str, str]]) -> None:
        rows = [(action, *key) for key in keys]
        self._database.executemany("INSERT INTO log (action, modality, id) VALUES (?, ?, ?)", rows)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        return self._database.execute(statement, values).fetchall()


def ids_digest(galleries: Mapping[str, Gallery]) -> str:
    """Return the SHA-256 of all ids, by modality and in their order."""
    return hashlib.sha256(json.dumps({name: gallery.ids for name, gallery in galleries.items()}).encode()).hexdigest()


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file)
    # What is committed survives a power cut.
    database.execute("PRAGMA synchronous = FULL")
    return database


def _digest(modality: str, name: str, payload: str, vector: bytes) -> bytes:
    return hashlib.sha256(json.dumps([modality, name, payload]).encode() + vector).digest()


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.DatabaseError, ValueError) as error:
        raise UserError(f"{file}: damaged, or not the items of an index: {error}") from error
