"""One run from data to report, in a folder that says at every moment how far it is.

What a run needs stands in the folder before training (recipe, spec, fitted encoders, data, items, environment), what it
found stands in it afterwards (model, evaluation, pictures, report), and `DONE` says that it is complete. The same call
resumes an unfinished run and reads a finished one back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfthesis.errors import UserError
from tfthesis.method import SPLITS, Data
from training.environment import describe_environment
from training.progress import Progress
from training.request import Request, first_difference, without_places
from training.results import plain, write_evaluation
from training.run_directory import RunDirectory

if TYPE_CHECKING:
    import keras

ENCODERS = "encoders"
"""Copies of what was fitted to the training captions."""
RESULTS = ("DONE", "evaluation.json", "evaluation.npz", "pictures.json", "exports.json", "model.keras")
"""What a changed recipe or dataset makes out of date."""


def execute(
    request: Request,
    folder: Path,
    *,
    progress: Progress | None = None,
    strategy: str = "one",
    devices: int | None = None,
    allow_change: bool = False,
    checkpoint_every: int | None = None,
    compare_data: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, Any] | None:
    """Train, evaluate and report one run; returns its `evaluation.json`.

    Of several workers only the first evaluates, writes and returns something; the others return None. A
    finished run is read back without TensorFlow, unless its data are compared.

    Args:
        request: what to run.
        folder: the run directory.
        progress: where progress is shown.
        strategy, devices: see `training.strategy.make_strategy`.
        allow_change: go on although recipe, seed or dataset changed; the change is recorded.
        checkpoint_every: steps between checkpoints; None leaves it to the loop.
        compare_data: open the data of a finished run too, since files may have changed where they lie; `allow_change`
            does so as well.
        command: kept in `environment.json`.

    Raises:
        UserError: the dataset is missing, or `folder` holds another run.
    """
    run, progress = RunDirectory(folder, events=True), progress or Progress()
    changed = _difference(run, "recipe.json", request.to_json(), allow_change)
    same_place = run.done and run.read_json("recipe.json")["data_dir"] == request.to_json()["data_dir"]
    if same_place and not (changed or compare_data or allow_change):
        return run.read_json("evaluation.json")

    from training.strategy import is_chief, make_strategy

    scope = make_strategy(strategy, devices)
    with fits_of(folder):
        data = open_data(request, progress)
    changed = changed or _difference(run, "spec.json", data.spec.to_json(), allow_change)
    if run.done and not changed:
        return run.read_json("evaluation.json")
    if is_chief(scope):
        progress.log_to(folder / "run.log")
        # Computes the features that are missing, before other workers wait for a step of this one.
        split_sizes(data)

    def begin() -> None:
        if changed:
            _record_change(run, changed)
        _record(run, request, data, command)

    from training.loop import train

    model = train(
        request.method,
        request.recipe,
        data,
        run,
        seed=request.seed,
        strategy=scope,
        progress=progress,
        allow_change=allow_change,
        checkpoint_every=checkpoint_every,
        begin=begin,
    )
    return _finish(run, request, data, model, progress) if is_chief(scope) else None


def _identity(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `recipe.json` decides the result; where the files lie does not."""
    return {"method": Path(recipe["method"]).stem, "seed": recipe["seed"], "fields": recipe["fields"]}


def _difference(run: RunDirectory, name: str, wanted: dict[str, Any], allowed: bool) -> str | None:
    """Return the first difference between what a run was made with and what is wanted now.

    Raises:
        UserError: there is one, and it is not allowed.
    """
    made = run.read_json(name)
    if made is None:
        return None
    same = _identity if name == "recipe.json" else without_places
    difference = first_difference(same(made), same(wanted))
    if difference and not allowed:
        raise UserError(
            f"{run.path} holds a run of another {name.removesuffix('.json')}: {difference}. Use another --run-dir, or "
            "--allow-change to go on from its last checkpoint all the same."
        )
    return difference


def _record_change(run: RunDirectory, change: str) -> None:
    """Note a change, and remove the results that it makes out of date."""
    run.write_json("changes.json", [*run.read_json("changes.json", []), change])
    for name in RESULTS:
        (run.path / name).unlink(missing_ok=True)


def open_data(request: Request, progress: Progress) -> Data:
    """Return the dataset of a request; features that it computes later are shown on `progress`."""
    data = request.open_data()
    if hasattr(data, "progress"):
        data.progress = lambda done, total: progress.count("features", done, total)
    return data


def fits_of(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Let encoders that were fitted for the run in `folder` be opened from the copies that it keeps."""
    from tfthesis.encoders.fitted import fits_kept_in

    return fits_kept_in(folder / ENCODERS)


def _record(run: RunDirectory, request: Request, data: Data, command: Sequence[str] | None) -> None:
    """Write what the run is made of; the features of every split are there."""
    from tfthesis.encoders.fitted import keep_fits

    sizes = split_sizes(data)
    keep_fits(data.spec.encoders, run.path / ENCODERS)
    run.write_json("recipe.json", request.to_json())
    run.write_json("spec.json", data.spec.to_json())
    run.write_json("data.json", plain(data.describe()))
    run.write_json("items.json", {split: data.item_ids(split, np.arange(size)) for split, size in sizes.items()})
    run.write_json("environment.json", describe_environment(command))


def split_sizes(data: Data) -> dict[str, int]:
    """Return the rows of every split; features that are missing are computed on the way."""
    return {split: data.size(split) for split in SPLITS}


def _finish(run: RunDirectory, request: Request, data: Data, model: keras.Model, progress: Progress) -> dict[str, Any]:
    """Keep the model, open the test split once, and write everything that is read afterwards."""
    from training.report import render

    progress.note("trained; measuring on the test split")
    # Keras goes by the suffix, so that the hidden name must end in .keras too.
    partial = run.path / ".model.partial.keras"
    model.save(partial)
    os.replace(partial, run.path / "model.keras")
    if run.read_json("evaluation.json") is None:
        write_evaluation(run, request.method.evaluate(model, data, request.recipe, "test"), "test")
    if run.read_json("pictures.json") is None:
        _draw(run, request, data, model)
    render(run.path)
    run.mark_done()
    return run.read_json("evaluation.json")


def _draw(run: RunDirectory, request: Request, data: Data, model: keras.Model) -> None:
    folder = run.path / "pictures"
    folder.mkdir(exist_ok=True)
    drawn = request.method.pictures(model, data, request.recipe, folder)
    entries = [{"file": str(picture.path.relative_to(run.path)), "caption": picture.caption} for picture in drawn]
    run.write_json("pictures.json", entries)
