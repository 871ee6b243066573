"""Steps whose loss is not finite: found late so that devices are not waited for, traced exactly, left out once.

The loss of a step says nothing about who spoilt it: its own batch, or the update before it. After the first
sign the run goes back to its last checkpoint and repeats the steps one at a time, looking at the weights after
each (`careful`), so that the batch that is left out is the one at fault.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from training.position import Position
from training.stops import NonFiniteLossError

WINDOW = 16
"""Steps between looks at the losses."""

LIMIT = 3
"""Batches that a run may leave out."""

NEAR = 8
"""Steps after a batch was left out in which another one means that leaving out does not help."""

Place = tuple[int, int, int]


class NonFiniteStepError(Exception):
    """A step whose loss is not finite, or weights that are not.

    Attributes:
        place: (stage, epoch, step) of the step; of the next step when only the weights are known to be spoilt.
        own: whether the loss of that very step was not finite.
        what: what was found, in words.
    """

    def __init__(self, place: Place, own: bool, what: str):
        super().__init__(what)
        self.place, self.own, self.what = place, own, what


@dataclasses.dataclass
class LossWatch:
    """Collects the outcome of steps and looks at it now and then.

    Attributes:
        strategy: whose replicas took the steps.
        careful_until: up to this place each step is looked at as soon as it is done.
        suspect: step whose own loss was not finite; left out when the steps before it prove sound.
        suspicion: what was found there, in words.
        turns: how often the run went back.
    """

    strategy: tf.distribute.Strategy
    careful_until: Place | None = None
    suspect: Place | None = None
    suspicion: str = ""
    turns: int = 0
    _pending: list[tuple[Place, Any, Any]] = dataclasses.field(default_factory=list)

    def add(self, place: Place, logs: Any, bad: Any) -> None:
        """Take the outcome of a step: its logs, and how many replicas found a figure that is not finite."""
        self._pending.append((place, logs, bad))
        if len(self._pending) >= WINDOW or self.careful(place):
            self.look()

    def careful(self, place: Place) -> bool:
        """Return whether the step at `place` repeats one that led to a loss that is not finite."""
        return self.careful_until is not None and place <= self.careful_until

    def look(self) -> None:
        """Wait for the steps so far.

        Raises:
            NonFiniteStepError: one of them was not finite; the first is named.
        """
        pending, self._pending = self._pending, []
        for place, logs, bad in pending:
            if float(self.strategy.experimental_local_results(bad)[0]):
                what = f"the loss is not finite ({self._figures(logs)}; means of the epoch)"
                raise NonFiniteStepError(place, True, what)

    def turn_back(self, failure: NonFiniteStepError) -> bool:
        """Prepare to repeat steps after `failure`; returns whether its batch is known to be at fault."""
        self._pending = []
        self.turns += 1
        if self.careful(failure.place):
            self.suspect = None
            return True
        self.careful_until = failure.place
        self.suspect = failure.place if failure.own else None
        self.suspicion = failure.what
        return False

    def _figures(self, logs: Any) -> str:
        """Return every figure; of several replicas one that is not finite counts."""
        figures = {}
        for name, values in logs.items():
            local = [float(value) for value in self.strategy.experimental_local_results(values)]
            figures[name] = next((value for value in local if value - value != 0), local[0])
        return ", ".join(f"{name} {value:.6g}" for name, value in figures.items())


def leave_out(position: Position, place: Place, where: str, what: str, items: list[str]) -> None:
    """Add the batch at `place` to `position.skipped`.

    Args:
        position: of the run.
        place: (stage, epoch, step) of the batch, the last one visited.
        where, what: the step and its fault in words.
        items: names of the batch's rows.

    Raises:
        NonFiniteLossError: it is one too many, or comes too soon after another one.
    """
    if any(position.steps - entry["visited"] <= NEAR for entry in position.skipped):
        raise NonFiniteLossError(where, what, items, "A batch was left out just before, and that did not help.")
    if len(position.skipped) >= LIMIT:
        raise NonFiniteLossError(where, what, items, f"{LIMIT} batches were left out before, and more are not.")
    entry = {"place": list(place), "visited": position.steps, "where": where, "what": what, "items": items}
    position.skipped.append(entry)
