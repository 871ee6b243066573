"""A run that was killed goes on as if nothing had happened: bit for bit, on a CPU."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest

from tfthesis.errors import UserError
from training.stops import Interrupted

STEPS, SAVED, ABORTED = 9, 5, 6
"""Steps of the whole run, at the last checkpoint of the half run, and at its end."""


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """(folder, model) of a run that was never stopped; three epochs of three steps."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, toy.run_toy(folder, checkpoint_every=SAVED)


@pytest.fixture(scope="module")
def half(toy, tmp_path_factory):
    """Folder of a run that was aborted in its second epoch, after a checkpoint."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.raises(toy.AbortError):
        toy.run_toy(folder, progress=toy.Watcher({ABORTED: toy.abort}), checkpoint_every=SAVED)
    return folder


@pytest.fixture
def copy(half, tmp_path):
    """A copy of the half run, to be spoilt."""
    return shutil.copytree(half, tmp_path / "run")


def assert_equals(whole, folder, model, agree):
    assert agree(whole[1], model)
    assert (folder / "metrics.csv").read_bytes() == (whole[0] / "metrics.csv").read_bytes()
    states = [best_of(path) for path in (whole[0], folder)]
    assert states[0] == states[1]


def best_of(folder) -> list:
    """Return what the checkpoint before the last remembers of the best epoch."""
    path = sorted((folder / "checkpoints").glob("checkpoint-*"))[0]
    return json.loads((path / "state.json").read_text())["position"]["best"]


def test_aborted_in_mid_epoch(toy, agree, whole, copy):
    assert_equals(whole, copy, toy.run_toy(copy, checkpoint_every=SAVED), agree)


def test_aborted_between_the_row_of_an_epoch_and_its_checkpoint(toy, agree, whole, copy):
    with pytest.raises(toy.AbortError):
        toy.run_toy(copy, progress=toy.Watcher(at_epoch={2: toy.abort}), checkpoint_every=SAVED)
    assert (copy / "metrics.csv").read_text().count("body") == 2
    assert_equals(whole, copy, toy.run_toy(copy, checkpoint_every=SAVED), agree)


def test_killed_for_real(toy, agree, whole, tmp_path, start_toy):
    process = start_toy(json.dumps({"run": str(tmp_path), "kill": 7, "checkpoint_every": SAVED}))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert_equals(whole, tmp_path, toy.run_toy(tmp_path, checkpoint_every=SAVED), agree)


def test_aborted_again_and_again_through_all_kinds_of_stages(toy, agree, tmp_path):
    recipe = toy.recipe_of(prepare=True, draw=True, head_stage=True, epochs=2, plateau_patience=1, optimizer="sgd")
    model = toy.run_toy(tmp_path / "whole", recipe, checkpoint_every=2)
    folder, sessions = tmp_path / "run", 0
    random = np.random.default_rng(0)
    while True:
        sessions += 1
        watcher = toy.Watcher({random.integers(3, 6): toy.abort})
        with contextlib.suppress(toy.AbortError):
            again = toy.run_toy(folder, recipe, progress=watcher, checkpoint_every=2)
            break
    assert sessions >= 3
    assert_equals((tmp_path / "whole", model), folder, again, agree)


def test_a_finished_run_is_not_trained_again(toy, agree, whole):
    watcher = toy.Watcher()
    assert agree(whole[1], toy.run_toy(whole[0], progress=watcher))
    assert watcher.taken == 0


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(toy, agree, whole, copy):
    path = sorted((copy / "checkpoints").glob("checkpoint-*"))[-1] / "model.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    watcher = toy.Watcher()
    assert_equals(whole, copy, toy.run_toy(copy, progress=watcher, checkpoint_every=SAVED), agree)
    assert any(path.parent.name in note and "damaged" in note for note in watcher.notes)


def test_a_full_disk_stops_the_run_and_loses_nothing(toy, agree, whole, copy):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = {1: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))}
    try:
        with pytest.raises(UserError, match="could not be written"):
            toy.run_toy(copy, progress=toy.Watcher(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_equals(whole, copy, toy.run_toy(copy, checkpoint_every=SAVED), agree)


def test_asked_to_stop_it_saves_the_step_it_is_at(toy, agree, whole, copy):
    watcher = toy.Watcher()
    with pytest.raises(Interrupted, match=r"SIGTERM after stage 'body', epoch 2, step 3 of 3.*to resume") as stopped:
        toy.run_toy(copy, progress=watcher, stop=lambda: signal.SIGTERM)
    assert stopped.value.exit_code == 143 and watcher.taken == 1
    assert_equals(whole, copy, toy.run_toy(copy, checkpoint_every=SAVED), agree)


def test_a_signal_waits_for_the_checkpoint_and_then_does_what_it_did(toy, agree, whole, copy):
    watcher = toy.Watcher({2: lambda: os.kill(os.getpid(), signal.SIGINT)})
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        toy.run_toy(copy, progress=watcher, checkpoint_every=SAVED)
    assert not isinstance(stopped.value, Interrupted) and watcher.taken == 2
    assert signal.getsignal(signal.SIGINT) is handler
    watcher = toy.Watcher()
    assert_equals(whole, copy, toy.run_toy(copy, progress=watcher, checkpoint_every=SAVED), agree)
    assert watcher.taken == STEPS - SAVED - 2


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"learning_rate": 0.06}, r"recipe\.learning_rate: 0\.05 -> 0\.06"),
        ({"rows": {"train": 41, "val": 20}}, r"spec\.dataset\.fingerprint: .*42.* -> .*41"),
        ({"seed": 4}, "seed: 3 -> 4"),
    ],
)
def test_another_recipe_dataset_or_seed_is_refused_by_name(toy, half, options, difference):
    options = dict(options)
    recipe = toy.recipe_of(learning_rate=options.pop("learning_rate", 0.05))
    with pytest.raises(UserError, match=f"{difference}.*--allow-change"):
        toy.run_toy(half, recipe, **options)


def test_a_change_can_be_allowed(toy, copy):
    watcher = toy.Watcher()
    toy.run_toy(copy, toy.recipe_of(epochs=2), progress=watcher, allow_change=True)
    assert any("recipe.epochs: 3 -> 2" in note for note in watcher.notes) and watcher.taken == 1


def test_a_change_of_shapes_names_the_variable(toy, copy, monkeypatch):
    data = toy.ToyData(toy.RECIPE)
    monkeypatch.setattr(toy, "ToyData", lambda recipe, rows: data)
    data.spec = toy.Spec(inputs={"x": (7,)})
    with pytest.raises(UserError, match=r"body_dense/kernel has shape \(7, 8\), saved was \(6, 8\)"):
        toy.run_toy(copy, allow_change=True)


def test_a_run_begins_once_and_only_from_a_checkpoint_that_fits(toy, copy):
    began = []
    with pytest.raises(UserError, match="optimizer 'optimizer': .* variables were saved"):
        toy.run_toy(copy, toy.recipe_of(optimizer="sgd"), allow_change=True, begin=lambda: began.append("sgd"))
    assert not began
    watcher = toy.Watcher({1: lambda: began.append("step")})
    toy.run_toy(copy, progress=watcher, begin=lambda: began.append("begin"))
    assert began == ["begin", "step"]


def test_checkpoints_hold_numbers_and_json(whole):
    path = sorted((whole[0] / "checkpoints").glob("checkpoint-*"))[-1]
    with np.load(path / "model.npz", allow_pickle=False) as arrays:
        assert all(array.dtype.kind in "fiu" for array in arrays.values())
    assert json.loads((path / "state.json").read_text())["position"]["stage"] == 1
