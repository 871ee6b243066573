"""What a person sees while something long runs: a bar in a terminal, plain lines anywhere else.

The training loop and feature extraction report to a `Progress`; they never print. The base class shows
nothing and only keeps the log, which is what `--quiet` asks for.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

WINDOW_STEPS = 50
"""Steps over which rates are averaged; long enough to be calm, short enough to follow a change."""


class Progress:
    """Counts the steps of one stage at a time and shows nothing; a context manager that closes itself.

    Use: `stage` once, then `step` after each step and `epoch` after each pass; `count` for what has no
    stages; `note` at any time.

    Attributes:
        name: of the stage.
        steps: of the whole stage; 0 when not known.
        done: steps that were taken.
        epochs: passes that were finished; None where there are no passes.
    """

    def __init__(self) -> None:
        self.name, self.steps, self.done = "", 0, 0
        self.epochs: int | None = None
        self._window: collections.deque[tuple[float, int, int, float | None]] = collections.deque(maxlen=WINDOW_STEPS)
        self._clock = time.monotonic()
        self._warm = True
        self._log: Path | None = None

    def log_to(self, path: Path) -> None:
        """Append notes and epochs with their time to the text file `path` as well."""
        self._log = path

    def stage(self, name: str, steps: int, *, done: int = 0, epoch: int | None = 0) -> None:
        """Begin a stage.

        Args:
            name: shown in front of every line.
            steps: steps of the whole stage, all epochs together; 0 when not known.
            done: steps taken before a resume.
            epoch: passes finished before a resume; None where there are no passes.
        """
        self.name, self.steps, self.done, self.epochs = name, steps, done, epoch
        self._window.clear()
        self._clock = time.monotonic()
        # The first step of a stage compiles it, which says nothing of the steps to come.
        self._warm = False

    def step(self, *, loss: Any = None, waiting: float = 0.0, rows: int = 0) -> None:
        """Count one step.

        Args:
            loss: a number or anything `float` takes; converted only when it is shown, so a tensor on a
                device is not waited for at every step.
            waiting: seconds of this step spent waiting for input.
            rows: rows of the global batch.
        """
        self._advance(1, rows, waiting)
        self.show_step(loss)

    def count(self, name: str, done: int, total: int) -> None:
        """Say that `done` of `total` items are done, such as features; begins a stage of its own when need be."""
        if (name, total) != (self.name, self.steps) or done < self.done:
            self.stage(name, total, epoch=None)
        self._advance(done - self.done, done - self.done, None)
        self.show_step(None)

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """End a pass with its figures, of which the log gets all, and the display losses and `selection`.

        The time since the last step (validation) is not counted as a step.
        """
        self.epochs = (self.epochs or 0) + 1
        figures = {name: f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, int | float)}
        self.log(f"{self.name} epoch {self.epochs}: {', '.join(figures.values())}")
        brief = [text for name, text in figures.items() if "selection" not in figures or not name.startswith("val_")]
        self.show_epoch(f"{self.name} epoch {self.epochs}: {', '.join(brief)}")
        self._clock = time.monotonic()

    def note(self, text: str) -> None:
        """Say something that is worth a line of its own."""
        self.log(text)
        self.show(text)

    def log(self, text: str) -> None:
        """Write a line to the log only."""
        if self._log is not None:
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{stamp} {text}\n")

    def place(self) -> str:
        """Return name and epoch of what is under way."""
        return self.name if self.epochs is None else f"{self.name} epoch {self.epochs + 1}"

    def figures(self, loss: Any = None) -> str:
        """Return loss, rows a second, share of time waiting for input and time left, as far as known."""
        seconds, steps, rows = (sum(entry[i] for entry in self._window) for i in range(3))
        waits = [entry[3] for entry in self._window if entry[3] is not None]
        parts = [] if loss is None else [f"loss {float(loss):.4f}"]
        if seconds > 0 and rows:
            parts.append(f"{rows / seconds:.0f} rows/s")
        if seconds > 0 and waits:
            parts.append(f"waiting for input {100 * sum(waits) / seconds:.0f} %")
        if steps and self.steps:
            left = max(self.steps - self.done, 0) * seconds / steps
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        return ", ".join(parts)

    def show(self, text: str) -> None:
        """Display a line; nothing here."""

    def show_step(self, loss: Any) -> None:
        """Display the state after a step; nothing here."""

    def show_epoch(self, text: str) -> None:
        """Display the figures of a pass; nothing here."""

    def close(self) -> None:
        """End the display; nothing here."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self, steps: int, rows: int, waiting: float | None) -> None:
        now = time.monotonic()
        if self._warm:
            self._window.append((now - self._clock, steps, rows, waiting))
        self._clock, self._warm = now, True
        self.done += steps


class LineProgress(Progress):
    """Plain lines, at most one step or epoch line every `interval` seconds; for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, interval: float = 5.0) -> None:
        super().__init__()
        self._stream, self._interval = stream, interval
        self._shown = float("-inf")

    def stage(self, name: str, steps: int, *, done: int = 0, epoch: int | None = 0) -> None:
        """Begin a stage; counted items show nothing when they are done at once."""
        super().stage(name, steps, done=done, epoch=epoch)
        self._shown = self._clock if epoch is None else float("-inf")

    def show(self, text: str) -> None:
        """Write the line at once."""
        print(text, file=self._stream or sys.stderr, flush=True)

    def show_step(self, loss: Any) -> None:
        """Write the state when the last line is old enough, and after the last step of the stage."""
        if self._due() or (self.done == self.steps and self.epochs is not None):
            total = f"/{self.steps}" if self.steps else ""
            unit = "" if self.epochs is None else "step "
            self.show(f"{self.place()} {unit}{self.done}{total}: {self.figures(loss)}".rstrip(": "))

    def show_epoch(self, text: str) -> None:
        """Write the figures of the first and last pass, and of others when the last line is old enough."""
        if self._due() or self.epochs == 1 or self.done == self.steps:
            self.show(text)

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < self._interval:
            return False
        self._shown = now
        return True


class BarProgress(Progress):
    """A tqdm bar a stage on a terminal, with the latest figures beside it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._bar: Any = None
        self._shown = float("-inf")

    def stage(self, name: str, steps: int, *, done: int = 0, epoch: int | None = 0) -> None:
        """Begin a stage with a fresh bar; that of counted items appears when they take a while, and goes away."""
        from tqdm import tqdm

        self._end_bar()
        super().stage(name, steps, done=done, epoch=epoch)
        counted = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}"
        self._bar = tqdm(
            total=steps or None,
            initial=done,
            desc=name,
            file=self._stream,
            dynamic_ncols=True,
            bar_format=counted if steps else "{desc} {n_fmt}{postfix}",
            delay=1 if epoch is None else 0,
            leave=epoch is not None,
        )

    def show(self, text: str) -> None:
        """Write a line above the bar."""
        from tqdm import tqdm

        tqdm.write(text, file=self._stream)

    def show_step(self, loss: Any) -> None:
        """Move the bar; the figures beside it change a few times a second at most."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._shown > 0.25 or self.done == self.steps:
            self._shown = now
            self._bar.set_description_str(self.place(), refresh=False)
            self._bar.set_postfix_str(self.figures(loss), refresh=False)
        self._bar.update(self.done - self._bar.n)

    def show_epoch(self, text: str) -> None:
        """Write the figures of the last pass above the bar; the bar itself shows the rest."""
        if self.done == self.steps:
            self.show(text)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Notes(logging.Handler):
    """Passes what a logger says on to a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.note(self.format(record))


@contextlib.contextmanager
def listening(progress: Progress, logger: str = "tfthesis") -> Iterator[None]:
    """Show what the library logs as notes while the block runs, so that lines do not run through a bar."""
    source, handler = logging.getLogger(logger), _Notes(progress)
    level = source.level
    source.addHandler(handler)
    source.setLevel(logging.INFO)
    try:
        yield
    finally:
        source.removeHandler(handler)
        source.setLevel(level)


def make_progress(quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """Return the display that suits `stream` (stderr): none if quiet, a bar on a terminal, else lines."""
    stream = stream or sys.stderr
    if quiet:
        return Progress()
    return BarProgress(stream) if stream.isatty() else LineProgress(stream)
