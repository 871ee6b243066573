"""What the loop makes of the stages of a method: order, rules, frozen layers, and losses that are not finite."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.method import Plateau, Stage
from training.feeding import epoch_order, global_batches, shares
from training.position import Position
from training.stops import NonFiniteLossError


def table(folder, name: str = "metrics.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_is_shared_in_order_and_some_shares_may_be_empty():
    order = epoch_order(3, 0, 1, 21)
    assert sorted(order) == list(range(21)) and (order == epoch_order(3, 0, 1, 21)).all()
    assert (order != epoch_order(3, 0, 2, 21)).any() and (order != epoch_order(3, 1, 1, 21)).any()
    batches = global_batches(order, 8)
    assert [len(batch) for batch in batches] == [8, 8, 5]
    for replicas, sizes in ((1, [5]), (2, [3, 2]), (4, [2, 2, 1, 0]), (8, [1] * 5 + [0] * 3)):
        pieces = shares(batches[-1], replicas)
        assert [len(piece) for piece in pieces] == sizes
        assert (np.concatenate(pieces) == batches[-1]).all()


def test_three_steps_of_fit_equal_three_steps_of_the_loop(toy, tmp_path, agree):
    recipe = toy.recipe_of(epochs=1, keep_best=False)
    model = toy.run_toy(tmp_path, recipe)
    data, stage = toy.ToyData(recipe), toy.stages(recipe)[0]
    toy.keras.utils.set_random_seed(3)
    fitted = toy.build(recipe, data.spec)
    toy.compile_stage(fitted, recipe, stage)
    batches = global_batches(epoch_order(3, 0, 0, 42), 16)
    # Told the number of steps, `fit` does not begin one more to find the end of the data.
    options = {"steps_per_epoch": len(batches), "shuffle": False, "verbose": 0}
    history = fitted.fit(data.batches("train", batches, (3, 0)), **options).history
    for own, other in zip(model.variables, fitted.variables, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), rtol=1e-6, atol=1e-7)
    assert float(table(tmp_path)[0]["loss"]) == pytest.approx(history["loss"][0], rel=1e-6)


def test_stages_prepare_train_and_freeze(toy, tmp_path):
    """After the second stage, whatever is not `head_` is bit-identical, BatchNorm statistics included."""
    states = []

    class Seeing(toy.Watcher):
        def stage(self, name, steps, **more):
            super().stage(name, steps, **more)
            path = sorted((tmp_path / "checkpoints").glob("checkpoint-*"))[-1]
            with np.load(path / "model.npz") as arrays:
                states.append((name, dict(arrays)))

    recipe = toy.recipe_of(prepare=True, head_stage=True, epochs=2, keep_best=False)
    model = toy.run_toy(tmp_path, recipe, progress=Seeing())
    assert [name for name, _ in states] == ["first guess", "body", "head"]
    with np.load(tmp_path / "preparations" / "first_guess.npz", allow_pickle=False) as saved:
        guess = saved["guess"]
        assert list(saved["words"]) == ["a", "bee"]
    places = {variable.path: f"{i:05d}" for i, variable in enumerate(model.variables)}
    bias = places["head_out/bias"]
    assert states[1][1][bias] == guess != states[0][1][bias]
    before = states[2][1]
    for variable, index in zip(model.variables, places.values(), strict=True):
        if variable.path != "body_dropout/step":  # a counter of steps, whatever they train
            moved = not np.array_equal(variable.numpy(), before[index])
            assert moved == ("head_" in variable.path), variable.path
        assert not np.array_equal(states[1][1][index], before[index]), variable.path
    assert [row["stage"] for row in table(tmp_path)] == ["body", "body", "head", "head"]
    assert table(tmp_path)[-1]["spread"] == ""  # the second stage has no such loss part
    assert [row["step"] for row in table(tmp_path)] == ["3", "6", "9", "12"]
    assert all(
        0 <= float(row["waiting"]) <= 1 and float(row["rows_per_second"]) > 0 for row in table(tmp_path, "timings.csv")
    )


def test_the_best_epoch_is_kept_and_training_stops_when_it_is_long_ago(toy, tmp_path):
    """The score is the error itself, which falls: the first epoch stays the best."""
    recipe = toy.recipe_of(score="error", epochs=9, patience=2)
    model = toy.run_toy(tmp_path, recipe)
    rows = table(tmp_path)
    errors = [float(row["val_error"]) for row in rows]
    assert len(rows) == 3 and errors[0] == max(errors)
    kept = toy.evaluate(model, toy.ToyData(recipe), recipe, "val").selection
    assert kept == pytest.approx(errors[0], rel=1e-5) != pytest.approx(errors[-1], rel=1e-2)


def test_the_learning_rate_falls_on_a_plateau_down_to_its_bound(toy, tmp_path):
    """Without a step worth the name, the loss on the validation split is flat from the first epoch on."""
    recipe = toy.recipe_of(
        optimizer="sgd",
        learning_rate=1e-9,
        min_learning_rate=1e-11,
        dropout=0.0,
        epochs=6,
        plateau_patience=1,
        plateau_monitor="val_square",
    )
    toy.run_toy(tmp_path, recipe)
    rates = [float(row["learning_rate"]) for row in table(tmp_path)]
    assert rates == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11, 1e-11, 1e-11], rel=1e-5)
    assert float(table(tmp_path)[0]["val_square"]) > 0


def test_the_learning_rate_falls_by_equal_steps_over_the_last_epochs(toy, tmp_path):
    toy.run_toy(tmp_path, toy.recipe_of(learning_rate=0.04, epochs=5, decay_epochs=3))
    rates = [float(row["learning_rate"]) for row in table(tmp_path)]
    assert rates == pytest.approx([0.04, 0.04, 0.03, 0.02, 0.01], rel=1e-5)
    stage = Stage("a", 200, 1, 1.0, {}, decay_epochs=100)
    assert [stage.rate_factor(epoch) for epoch in (0, 99, 100, 199)] == [1, 1, 100 / 101, 1 / 101]
    assert {Stage("a", 4, 1, 1.0, {}).rate_factor(epoch) for epoch in range(4)} == {1.0}


def test_what_a_method_needs_later_is_asked_for_before_the_first_step_of_each_start(toy, tmp_path, monkeypatch):
    asked = []

    def lacking(recipe, data):
        asked.append((recipe.epochs, data.size("train")))
        raise UserError("no weights of another network")

    recipe = toy.recipe_of(epochs=2)
    monkeypatch.setattr(toy, "METHOD", dataclasses.replace(toy.METHOD, before_training=lacking))
    watcher = toy.Watcher()
    with pytest.raises(UserError, match="no weights of another network"):
        toy.run_toy(tmp_path, recipe, progress=watcher)
    assert asked == [(2, 42)] and watcher.taken == 0
    had = dataclasses.replace(toy.METHOD, before_training=lambda recipe, data: asked.append("had"))
    monkeypatch.setattr(toy, "METHOD", had)
    with pytest.raises(toy.AbortError):
        toy.run_toy(tmp_path, recipe, progress=toy.Watcher({4: toy.abort}))
    toy.run_toy(tmp_path, recipe)
    # A run that is finished trains nothing more.
    toy.run_toy(tmp_path, recipe)
    assert asked[1:] == ["had", "had"]


def test_an_unknown_monitor_is_named(toy, tmp_path):
    with pytest.raises(UserError, match="plateau monitors 'los', which is not measured; measured are loss, square"):
        toy.run_toy(tmp_path, toy.recipe_of(plateau_patience=1, plateau_monitor="los"))


def test_patience_and_plateau_count_epochs():
    stage = Stage("a", 10, 1, 0.1, {}, patience=2)
    position, plateau = Position(), Plateau(patience=2, min_delta=0.1)
    risen = []
    for score in (1.0, float("nan"), 2.0, 2.0):
        risen.append(position.rises(score))
        assert not position.finished(stage)
    assert risen == [True, False, True, False]
    position.rises(1.5)
    assert position.finished(stage)
    values = (5.0, 4.95, 4.0, 3.95, 4.2, 4.1, 4.1, 3.0)
    assert [position.is_flat(plateau, value) for value in values] == [False] * 4 + [True, False, True, False]
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position


def test_a_loss_that_is_nan_once_costs_one_batch(toy, tmp_path, agree):
    """The loss of one row is NaN in the second epoch: its batch is left out, also by a run that is killed there."""
    recipe = toy.recipe_of(fault="once")
    watcher = toy.Watcher()
    model = toy.run_toy(tmp_path / "run", recipe, progress=watcher)
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert len(skipped) == 1 and skipped[0]["place"][:2] == [0, 1]
    assert f"train-{toy.FAULTY_ROW}" in skipped[0]["items"] and "square nan" in skipped[0]["what"]
    assert any("is left out" in note for note in watcher.notes)
    assert all(np.isfinite(variable.numpy()).all() for variable in model.variables)
    assert np.isfinite([float(row["loss"]) for row in table(tmp_path / "run")]).all()
    with pytest.raises(toy.AbortError):
        killed = toy.Watcher({7: toy.abort})
        toy.run_toy(tmp_path / "killed", recipe, progress=killed, checkpoint_every=1)
    assert agree(model, toy.run_toy(tmp_path / "killed", recipe))
    assert json.loads((tmp_path / "killed" / "skipped.json").read_text()) == skipped


@pytest.mark.parametrize("fault", ["gradient", "input"])
def test_a_gradient_that_is_nan_is_traced_to_its_own_batch(toy, tmp_path, fault):
    """The loss is finite where the gradient is not; the step after it would be blamed otherwise.

    A NaN among the inputs may be such a case: on some processors the fused ReLU of a dense layer makes it zero.
    """
    model = toy.run_toy(tmp_path, toy.recipe_of(fault=fault))
    skipped = json.loads((tmp_path / "skipped.json").read_text())
    assert len(skipped) == 1 and f"train-{toy.FAULTY_ROW}" in skipped[0]["items"]
    assert all(np.isfinite(variable.numpy()).all() for variable in model.variables)


def test_a_loss_that_stays_nan_stops_the_run(toy, tmp_path):
    message = r"stage 'body', epoch 2, step 2 of 3: .*square nan.*train-\d+, "
    with pytest.raises(NonFiniteLossError, match=message) as stop:
        toy.run_toy(tmp_path, toy.recipe_of(fault="persistent"))
    assert stop.value.exit_code == 3
    assert [entry["place"] for entry in json.loads((tmp_path / "skipped.json").read_text())] == [[0, 1, 0]]


def test_a_split_without_rows_is_named(toy, tmp_path):
    with pytest.raises(UserError, match="split 'train' has no rows"):
        toy.run_toy(tmp_path, rows={"train": 0, "val": 20})


def test_a_worker_that_was_started_otherwise_is_told(toy, tmp_path, monkeypatch):
    from training import loop

    class Second(loop.Workers):
        """A second worker whose chief has a recipe of two epochs."""

        def __init__(self, strategy):
            super().__init__(strategy)
            self.index = 1

        def share(self, value=None):
            if value and "identity" in value:
                value["identity"] = {**value["identity"], "recipe": toy.recipe_of(epochs=2).to_json()}
            return value

    monkeypatch.setattr(loop, "Workers", Second)
    with pytest.raises(UserError, match=r"worker 1 was started otherwise than worker 0: recipe\.epochs: 2 -> 3"):
        toy.run_toy(tmp_path)
