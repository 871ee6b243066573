"""Stretches of a feature cache on disk: an array and a record of it, each whole or absent."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
from pathlib import Path

import numpy as np

from tfthesis.whole_files import write_whole

_log = logging.getLogger(__name__)

# Features of the good items of a stretch, and index and reason of each bad one.
Found = tuple[np.ndarray, list[tuple[int, str]]]


@dataclasses.dataclass(frozen=True)
class FeatureShard:
    """The files `<stem>.npy` and `<stem>.json` of items `start` to `stop` with features `[dimension]`."""

    stem: Path
    start: int
    stop: int
    dimension: int

    @property
    def array(self) -> Path:
        """The features of the good items, `[n, dimension]` float32."""
        return self.stem.with_suffix(".npy")

    @property
    def record(self) -> Path:
        """The bad items, and size and SHA-256 of the array; written last, so it marks the shard as done."""
        return self.stem.with_suffix(".json")

    def read(self) -> Found | None:
        """Return features and bad items, or None when the shard is absent or damaged; damage is logged."""
        if not self.record.exists():
            return None
        try:
            record = json.loads(self.record.read_text())
            data = self.array.read_bytes()
            if len(data) != record["bytes"] or hashlib.sha256(data).hexdigest() != record["sha256"]:
                raise ValueError("its size or SHA-256 differs from the record")
            rows = np.load(io.BytesIO(data), allow_pickle=False)
            bad = [(int(index), str(reason)) for index, reason in record["bad"]]
            expected = (self.stop - self.start - len(bad), self.dimension)
            if rows.shape != expected or rows.dtype != np.float32:
                raise ValueError(f"expected float32 {expected}, got {rows.dtype} {rows.shape}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("feature cache: shard %s is damaged (%s); computing it again", self.array, error)
            return None
        return rows, bad

    def write(self, rows: np.ndarray, bad: list[tuple[int, str]]) -> None:
        """Store the shard, replacing a damaged one."""
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        data = buffer.getvalue()
        self.record.unlink(missing_ok=True)
        write_whole(self.array, data)
        digest = hashlib.sha256(data).hexdigest()
        record = {"items": [self.start, self.stop], "bad": bad, "bytes": len(data), "sha256": digest}
        write_whole(self.record, json.dumps(record).encode())
