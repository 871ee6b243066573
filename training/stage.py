"""One stage of gradient training: its steps, what follows each epoch, and the way back from a bad step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Stage
from training import variables
from training.checkpoints import Checkpoint
from training.epoch_end import EpochEnd
from training.feeding import Feeder, epoch_order, global_batches
from training.nonfinite import WINDOW, LossWatch, NonFiniteStepError, Place, leave_out
from training.session import Session
from training.step import make_step
from training.stops import Interrupted, NonFiniteLossError

WITHIN_EPOCH_SECONDS, EPOCH_END_SECONDS = 60.0, 5.0
"""Age of the last checkpoint at which another one is due, unless steps between them are given."""

TURNS = 8
"""How often a stage may go back to a checkpoint: more than left-out batches explain."""


@dataclasses.dataclass(frozen=True)
class Pauses:
    """When training is interrupted for a checkpoint.

    Attributes:
        every: steps between checkpoints; None goes by time.
        stop: returns the number of the signal that asks to stop, or 0.
    """

    every: int | None
    stop: Callable[[], int]


class StageTraining:
    """Trains one stage of a session."""

    def __init__(self, session: Session, stage: Stage, pauses: Pauses):
        self.session, self.stage, self.pauses = session, stage, pauses
        self.rows = session.data.size(stage.split)
        if not self.rows:
            raise UserError(f"stage {stage.name!r}: split {stage.split!r} has no rows to train on")
        self.feeder = Feeder(session.data, session.strategy)
        self.watch = LossWatch(session.strategy)
        self.epoch_end = EpochEnd(session, stage, self.feeder)
        # Augmentation is drawn by (seed, epoch) and must not repeat from stage to stage.
        earlier = session.stages[: session.position.stage]
        self.first_epoch = sum(other.epochs for other in earlier if isinstance(other, Stage))
        self._step: Callable[[Any], tuple[Any, Any]] | None = None

    def run(self) -> None:
        """Train to the end of the stage, once it is entered."""
        while not self.session.position.finished(self.stage):
            try:
                self._epoch()
            except NonFiniteStepError as failure:
                self._go_back(failure)
        if self.stage.keep_best:
            self.session.take_best()

    def enter(self, checkpoint: Checkpoint | None) -> None:
        """Prepare the model for the stage, and set it as `checkpoint` says if there is one.

        Raises:
            UserError: the checkpoint is of another model or optimizer.
        """
        session, position = self.session, self.session.position
        session.reseed(0)
        with session.strategy.scope():
            session.model.train_only(self.stage.trainable)
            session.method.compile(session.model, session.recipe, self.stage)
        if checkpoint is not None:
            session.restore(checkpoint)
        self._step = None
        steps = -(-self.rows // self.stage.batch_size)
        done = position.epoch * steps + position.step
        session.progress.stage(self.stage.name, self.stage.epochs * steps, done=done, epoch=position.epoch)

    def _epoch(self) -> None:
        """Train from the present step to the end of its epoch, and do what follows an epoch."""
        session, position = self.session, self.session.position
        if position.step == 0:
            session.model.reset_metrics()
        batches = self._batches(position.epoch)
        began, waited, first = time.perf_counter(), self.feeder.waited, position.step
        self._steps(batches)
        seconds = time.perf_counter() - began
        if not variables.finite({"model": variables.read(session.model.variables)}):
            raise NonFiniteStepError(position.place, False, "weights are not finite")
        rows = sum(len(batch) for batch in batches[first:])
        timings = {
            "seconds": seconds,
            "rows_per_second": rows / seconds,
            "waiting": (self.feeder.waited - waited) / seconds,
        }
        self.epoch_end.run(timings)
        position.next_epoch()
        # The end of the stage writes a checkpoint anyway.
        if not position.finished(self.stage):
            self._pause(EPOCH_END_SECONDS)

    def _batches(self, epoch: int) -> list[np.ndarray]:
        order = epoch_order(self.session.seed, self.session.position.stage, epoch, self.rows)
        return global_batches(order, self.stage.batch_size)

    def _steps(self, batches: list[np.ndarray]) -> None:
        """Take the steps of the epoch that are left."""
        position, watch = self.session.position, self.watch
        left_out = {tuple(entry["place"]) for entry in position.skipped}
        places = [(position.stage, position.epoch, i) for i in range(position.step, len(batches))]
        places = [place for place in places if place not in left_out]
        for place, batch in self._fed(places, batches):
            position.visit(place[2] + 1)
            if place == watch.suspect:
                self._leave_out(place, watch.suspicion)
                continue
            logs, bad = self._step(batch)
            watch.add(place, logs, bad)
            if watch.careful(place) and not variables.finite({"model": variables.read(self.session.model.variables)}):
                raise NonFiniteStepError(place, True, "weights are not finite after the step")
            shown = self.session.strategy.experimental_local_results(logs["loss"])[0]
            self.session.progress.step(loss=shown, waiting=self.feeder.last_wait, rows=len(batches[place[2]]))
            self._pause(WITHIN_EPOCH_SECONDS)
        position.visit(len(batches))
        watch.look()

    def _fed(self, places: list[Place], batches: list[np.ndarray]) -> Iterator[tuple[Place, Any]]:
        """Yield each place with its batch on the devices."""
        if not places:
            return
        chosen = [batches[step] for _, _, step in places]
        key = (self.session.seed, self.first_epoch + self.session.position.epoch)
        dataset = self.feeder.dataset(self.stage.split, chosen, key)
        if self._step is None:
            strategy, model = self.session.strategy, self.session.model
            xla = self.session.recipe.xla
            if xla and strategy.num_replicas_in_sync > 1:
                raise UserError("recipe field 'xla': XLA compiles the step of one device only; leave it false here")
            self._step = make_step(model.train_step, strategy, dataset.element_spec, xla)
        yield from zip(places, self.feeder.iterate(dataset, len(places)), strict=True)

    def _pause(self, seconds: float) -> None:
        """Write a checkpoint when one is due, and end when asked to.

        Args:
            seconds: age of the last checkpoint at which the next is due, when they go by time.
        """
        session, position, workers, every = self.session, self.session.position, self.session.workers, self.pauses.every
        by_steps = every is not None and (position.step == 0 or position.steps % every == 0)
        # Several workers compare clocks and signals only now and then: it takes a message.
        if workers.count > 1 and not by_steps and position.step % WINDOW:
            return
        by_time = every is None and time.monotonic() - session.saved_at > seconds
        asked, due = workers.gather([self.pauses.stop(), by_steps or by_time]).reshape(-1, 2).max(axis=0)
        if asked or due:
            self.watch.look()
            session.save()
        if asked:
            raise Interrupted(int(asked), self._where(position.epoch, position.step - 1))

    def _go_back(self, failure: NonFiniteStepError) -> None:
        """Return to the last checkpoint after a step that was not finite."""
        session = self.session
        where = self._where(*failure.place[1:])
        session.progress.note(f"{where}: {failure.what}; going back to the last checkpoint")
        known = self.watch.turn_back(failure)
        if self.watch.turns > TURNS:
            items = self._items(failure.place)
            raise NonFiniteLossError(where, failure.what, items, "It comes and goes when steps are repeated.")
        if known:
            self._leave_out(failure.place, failure.what)
        self.enter(session.go_back())

    def _leave_out(self, place: Place, what: str) -> None:
        where = self._where(*place[1:])
        leave_out(self.session.position, place, where, what, self._items(place))
        self.session.write_skipped()
        self.session.progress.note(f"{where} is left out: {what}; its items are listed in skipped.json")

    def _items(self, place: Place) -> list[str]:
        """Return names for the rows of a batch."""
        batches = self._batches(place[1])
        return self.session.data.item_ids(self.stage.split, batches[min(place[2], len(batches) - 1)])

    def _where(self, epoch: int, step: int) -> str:
        if step < 0:
            return f"stage {self.stage.name!r}, epoch {epoch}"
        steps = -(-self.rows // self.stage.batch_size)
        return f"stage {self.stage.name!r}, epoch {epoch + 1}, step {min(step + 1, steps)} of {steps}"
