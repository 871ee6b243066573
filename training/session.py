"""A run as one process holds it: the model, where it stands, and how both are saved and found again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.method import Data, Method
from tfthesis.recipe import Recipe
from training import variables
from training.checkpoints import Checkpoint, Checkpoints
from training.nonfinite import NonFiniteStepError
from training.position import Position
from training.request import first_difference, without_places
from training.run_directory import RunDirectory
from training.workers import Workers

if TYPE_CHECKING:
    from training.progress import Progress


class Session:
    """One call of `training.loop.train`.

    Attributes:
        stages: of the method.
        position: the step that comes next.
        model: in the strategy's scope; what is trained.
        saved_at: when the last checkpoint was written, on the clock of `time.monotonic`.
    """

    model: keras.Model
    _plain: keras.Model

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        data: Data,
        run: RunDirectory,
        seed: int,
        strategy: tf.distribute.Strategy,
        workers: Workers,
        progress: Progress,
    ):
        self.method, self.recipe, self.data, self.run = method, recipe, data, run
        self.seed, self.strategy, self.workers, self.progress = seed, strategy, workers, progress
        self.stages = method.stages(recipe)
        self.position = Position()
        self.saved_at = time.monotonic()
        self._saved = ""
        # Name and arrays of the best weights, until a checkpoint that refers to them is written.
        self._unwritten: tuple[str, dict[str, np.ndarray]] = "", {}
        self._checkpoints = Checkpoints(run.path / "checkpoints", progress.note)
        self._identity = {"seed": seed, "recipe": recipe.to_json(), "spec": data.spec.to_json()}

    @property
    def finished(self) -> bool:
        """Whether no stage is left."""
        return self.position.stage >= len(self.stages)

    def open(self, allow_change: bool) -> Checkpoint | None:
        """Build the model and set it as the last checkpoint says, if there is one; returns that checkpoint.

        Raises:
            UserError: the checkpoint is of another recipe, dataset or seed; or no checkpoint is whole.
        """
        checkpoint = self._find(allow_change)
        if checkpoint is not None:
            self._take_position(checkpoint)
        self._rewind_files()
        if self.finished:
            return checkpoint
        with self.strategy.scope():
            self.model = self._build()
        self._plain = self.model if self.strategy is tf.distribute.get_strategy() else self._build()
        if checkpoint is None:
            self.save(within_stage=False)
        else:
            variables.write(self.model.variables, checkpoint.arrays("model"), "model")
        return checkpoint

    def _find(self, allow_change: bool) -> Checkpoint | None:
        found = None
        if self.workers.chief:
            self._checkpoints.clean()
            found = self._checkpoints.latest()
        shared = self.workers.share({"name": found and found.path.name, "identity": self._identity})
        if difference := first_difference(shared["identity"], self._identity):
            raise UserError(f"worker {self.workers.index} was started otherwise than worker 0: {difference}")
        if shared["name"] is None:
            return None
        found = found or self._checkpoints.open(shared["name"])
        if difference := first_difference(_lasting(found.state["identity"]), _lasting(self._identity)):
            if not allow_change:
                raise UserError(
                    f"run directory {self.run.path}: its checkpoint is of another run: {difference}. Use another "
                    "directory, or --allow-change to go on from the checkpoint all the same."
                )
            self.progress.note(f"resuming although the run changed: {difference}")
        return found

    def _take_position(self, checkpoint: Checkpoint) -> None:
        self._saved = checkpoint.path.name
        self.position = Position.from_json(checkpoint.state["position"])

    def _rewind_files(self) -> None:
        """Drop what the run wrote after its checkpoint."""
        if self.workers.chief:
            self.run.rewind_metrics(self.position.rows)
            self.write_skipped()

    def write_skipped(self) -> None:
        """List the batches that were left out in `skipped.json`."""
        if self.workers.chief and self.position.skipped:
            self.run.write_json("skipped.json", self.position.skipped)

    def _build(self) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        return self.method.build(self.recipe, self.data.spec)

    def trained(self) -> keras.Model:
        """Return a new model with the weights of the finished run."""
        model = self._build()
        variables.write(model.variables, self._checkpoints.open(self._saved).arrays("model"), "model")
        return model

    def synced_plain(self) -> keras.Model:
        """Return the model as a notebook has it: methods evaluate and prepare knowing nothing of strategies."""
        if self._plain is not self.model:
            variables.write(self._plain.variables, variables.read(self.model.variables), "model")
        return self._plain

    def take_from_plain(self) -> None:
        """Set the trained model as a preparation left the plain one."""
        if self._plain is not self.model:
            variables.write(self.model.variables, variables.read(self._plain.variables), "model")

    def reseed(self, moment: int) -> None:
        """Make what is drawn next depend on the stage and `moment` alone, not on what this process did before."""
        words = np.random.SeedSequence((self.seed, self.position.stage, moment)).generate_state(1)
        keras.utils.set_random_seed(int(words[0]))

    def begin_next_stage(self) -> None:
        """Save what the stage that ends has made of the model; every worker takes the first one's."""
        self.position.next_stage()
        self.save(within_stage=False)
        if self.workers.count > 1:
            variables.write(self.model.variables, self._checkpoints.open(self._saved).arrays("model"), "model")

    def save(self, within_stage: bool = True) -> None:
        """Write a checkpoint of the model and, within a stage, of its optimizers and metrics.

        Raises:
            NonFiniteStepError: the arrays are not finite, so that nobody could go on from them.
            UserError: the disk is full.
        """
        groups = {"model": variables.read(self.model.variables)}
        if within_stage:
            for name, optimizer in self.optimizers().items():
                groups[f"optimizer_{name}"] = variables.read(optimizer.variables)
        if not variables.finite(groups):
            raise NonFiniteStepError(self.position.place, False, "weights or optimizer are not finite")
        if within_stage:
            partial = variables.read_partial(self.model.metrics_variables)
            groups["metrics"] = {"copies": self.workers.gather(partial.ravel()).reshape(-1, partial.shape[1])}
        best = self.position.best.file if self.position.best else None
        if self.workers.chief:
            state = {"identity": self._identity, "position": self.position.to_json(), "within_stage": within_stage}
            if best is not None and best == self._unwritten[0]:
                self._checkpoints.save_best(*self._unwritten)
            self._saved = self._checkpoints.save(state, groups, best)
        if best is not None and best == self._unwritten[0]:
            self._unwritten = "", {}
        self._saved = self.workers.share(self._saved)
        self.saved_at = time.monotonic()

    def go_back(self) -> Checkpoint:
        """Return the last checkpoint and take its position; what was left out since stays left out."""
        skipped = self.position.skipped
        checkpoint = self._checkpoints.open(self._saved)
        self._take_position(checkpoint)
        self.position.skipped = skipped
        self._rewind_files()
        return checkpoint

    def restore(self, checkpoint: Checkpoint) -> None:
        """Set the model and, within a stage, its optimizers and metrics, as they were saved."""
        variables.write(self.model.variables, checkpoint.arrays("model"), "model")
        if not checkpoint.state["within_stage"]:
            return
        for name, optimizer in self.optimizers().items():
            variables.write(optimizer.variables, checkpoint.arrays(f"optimizer_{name}"), f"optimizer {name!r}")
        copies = self.strategy.num_replicas_in_sync
        first = self.workers.index * copies // self.workers.count
        variables.write_partial(self.model.metrics_variables, checkpoint.arrays("metrics")["copies"], first, copies)

    def optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Return the optimizers of the stage by name."""
        return getattr(self.model, "optimizers", None) or {"optimizer": self.model.optimizer}

    def keep_best(self) -> None:
        """Keep the weights of the epoch that ends as the best of the stage; the next checkpoint writes them."""
        name = f"best-{self.position.stage}-{self.position.epoch:05d}.npz"
        self._unwritten = name, variables.read(self.model.weights)
        self.position.best.file = name

    def take_best(self) -> None:
        """Set the best weights of the stage, if a validation score was finite at all."""
        if self.position.best is None:
            self.progress.note("no validation score of the stage was finite; its last weights stay")
            return
        name, arrays = self._unwritten
        if name != self.position.best.file:
            arrays = self._checkpoints.read_best(self.position.best.file)
        variables.write(self.model.weights, arrays, "best weights")
        # The chief's next checkpoint removes the file; the others must have read it by then.
        self.workers.share()


def _lasting(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an identity what must not change between two starts of a run."""
    return {**identity, "spec": without_places(identity["spec"])}
