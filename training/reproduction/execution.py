"""Make the runs that an edition of a table lacks, and keep each as soon as it is done."""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import Spec
from training.environment import describe_environment
from training.reproduction.commands import Commands
from training.reproduction.edition import DATA_VARIABLE, Edition
from training.reproduction.store import Planned, Record, ResultStore
from training.request import Request
from training.results import read_samples
from training.run_directory import TIMINGS, RunDirectory

Trainer = Callable[[Request, Path], None]
Say = Callable[[str], None]
SIGNIFICANT = 6


def fill(
    edition: Edition,
    store: ResultStore,
    *,
    runs_root: Path,
    say: Say,
    train: Trainer | None = None,
    again: bool = False,
    jobs: int = 1,
) -> dict[str, str]:
    """Make every run of `edition` that `store` lacks.

    A row whose run fails is left, and the next one is tried, so that a missing file of weights does not
    keep the rest of a table from being made.

    Args:
        edition: what to run.
        store: where results are looked up and kept.
        runs_root: folder of the run directories; an interrupted run resumes from there.
        say: told what happens, a line at a time.
        train: makes the run directory of a request; `python -m training.run` unless given.
        again: repeat runs that the store has.
        jobs: runs at a time.

    Returns:
        The reason of failure by row label.
    """
    commands = Commands(jobs)
    train = train or commands.run
    failures: dict[str, str] = {}
    wanted = [(row, planned) for row in edition.table.rows for planned in edition.planned(row)]
    # Two rows may need the same run.
    missing: dict[str, tuple[int, list[str], Planned]] = {}
    for number, (row, planned) in enumerate(wanted, start=1):
        if planned.stem in missing:
            missing[planned.stem][1].append(row.label)
        elif again or not store.find(planned):
            missing[planned.stem] = number, [row.label], planned
    keeping = threading.Lock()

    def make(number: int, labels: list[str], planned: Planned) -> None:
        if failures.keys() >= set(labels):
            return
        head = f"[{number}/{len(wanted)}] {labels[0]}, seed {planned.request.seed}"
        say(f"{head}: {planned.kind} on {planned.data}")
        try:
            record, samples = _make(planned, runs_root, train, again)
        except UserError as error:
            failures.update(dict.fromkeys(labels, str(error)))
            say(f"{head}: not made: {error}")
            return
        with keeping:
            store.add(planned, dataclasses.replace(record, jobs=jobs), samples)
        say(f"{head}: {record.seconds:.0f} s")

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            made = [pool.submit(make, *each) for each in missing.values()]
            for future in concurrent.futures.as_completed(made):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            raise
    return failures


def _make(planned: Planned, runs_root: Path, train: Trainer, again: bool) -> tuple[Record, Mapping[str, np.ndarray]]:
    request, start = planned.request, time.monotonic()
    if request.data_dir is not None and planned.kind != "count" and not request.data_dir.is_dir():
        raise UserError(f"no folder {request.data_dir}; name it with --data-dir or {DATA_VARIABLE}")
    if planned.kind == "run":
        folder = _trained(planned, runs_root, train, again)
        return _read_run(planned, folder, time.monotonic() - start)
    # Imported here, because these need TensorFlow and a finished table does not.
    from training import baselines

    trained = 0.0
    if planned.kind == "transfer":
        baselines.check_targets(planned.settings, planned.root)
        folder = None if planned.deterministic else _trained(planned, runs_root, train, again)
        trained = trained_seconds(folder)[0] if folder else 0.0
        found = baselines.evaluate_transfer(folder, planned.settings, planned.root)
    elif planned.kind == "ridge":
        found = baselines.evaluate_ridge(request, planned.settings["strengths"])
    elif planned.kind == "bag_of_words":
        found = baselines.evaluate_bag_of_words(request, planned.settings["strengths"])
    else:
        found = baselines.count_weights(request, planned.settings["spec"], planned.settings["counted"])
    record = _record(
        planned,
        spec=found.spec,
        evaluation={"protocol": found.evaluation.protocol, "scalars": found.evaluation.scalars},
        epochs={},
        # As below, where training was done before.
        seconds=max(time.monotonic() - start, trained),
        environment=describe_environment(),
    )
    return record, found.evaluation.samples


def run_folder(request: Request, runs_root: Path, again: bool) -> Path:
    """Return where a run lives: the folder of equal runs made by hand, or a new one beside it to repeat them."""
    folder = request.folder(runs_root)
    if request.data_dir is not None:
        folder = folder.with_name(f"{folder.name}-{request.data_dir.name}")
    names = itertools.chain([folder.name], (f"{folder.name}-{number}" for number in itertools.count(2)))
    return next(folder.with_name(name) for name in names if not again or not folder.with_name(name).exists())


def _trained(planned: Planned, runs_root: Path, train: Trainer, again: bool) -> Path:
    """Return the run directory of a planned run, trained if it was not."""
    folder = run_folder(planned.request, runs_root, again)
    train(planned.request, folder)
    recipe, made = planned.request.recipe.to_json(), RunDirectory(folder).read_json("recipe.json")["fields"]
    if made != recipe:
        raise UserError(f"{folder} was made with another recipe than the table asks for: {made} instead of {recipe}")
    return folder


def _read_run(planned: Planned, folder: Path, seconds: float) -> tuple[Record, Mapping[str, np.ndarray]]:
    """Return what a finished run directory holds."""
    run = RunDirectory(folder)
    trained, waiting = trained_seconds(folder)
    record = _record(
        planned,
        spec=Spec.from_json(run.read_json("spec.json")),
        evaluation=run.read_json("evaluation.json"),
        epochs=epoch_columns(run.metrics()),
        # A run that was resumed, or made before, took longer than what was seen of it now.
        seconds=max(seconds, trained),
        waiting=waiting,
        environment=run.read_json("environment.json"),
    )
    return record, read_samples(folder)


def trained_seconds(folder: Path) -> tuple[float, float | None]:
    """Return the time of all epochs, validation apart, and which share of it waited for input, from `timings.csv`.

    The time is 0 without the file, and the share None where it does not say.
    """
    path = folder / TIMINGS
    if not path.exists():
        return 0.0, None
    with open(path, newline="", encoding="utf-8") as file:
        epochs = [(float(row.get("seconds") or 0), row.get("waiting")) for row in csv.DictReader(file)]
    seconds = sum(spent for spent, _ in epochs)
    if not seconds or not all(share for _, share in epochs):
        return seconds, None
    return seconds, sum(spent * float(share) for spent, share in epochs) / seconds


def epoch_columns(rows: list[dict[str, str]]) -> dict[str, list[Any]]:
    """Return stage, validation figures and selection of the rows of `metrics.csv` as columns; None where empty."""
    keys = dict.fromkeys(key for row in rows for key in row)
    names = [name for name in keys if name.startswith("val_") or name == "selection"]
    columns: dict[str, list[Any]] = {"stage": [row["stage"] for row in rows]}
    for name in names:
        columns[name] = [float(f"{float(row[name]):.{SIGNIFICANT}g}") if row.get(name) else None for row in rows]
    return columns if names else {}


def _record(
    planned: Planned,
    *,
    spec: Spec,
    evaluation: Mapping[str, Any],
    epochs: Mapping[str, Any],
    seconds: float,
    environment: Mapping[str, Any],
    waiting: float | None = None,
) -> Record:
    request = planned.request
    return Record(
        kind=planned.kind,
        method=request.short_name,
        preset=request.preset,
        variant=request.variant,
        data=planned.data,
        seed=request.seed,
        recipe=request.recipe.to_json(),
        settings=planned.settings,
        fingerprint=str(spec.dataset.get("measured", spec.dataset.get("fingerprint", ""))),
        protocol=evaluation["protocol"],
        scalars=dict(evaluation["scalars"]),
        epochs=epochs,
        seconds=round(seconds, 1),
        waiting=None if waiting is None else round(waiting, 4),
        cores=environment.get("cores") or os.cpu_count() or 1,
        processor=environment.get("processor", ""),
        commit=environment.get("commit"),
        versions=environment.get("packages", {}),
    )
