"""Where a run stands: everything beside arrays that a resumed run needs to go on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tfthesis.method import Plateau, Stage


@dataclasses.dataclass
class Best:
    """The best validation score of the stage so far."""

    score: float
    epoch: int
    file: str | None


@dataclasses.dataclass
class Position:
    """The next step of a run and what its rules remember.

    Attributes:
        stage, epoch, step: the batch that comes next, each counted from 0.
        steps: batches visited since the beginning of the run.
        rows: epochs that `metrics.csv` holds.
        lowest: lowest value of the plateau's monitor in this stage.
        flat: epochs since it fell, or since the learning rate was lowered.
        best: best validation score in this stage.
        stale: epochs since the score rose.
        skipped: batches that were left out because their loss was not finite.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    rows: int = 0
    lowest: float | None = None
    flat: int = 0
    best: Best | None = None
    stale: int = 0
    skipped: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Position:
        """Rebuild a position from `to_json`."""
        best = Best(**values["best"]) if values["best"] else None
        return cls(**{**values, "best": best, "skipped": list(values["skipped"])})

    @property
    def place(self) -> tuple[int, int, int]:
        """The next batch as (stage, epoch, step)."""
        return self.stage, self.epoch, self.step

    def visit(self, step: int) -> None:
        """Go to `step` of the epoch, over the batches in between."""
        self.steps += step - self.step
        self.step = step

    def next_epoch(self) -> None:
        """Go to the first batch of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0

    def next_stage(self) -> None:
        """Go to the first batch of the next stage, whose rules remember nothing."""
        self.stage, self.epoch, self.step = self.stage + 1, 0, 0
        self.lowest, self.flat, self.best, self.stale = None, 0, None, 0

    def finished(self, stage: Stage) -> bool:
        """Return whether the stage has no epochs left, or has not improved for `stage.patience` of them."""
        return self.epoch >= stage.epochs or 0 < stage.patience <= self.stale

    def rises(self, score: float) -> bool:
        """Take the validation score of the epoch that comes to its end; returns whether it is the best so far."""
        if math.isfinite(score) and (self.best is None or score > self.best.score):
            self.best, self.stale = Best(score, self.epoch, None), 0
            return True
        self.stale += 1
        return False

    def is_flat(self, plateau: Plateau, value: float) -> bool:
        """Take the monitored value of an epoch; returns whether it is time to lower the learning rate."""
        if self.lowest is None or value < self.lowest - plateau.min_delta:
            self.lowest, self.flat = value, 0
            return False
        self.flat += 1
        if self.flat < plateau.patience:
            return False
        self.flat = 0
        return True
