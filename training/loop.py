"""Trains a model through the stages of its method, and resumes as if it had never stopped.

Everything that a step depends on is either saved (weights, BatchNorm statistics, dropout counters, optimizers,
metrics, and the `Position` of the run) or a function of (seed, stage, epoch, row), such as the order of rows.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.method import Data, Method, Preparation
from tfthesis.recipe import Recipe
from training.checkpoints import write_arrays
from training.files import replacing
from training.run_directory import RunDirectory
from training.session import Session
from training.stage import Pauses, StageTraining
from training.stops import SignalWatch
from training.workers import LOST, Workers

if TYPE_CHECKING:
    from training.progress import Progress


def train(
    method: Method,
    recipe: Recipe,
    data: Data,
    run: RunDirectory,
    *,
    seed: int,
    strategy: tf.distribute.Strategy,
    progress: Progress,
    allow_change: bool = False,
    checkpoint_every: int | None = None,
    stop: Callable[[], int] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> keras.Model:
    """Return the model of `recipe`, trained through all its stages; resumes what `run` holds.

    The model is returned as `method.build` makes it, outside any strategy and not compiled. A run that is
    finished is not trained again. Of several workers all must call this; only the first writes.

    Args:
        method, recipe, data: what to train on what.
        run: where checkpoints, `metrics.csv`, `timings.csv` and `skipped.json` are kept; of several workers
            the same folder for all.
        seed: from 0; of weights, order of rows, dropout and augmentation. The global seeds of Python, numpy
            and TensorFlow are set from it.
        strategy: from `training.strategy.make_strategy`.
        progress: is told of stages, steps and epochs.
        allow_change: resume although recipe, data or seed are others than those of the checkpoint.
        checkpoint_every: steps between checkpoints, beside those at the end of each epoch; if None, one is
            written within an epoch when the last is a minute old.
        stop: asked after each step; returns 0, or the number of a signal to stop as if it had come. Unless
            given, SIGINT and SIGTERM are watched and held back until a checkpoint is written.
        begin: called once by the first worker, when it is known that the checkpoint fits the model and nothing is
            trained yet: what an earlier recipe left in the folder is out of date from here on.

    Raises:
        UserError: recipe, data or seed changed; no checkpoint is whole; the disk is full.
        NonFiniteLossError: the loss is NaN or infinite, and leaving out a batch does not help.
        Interrupted: `stop` asked for it.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed: expected a number from 0 to 2**32 - 1, got {seed}")
    workers = Workers(strategy)
    lock = run.locked() if workers.chief else contextlib.nullcontext()
    watch = SignalWatch() if stop is None else contextlib.nullcontext(stop)
    try:
        with lock, watch as asked:
            session = Session(method, recipe, data, run, seed, strategy, workers, progress)
            pauses = Pauses(workers.share(checkpoint_every), asked)
            return _run_stages(session, allow_change, pauses, functools.cache(begin if workers.chief else lambda: None))
    except LOST as error:
        if workers.count == 1:
            raise
        workers.leave(error)


def _run_stages(session: Session, allow_change: bool, pauses: Pauses, begin: Callable[[], None]) -> keras.Model:
    """Run the stages that are left; returns the trained model. All but the first call of `begin` do nothing."""
    checkpoint = session.open(allow_change)
    if session.workers.chief and not session.finished:
        session.method.before_training(session.recipe, session.data)
    while not session.finished:
        stage = session.stages[session.position.stage]
        if isinstance(stage, Preparation):
            begin()
            _prepare(session, stage)
        else:
            training = StageTraining(session, stage, pauses)
            training.enter(checkpoint)
            begin()
            training.run()
        session.begin_next_stage()
        checkpoint = None
    model = session.trained()
    begin()
    return model


def _prepare(session: Session, stage: Preparation) -> None:
    """Run a stage without gradients on the first worker, and keep its arrays with the run."""
    session.progress.stage(stage.name, 0)
    plain = session.synced_plain()
    session.reseed(0)
    if session.workers.chief:
        arrays = stage.run(plain, session.data, session.recipe)
        folder = session.run.path / "preparations"
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{re.sub(r'[^-.0-9A-Za-z]+', '_', stage.name)}.npz") as file:
            write_arrays(file, {key: np.asarray(array) for key, array in arrays.items()})
        session.take_from_plain()
