"""What follows each epoch: validation, the best weights, the learning rate, and a row of `metrics.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Evaluation, Plateau, Stage
from training.feeding import Feeder, epoch_order, global_batches
from training.session import Session
from training.step import make_step

VALIDATION = "val"


class EpochEnd:
    """Applies the rules of a stage to the epoch that ends."""

    def __init__(self, session: Session, stage: Stage, feeder: Feeder):
        self.session, self.stage, self.feeder = session, stage, feeder

    def run(self, timings: Mapping[str, float]) -> None:
        """Validate, keep the best weights, lower the learning rate if it is time, and write the row.

        Raises:
            UserError: the plateau's monitor is not measured.
        """
        session, position, plateau = self.session, self.session.position, self.stage.plateau
        figures = results(session.model)
        selection, scalars = self._evaluate()
        figures |= {f"{VALIDATION}_{name}": value for name, value in scalars.items()}
        if plateau is not None and plateau.monitor not in figures and plateau.monitor.startswith(f"{VALIDATION}_"):
            figures |= self._validation_losses()
        epoch = {"stage": self.stage.name, "epoch": position.epoch + 1, "step": position.steps}
        row = {**epoch, **self._learning_rates(), **figures, "selection": selection}
        if position.rises(selection) and self.stage.keep_best:
            session.keep_best()
        if plateau is not None:
            self._follow(plateau, figures)
        if self.stage.decay_epochs and position.epoch + 1 < self.stage.epochs:
            self._multiply_rates(self.stage.rate_factor(position.epoch + 1) / self.stage.rate_factor(position.epoch))
        if session.workers.chief:
            session.run.append_metrics(row, {**epoch, **timings})
        position.rows += 1
        session.progress.epoch({**figures, "selection": selection})

    def _evaluate(self) -> tuple[float, dict[str, float]]:
        """Return the selection score and the scalars of the validation split, as the first worker measures them."""
        session, measured = self.session, None
        plain = session.synced_plain()
        session.reseed(session.position.epoch + 1)
        if session.workers.chief:
            evaluation = session.method.evaluate(plain, session.data, session.recipe, VALIDATION)
            scalars = {name: float(value) for name, value in evaluation.scalars.items()}
            measured = {"selection": selection_score(evaluation, self.stage), "scalars": scalars}
        measured = session.workers.share(measured)
        return measured["selection"], measured["scalars"]

    def _validation_losses(self) -> dict[str, float]:
        """Return the loss and its parts on the validation split, in batches of the stage's size."""
        session = self.session
        order = epoch_order(session.seed, 0, 0, session.data.size(VALIDATION))
        batches = global_batches(order, self.stage.batch_size)
        dataset = self.feeder.dataset(VALIDATION, batches, (session.seed, 0))
        step = make_step(session.model.test_step, session.strategy, dataset.element_spec, xla=False)
        session.model.reset_metrics()
        for batch in self.feeder.iterate(dataset, len(batches)):
            step(batch)
        return {f"{VALIDATION}_{name}": value for name, value in results(session.model).items()}

    def _learning_rates(self) -> dict[str, float]:
        optimizers = self.session.optimizers()
        if len(optimizers) == 1:
            return {"learning_rate": learning_rate(*optimizers.values())}
        return {f"learning_rate_{name}": learning_rate(optimizer) for name, optimizer in optimizers.items()}

    def _follow(self, plateau: Plateau, figures: Mapping[str, float]) -> None:
        """Lower every learning rate when the monitored value has stopped falling."""
        if plateau.monitor not in figures:
            raise UserError(
                f"stage {self.stage.name!r}: plateau monitors {plateau.monitor!r}, which is not measured; "
                f"measured are {', '.join(figures)}"
            )
        if not self.session.position.is_flat(plateau, figures[plateau.monitor]):
            return
        highest = max(map(learning_rate, self.session.optimizers().values())) * plateau.factor
        # The rates are float32: a bound that is met exactly must not fail by a rounding.
        if highest < plateau.min_learning_rate * (1 - 1e-6):
            return
        self._multiply_rates(plateau.factor)
        self.session.progress.note(f"{plateau.monitor} is flat: learning rate {highest:.3g}")

    def _multiply_rates(self, factor: float) -> None:
        """Change the learning rate of every optimizer; checkpoints hold it."""
        for optimizer in self.session.optimizers().values():
            rate = learning_rate(optimizer)
            with self.session.strategy.scope():
                optimizer.learning_rate = rate * factor


def results(model: keras.Model) -> dict[str, float]:
    """Return the model's metrics over all devices as numbers."""
    return {name: float(np.reshape(value, ())) for name, value in model.get_metrics_result().items()}


def learning_rate(optimizer: Any) -> float:
    """Return the learning rate of the next step: the shortest decimal that stands for the float32."""
    return float(str(np.float32(np.reshape(keras.ops.convert_to_numpy(optimizer.learning_rate), ()))))


def selection_score(evaluation: Evaluation, stage: Stage) -> float:
    """Return the figure by which `stage` picks its best weights.

    Raises:
        UserError: `Stage.select` names a scalar that was not measured.
    """
    if stage.select and stage.select not in evaluation.scalars:
        raise UserError(
            f"stage {stage.name!r}: select names {stage.select!r}, which is not measured; "
            f"measured are {', '.join(evaluation.scalars)}"
        )
    return float(evaluation.scalars[stage.select] if stage.select else evaluation.selection)
