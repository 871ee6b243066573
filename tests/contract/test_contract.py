"""What every method must do, asked of each on its `tiny` recipe: the files of tfthesis/methods are the list.

Nothing here names a method; a new one is tested by being there. The files of tests/contract/methods are two small
methods of shapes that the library's own need not have: one without gradients, one with two optimizers.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.discovery import method_names
from tfthesis.encoders import reopen
from tfthesis.export.exporter import build_index, export
from tfthesis.export.parity import difference
from tfthesis.export.session import open_session
from tfthesis.method import Evaluation, Preparation, Stage
from training.checkpoints import Checkpoints
from training.dry_run import dry_run_text
from training.execution import execute
from training.feeding import epoch_order, global_batches
from training.loop import train
from training.progress import Progress
from training.request import Request
from training.run_directory import RunDirectory
from training.stops import Interrupted
from training.strategy import make_strategy
from training.variables import write

SEED = 3
METHODS = [*method_names(), *sorted(map(str, Path(__file__).parent.glob("methods/*.py")))]


@dataclasses.dataclass
class Opened:
    """A method with its tiny data and one finished run."""

    request: Request
    data: object
    folder: object
    evaluation: dict

    @property
    def method(self):
        return self.request.method

    def build(self):
        keras.utils.set_random_seed(SEED)
        return self.method.build(self.request.recipe, self.data.spec)

    @property
    def gradient_stages(self):
        return [stage for stage in self.method.stages(self.request.recipe) if isinstance(stage, Stage)]

    def train(self, folder, strategy, **arguments):
        options = {"seed": SEED, "strategy": strategy, "progress": Progress(), **arguments}
        return train(self.method, self.request.recipe, self.data, RunDirectory(folder), **options)

    def ready(self):
        """Return a built model, compiled for its first gradient stage."""
        model, stage = self.build(), self.gradient_stages[0]
        model.train_only(stage.trainable)
        self.method.compile(model, self.request.recipe, stage)
        return model

    def batches(self, sizes):
        stage = self.gradient_stages[0]
        ends = list(itertools.accumulate(sizes))
        rows = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return self.data.batches(stage.split, rows, (SEED, 0))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, id=Path(name).stem, marks=pytest.mark.xdist_group(f"contract-{Path(name).stem}"))
        for name in METHODS
    ],
)
def opened(request, tmp_path_factory):
    asked = Request.create(request.param, "tiny", seed=SEED)
    folder = tmp_path_factory.mktemp(Path(request.param).stem) / "run"
    evaluation = execute(asked, folder)
    return Opened(asked, asked.open_data(), folder, evaluation)


@pytest.fixture
def trained(opened):
    """A method that trains by gradients; the test is skipped for others."""
    if not opened.gradient_stages:
        pytest.skip(f"{opened.method.title} has no stage with gradients")
    return opened


@pytest.fixture
def prepared(opened):
    """A method of preparations alone; the test is skipped for others."""
    if opened.gradient_stages:
        pytest.skip(f"{opened.method.title} has stages with gradients")
    return opened


def test_recipes_explain_every_number(opened):
    for field in dataclasses.fields(opened.request.recipe):
        assert field.metadata.get("help"), f"{field.name} has no help"
        assert field.metadata.get("source"), f"{field.name} has no source"


def test_every_variant_builds_and_has_stages(opened):
    for preset, variant in itertools.product(["tiny"], [None, *opened.method.variants]):
        recipe = opened.method.recipe(preset, variant)
        assert opened.method.build(recipe, opened.data.spec).variables
        assert all(isinstance(stage, Stage | Preparation) for stage in opened.method.stages(recipe))


def test_dry_run_names_every_stage(opened):
    text = dry_run_text(opened.request, opened.data)
    assert all(stage.name in text for stage in opened.method.stages(opened.request.recipe))


def test_run_is_complete(opened):
    names = {path.name for path in opened.folder.iterdir()}
    expected = {
        *("recipe.json", "spec.json", "data.json", "environment.json", "evaluation.json", "run.log"),
        *("model.keras", "report.html", "model_card.md", "DONE"),
    }
    assert expected <= names
    assert ("metrics.csv" in names) == bool(opened.gradient_stages)
    pictures = list((opened.folder / "pictures").glob("*.png"))
    assert pictures and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_keras_file_gives_the_evaluated_model_back(opened):
    model = keras.saving.load_model(opened.folder / "model.keras", safe_mode=True)
    again = opened.method.evaluate(model, opened.data, opened.request.recipe, "test")
    assert isinstance(again, Evaluation)
    for name, value in again.scalars.items():
        assert opened.evaluation["scalars"][name] == pytest.approx(value, rel=1e-6), name
    config = json.dumps(json.loads(model.to_json()))
    assert '"Lambda"' not in config


def test_three_steps_of_fit_are_three_steps_of_the_loop(trained, tmp_path):
    with pytest.raises(Interrupted):
        # None but the checkpoints before the first step and after the third.
        trained.train(tmp_path, make_strategy("one"), stop=Counter(3), checkpoint_every=100)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    names = sorted(path.name for path in checkpoints.folder.glob("checkpoint-*"))
    start, stopped = (checkpoints.open(name).arrays("model") for name in names)
    model, stage = trained.ready(), trained.gradient_stages[0]
    write(model.variables, start, "model")
    number = trained.method.stages(trained.request.recipe).index(stage)
    order = epoch_order(SEED, number, 0, trained.data.size(stage.split))
    batches = global_batches(order, stage.batch_size)[:3]
    assert len(batches) == 3
    model.fit(trained.data.batches(stage.split, batches, (SEED, 0)), epochs=1, verbose=0)
    assert any(np.any(start[name] != stopped[name]) for name in start)
    for variable, (_, looped) in zip(model.variables, sorted(stopped.items()), strict=True):
        np.testing.assert_allclose(variable, looped, rtol=1e-6, atol=1e-7, err_msg=variable.path)


def test_steps_return_the_scalars_that_the_loop_reads(trained):
    model = trained.ready()
    (batch,) = trained.batches([min(8, trained.gradient_stages[0].batch_size)])
    for step in (model.train_step, model.test_step):
        model.reset_metrics()
        logs = step(batch)
        assert "loss" in logs and all(np.isfinite(value) and np.size(value) == 1 for value in logs.values())
        assert {name: float(value) for name, value in model.get_metrics_result().items()} == pytest.approx(
            {name: float(value) for name, value in logs.items()}
        )


def test_each_stage_trains_only_what_it_names(trained):
    model = trained.build()
    for stage in trained.gradient_stages:
        model.train_only(stage.trainable)
        trained.method.compile(model, trained.request.recipe, stage)
        optimizers = model.optimizers.values()
        assert optimizers and all(optimizer.built for optimizer in optimizers)
        trainable = {variable.path for variable in model.trainable_variables}
        before = {variable.path: np.array(variable) for variable in model.weights}
        model.train_step(next(iter(trained.batches([min(8, stage.batch_size)]))))
        changed = {variable.path for variable in model.weights if np.any(before[variable.path] != variable)}
        frozen = {
            weight.path
            for layer in model.layers
            if not layer.name.startswith(tuple(stage.trainable))
            for weight in layer.weights
            # A frozen dropout still draws, and counts its draws.
            if weight.dtype.startswith("float")
        }
        assert changed & trainable and not changed & frozen


def test_one_and_two_devices_take_the_same_steps(trained, logical_devices, tmp_path):
    losses = {}
    for devices in (1, 2):
        strategy = make_strategy("one") if devices == 1 else make_strategy("mirrored", devices)
        recorder = Recorder()
        with pytest.raises(Interrupted):
            trained.train(tmp_path / str(devices), strategy, progress=recorder, stop=Counter(3))
        losses[devices] = recorder.losses
    assert len(losses[1]) >= 2
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)


def last_optimizers(folder):
    """Return the arrays of the newest checkpoint with optimizers: that of the last step."""
    kept = sorted(folder.glob("checkpoints/*/optimizer*.npz"))
    newest = [path for path in kept if path.parent == kept[-1].parent]
    return {f"{path.name} {name}": array for path in newest for name, array in np.load(path).items()}


def test_stopped_run_resumes_to_the_same_bits(trained, tmp_path):
    for steps in (2, 5):
        with pytest.raises(Interrupted):
            trained.train(tmp_path, make_strategy("one"), stop=Counter(steps))
    same_bits(trained.train(tmp_path, make_strategy("one")), trained)
    # The checkpoints that a finished run keeps need not have optimizers; those of the GANs do.
    mine = last_optimizers(tmp_path)
    for name, array in last_optimizers(trained.folder).items():
        np.testing.assert_array_equal(mine[name], array, name)
    assert (tmp_path / "metrics.csv").read_text() == (trained.folder / "metrics.csv").read_text()


def test_preparations_give_the_same_bits_on_one_and_two_devices(prepared, logical_devices, tmp_path):
    for devices in (1, 2):
        strategy = make_strategy("one") if devices == 1 else make_strategy("mirrored", devices)
        same_bits(prepared.train(tmp_path / str(devices), strategy), prepared)


def test_run_stopped_before_a_preparation_resumes_to_the_same_bits(prepared, tmp_path):
    stages = prepared.method.stages(prepared.request.recipe)
    broken = [*stages[:-1], dataclasses.replace(stages[-1], run=stopped)]
    halted = dataclasses.replace(prepared.method, stages=lambda recipe: broken)
    asked = dataclasses.replace(prepared, request=dataclasses.replace(prepared.request, method=halted))
    with pytest.raises(KeyboardInterrupt):
        asked.train(tmp_path, make_strategy("one"))
    # The second call finds a finished run.
    for _ in range(2):
        same_bits(prepared.train(tmp_path, make_strategy("one")), prepared)


def test_export_serves_what_the_model_says(opened, tmp_path):
    model = keras.saving.load_model(opened.folder / "model.keras", safe_mode=True)
    method, recipe, data = opened.method, opened.request.recipe, opened.data
    path = export(method, "contract", model, recipe, data.spec, data, tmp_path)
    assert path.parent.name == "contract" and path.name.isdigit()
    manifest = json.loads((path / "manifest.json").read_text())
    encoders = {modality: reopen(description) for modality, description in data.spec.encoders.items()}
    index = build_index(method.galleries(model, recipe, data, "test"), "exact")
    signatures = method.signatures(model, recipe, data.spec, index, encoders).signatures
    assert set(manifest["signatures"]) == set(signatures)
    loaded = tf.saved_model.load(path).signatures
    with open_session(path) as session:
        for name, signature in signatures.items():
            arrays = {
                key: np.asarray(signature.example[key], spec.dtype.as_numpy_dtype)
                for key, spec in signature.inputs.items()
            }
            tensors = {key: tf.constant(array) for key, array in arrays.items()}
            expected = {key: value.numpy() for key, value in signature.function(**tensors).items()}
            same_answers(session.callable(name)(arrays), expected, name)
            same_answers({key: value.numpy() for key, value in loaded[name](**tensors).items()}, expected, name)


def same_bits(model, opened):
    """Compare the variables of a model with those of the finished run."""
    whole = keras.saving.load_model(opened.folder / "model.keras", safe_mode=True)
    for one, other in zip(model.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def same_answers(answers, expected, name):
    """Compare what two loads of a signature return: numbers are finite and agree, texts are equal, pictures nearly."""
    assert set(answers) == set(expected), name
    for key, wanted in expected.items():
        if np.issubdtype(wanted.dtype, np.floating):
            assert np.isfinite(answers[key]).all(), f"{name}: {key}"
            np.testing.assert_allclose(answers[key], wanted, rtol=1e-4, atol=1e-5, err_msg=f"{name}: {key}")
        else:
            assert difference({key: wanted}, {key: answers[key]}) is None, name


def stopped(model, data, recipe):
    """Stands for a preparation that is interrupted."""
    raise KeyboardInterrupt


class Counter:
    """Asks for a stop, as SIGTERM would, after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return 15 if self.left <= 0 else 0


class Recorder(Progress):
    """Keeps the loss of every step that is shown."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def step(self, **values):
        if values.get("loss") is not None:
            self.losses.append(float(values["loss"]))
        super().step(**values)
