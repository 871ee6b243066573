"""The folder of one run: small files that are always whole, the table of epochs, and the mark of the end."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfthesis.errors import UserError
from training.files import replacing

METRICS = "metrics.csv"
TIMINGS = "timings.csv"


class RunDirectory:
    """Folder of one run; created when missing.

    Args:
        path: the folder, such as `runs/mmc_net/quick-scenes-0-1a2b3c4d`.
        events: whether the table of epochs is also written as TensorBoard events.

    Raises:
        UserError: the folder cannot be created.
    """

    def __init__(self, path: str | Path, *, events: bool = False):
        self.path = Path(path)
        self._events, self._writer = events, None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run directory {self.path}: cannot be created ({error.strerror})") from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace the file `name` by `value` as JSON; a reader sees the old or the new file, never half of one."""
        with replacing(self.path / name) as file:
            file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str, default: Any = None) -> Any:
        """Return the JSON value of the file `name`, or `default` when there is no such file.

        Raises:
            UserError: the file is not JSON.
        """
        path = self.path / name
        if not path.exists():
            return default
        try:
            return json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path}: not a JSON file ({error}); restore it, or use another run directory") from error

    @property
    def done(self) -> bool:
        """Whether everything that the run was asked for is written."""
        return (self.path / "DONE").exists()

    def mark_done(self) -> None:
        """Write `DONE`, the last file of a run."""
        with replacing(self.path / "DONE"):
            pass

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock ends with the process at the latest.

        Raises:
            UserError: another process holds it.
        """
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"run directory {self.path}: another process is training in it; stop it first, "
                    "or name another folder with --run-dir"
                ) from error
            yield

    def append_metrics(self, row: Mapping[str, Any], timings: Mapping[str, Any]) -> None:
        """Add the figures of one epoch.

        Args:
            row: what training computed, for `metrics.csv`; equal seeds give equal files.
            timings: what the clock said, for `timings.csv`.
        """
        for name, values in ((METRICS, row), (TIMINGS, timings)):
            columns, rows = self._read_table(name)
            if set(values) <= set(columns):
                with open(self.path / name, "a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, columns, lineterminator="\n").writerow(_texts(values))
            else:
                self._write_table(name, [*rows, _texts(values)])
        if self._events:
            self._add_events([{**_texts(row), **_texts(timings)}])

    def metrics(self) -> list[dict[str, str]]:
        """Return the rows of `metrics.csv`."""
        return self._read_table(METRICS)[1]

    def rewind_metrics(self, rows: int) -> None:
        """Drop every row after the first `rows`, and half-written ones."""
        for name in (METRICS, TIMINGS):
            if (self.path / name).exists():
                self._write_table(name, self._read_table(name)[1][:rows])
        if self._events:
            self._close_events()
            for file in (self.path / "events").glob("events.*"):
                file.unlink()
            timings = self._read_table(TIMINGS)[1]
            self._add_events([{**row, **timing} for row, timing in zip(self.metrics(), timings, strict=True)])

    def _read_table(self, name: str) -> tuple[list[str], list[dict[str, str]]]:
        path = self.path / name
        if not path.exists():
            return [], []
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        columns, *rows = csv.reader(io.StringIO(whole, newline="")) if whole else [[]]
        return columns, [dict(zip(columns, row, strict=True)) for row in rows]

    def _write_table(self, name: str, rows: list[dict[str, str]]) -> None:
        """Replace a table; its columns are those that some row fills, in the order of their first use."""
        columns = list(dict.fromkeys(column for row in rows for column, text in row.items() if text))
        with replacing(self.path / name) as binary:
            file = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            file.detach()

    def _add_events(self, rows: list[Mapping[str, str]]) -> None:
        """Write rows as TensorBoard scalars over the step; the table stays the source, this is a view of it."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.path / "events"))
        with self._writer.as_default():
            for row in rows:
                for name, text in row.items():
                    if text and name not in ("stage", "epoch", "step"):
                        tf.summary.scalar(f"{row['stage']}/{name}", float(text), step=int(row["step"]))
        self._writer.flush()

    def _close_events(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as they stand in a table; floats keep every digit."""
    return {name: repr(float(value)) if isinstance(value, float) else str(value) for name, value in values.items()}
