"""The items of an index and the log of what happened to them, in one SQLite file.

A change is one transaction: a command that is killed leaves the items of before or of after it. Rows are
numbered once and for ever, so that an item which is removed and comes back is another row.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Gallery

FILE = "items.sqlite"
LOCK = "lock"

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    row INTEGER PRIMARY KEY AUTOINCREMENT, modality TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL,
    vector BLOB NOT NULL, thumbnail BLOB, thumbnail_digest BLOB NOT NULL, digest BLOB NOT NULL, UNIQUE (modality, id)
);
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL CHECK (action IN ('upsert', 'remove')),
    modality TEXT NOT NULL, id TEXT NOT NULL, digest BLOB
);
"""


_COLUMNS = "modality, id, payload, vector, thumbnail, thumbnail_digest, digest"
_PLACES = "?, ?, ?, ?, ?, ?, ?"
# Time until a file that another program writes is given up.
_BUSY_SECONDS = 5.0
# Time that a command waits for another one to end.
_WAIT_SECONDS = 60.0
_CHECK_SECONDS = 0.1
# What keeps a whole file from being used: somebody else, the disk, permissions.
_OUTSIDE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)


class StoredItem(NamedTuple):
    """An item with its embedding `[D]`, float32, and, of an image, a small JPEG for pages."""

    modality: str
    id: str
    payload: str
    vector: np.ndarray
    thumbnail: bytes | None = None


class ItemStore:
    """Items in the folder of an index; see the module. A context manager that closes the file."""

    def __init__(self, folder: Path, name: str = FILE):
        """Open the items in `folder`.

        Raises:
            UserError: there is no index, or its file is damaged.
        """
        self.folder = Path(folder)
        self._file = self.folder / name
        if not self._file.is_file():
            raise _missing(self._file)
        with _explained(self._file):
            self._database = _connect(self._file)
            self.meta = {name: json.loads(value) for name, value in self._rows("SELECT name, value FROM meta")}

    @classmethod
    def create(cls, folder: Path, meta: Mapping[str, Any], items: Iterable[StoredItem] = ()) -> None:
        """Make a store of `items` whose `meta` (JSON values) says what its vectors are.

        It appears whole, in place of one that is there, or not at all. Call it while `changing(folder)`.

        Raises:
            UserError: a vector does not fit, or the disk is full.
        """
        file, draft = folder / FILE, folder / f".draft-{FILE}"
        draft.unlink(missing_ok=True)
        try:
            with _explained(draft), contextlib.closing(_connect(draft)) as database, database:
                database.executescript(_SCHEMA)
                rows = [(name, json.dumps(value)) for name, value in meta.items()]
                database.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            with cls(folder, draft.name) as store:
                store.upsert(items)
            draft.rename(file)
        finally:
            draft.unlink(missing_ok=True)

    def __enter__(self) -> ItemStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def upsert(self, items: Iterable[StoredItem]) -> int:
        """Add items, in place of those that have their ids; returns how many. All of them are stored, or none.

        Raises:
            UserError: a vector has another width than the index, or holds NaN or infinity.
        """
        # They are gathered in a temporary table first, which keeps nobody from reading: making them may take hours.
        with self._transaction() as database:
            database.execute("DROP TABLE IF EXISTS temp.incoming")
            database.execute(f"CREATE TEMP TABLE incoming AS SELECT {_COLUMNS} FROM items LIMIT 0")
            database.executemany(f"INSERT INTO temp.incoming VALUES ({_PLACES})", map(self._row, items))
        with self._transaction() as database:
            same = "(modality, id) IN (SELECT modality, id FROM temp.incoming)"
            database.execute(f"DELETE FROM items WHERE {same}")
            database.execute(f"INSERT INTO items ({_COLUMNS}) SELECT {_COLUMNS} FROM temp.incoming ORDER BY rowid")
            database.execute(
                "INSERT INTO log (action, modality, id, digest) "
                "SELECT 'upsert', modality, id, digest FROM temp.incoming ORDER BY rowid"
            )
            count = database.execute("SELECT count(*) FROM temp.incoming").fetchone()[0]
            database.execute("DROP TABLE temp.incoming")
        return count

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items of either modality; returns how many. All of them go, or none.

        Raises:
            UserError: there is no item of one of the ids.
        """
        with self._transaction() as database:
            keys = []
            for name in dict.fromkeys(ids):
                found = self._rows("SELECT modality, id FROM items WHERE id = ?", (name,))
                if not found:
                    raise UserError(f"item {name!r} is not in the index {self.folder}; nothing was removed")
                keys += found
            database.executemany("DELETE FROM items WHERE modality = ? AND id = ?", keys)
            database.executemany("INSERT INTO log (action, modality, id) VALUES ('remove', ?, ?)", keys)
        return len(keys)

    def galleries(self) -> dict[str, Gallery]:
        """Return the items by modality, in the order of their rows.

        Raises:
            UserError: an item is not as it was stored.
        """
        return {modality: self._gallery(modality, count) for modality, count in self._counts().items()}

    def thumbnail(self, name: str) -> bytes | None:
        """Return the small JPEG of an image, None where there is none.

        Raises:
            UserError: it is not as it was stored.
        """
        rows = self._rows("SELECT thumbnail, thumbnail_digest FROM items WHERE modality = 'image' AND id = ?", (name,))
        if not rows:
            return None
        small, digest = rows[0]
        if digest != _sha256(small):
            raise self._damaged(name)
        return small

    def count(self) -> int:
        """Return the number of items."""
        return self._rows("SELECT count(*) FROM items")[0][0]

    def sequence(self) -> int:
        """Return the number of the last change, 0 before the first."""
        return self._rows("SELECT coalesce(max(sequence), 0) FROM log")[0][0]

    def set_meta(self, **values: Any) -> None:
        """Write JSON values down."""
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        with self._transaction() as database:
            database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        self.meta.update(values)

    def verify(self) -> None:
        """Check the file and every item, and that replaying the log gives exactly these items.

        Raises:
            UserError: something is not as it was stored.
        """
        answers = [row[0] for row in self._rows("PRAGMA integrity_check")]
        if answers != ["ok"]:
            raise UserError(f"{self._file}: damaged: {answers[0]}")
        self.galleries()
        if self.replay() != dict(self._rows_by_key("SELECT modality, id, digest FROM items")):
            raise UserError(f"{self._file}: damaged: the items are not those that its log leads to")
        for (name,) in self._rows("SELECT id FROM items WHERE modality = 'image'"):
            self.thumbnail(name)

    def replay(self) -> dict[tuple[str, str], bytes]:
        """Return the digest of each item by modality and id, as the log of all changes leads to it."""
        found: dict[tuple[str, str], bytes] = {}
        for action, *key, digest in self._rows("SELECT action, modality, id, digest FROM log ORDER BY sequence"):
            if action == "upsert":
                found[tuple(key)] = digest
            else:
                found.pop(tuple(key), None)
        return found

    def _rows_by_key(self, statement: str) -> Iterator[tuple[tuple[str, str], bytes]]:
        return (((modality, name), value) for modality, name, value in self._rows(statement))

    def _counts(self) -> dict[str, int]:
        """Return the number of items of each modality, in the order of their first rows."""
        return dict(self._rows("SELECT modality, count(*) FROM items GROUP BY modality ORDER BY min(row)"))

    def _gallery(self, modality: str, count: int) -> Gallery:
        width = self.meta["dimension"]
        ids, payloads = [], []
        # Filled row by row: the vectors may be a good part of the memory there is.
        vectors = np.empty((count, width), np.float32)
        with _explained(self._file):
            rows = self._database.execute(
                "SELECT id, payload, vector, thumbnail_digest, digest FROM items WHERE modality = ? ORDER BY row",
                (modality,),
            )
            for number, (name, payload, data, small, digest) in enumerate(rows):
                if digest != _digest(modality, name, payload, data, small) or len(data) != 4 * width:
                    raise self._damaged(name)
                vectors[number] = np.frombuffer(data, np.float32)
                ids.append(name)
                payloads.append(payload)
        return Gallery(ids, vectors, payloads)

    def _row(self, item: StoredItem) -> tuple:
        vector = np.ascontiguousarray(item.vector, np.float32)
        if vector.shape != (self.meta["dimension"],):
            raise UserError(f"item {item.id!r}: expected a vector of {self.meta['dimension']}, got {vector.shape}")
        if not np.isfinite(vector).all():
            raise UserError(f"item {item.id!r}: its vector holds NaN or infinity")
        data, small = vector.tobytes(), _sha256(item.thumbnail)
        digest = _digest(item.modality, item.id, item.payload, data, small)
        return item.modality, item.id, item.payload, data, item.thumbnail, small, digest

    def _damaged(self, name: str) -> UserError:
        return UserError(f"{self._file}: item {name!r} is damaged; remove it and add it again")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _explained(self._file), self._database:
            yield self._database

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        with _explained(self._file):
            return self._database.execute(statement, values).fetchall()


@contextlib.contextmanager
def changing(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Be the only one that changes the index in `folder`, for a `with` block.

    Args:
        make: make the folder where it is missing.

    Raises:
        UserError: another command is still at work after a minute, or there is no such folder.
    """
    folder = Path(folder)
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    elif not folder.is_dir():
        raise _missing(folder / FILE)
    with open(folder / LOCK, "w") as file:
        end = time.monotonic() + _WAIT_SECONDS
        while not _lock(file):
            if time.monotonic() > end:
                raise UserError(f"{folder}: another command is changing this index; try again later")
            time.sleep(_CHECK_SECONDS)
        yield


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ids_digest(galleries: Mapping[str, Gallery]) -> str:
    """Return the SHA-256 of all ids, by modality and in their order."""
    return hashlib.sha256(json.dumps({name: gallery.ids for name, gallery in galleries.items()}).encode()).hexdigest()


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_BUSY_SECONDS)
    # What is committed survives a power cut.
    database.execute("PRAGMA synchronous = FULL")
    return database


def _digest(modality: str, name: str, payload: str, vector: bytes, thumbnail: bytes) -> bytes:
    return hashlib.sha256(json.dumps([modality, name, payload]).encode() + vector + thumbnail).digest()


def _sha256(data: bytes | None) -> bytes:
    return hashlib.sha256(data or b"").digest()


def _missing(file: Path) -> UserError:
    return UserError(f"{file}: no such file; make an index first: python -m serving.index build --help")


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _OUTSIDE:
            raise UserError(f"{file}: {error}") from error
        raise UserError(f"{file}: damaged, or not the items of an index: {error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: damaged: {error}") from error
