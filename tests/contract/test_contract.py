"""What every method must do, asked of each on its `tiny` recipe: the files of tfthesis/methods are the list.

Nothing here names a method; a new one is tested by being there.
"""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.export.exporter import export
from tfthesis.method import Evaluation, Preparation, Stage, method_names
from training.execution import execute
from training.loop import train
from training.progress import Progress
from training.request import Request
from training.run_directory import RunDirectory
from training.stops import Interrupted
from training.strategy import make_strategy

SEED = 3


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

    def first_stage(self):
        return next(s for s in self.method.stages(self.request.recipe) if isinstance(s, Stage))

    def ready(self):
        """Return a built model, compiled for its first gradient stage."""
        model, stage = self.build(), self.first_stage()
        model.train_only(stage.trainable)
        self.method.compile(model, self.request.recipe, stage)
        return model

    def batches(self, sizes):
        stage = self.first_stage()
        ends = list(itertools.accumulate(sizes))
        rows = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return self.data.batches(stage.split, rows, (SEED, 0))


@pytest.fixture(scope="module", params=method_names())
def opened(request, tmp_path_factory):
    asked = Request.create(request.param, "tiny", seed=SEED)
    folder = tmp_path_factory.mktemp(request.param) / "run"
    evaluation = execute(asked, folder)
    return Opened(asked, asked.open_data(), folder, evaluation)


def test_recipes_explain_every_number(opened):
    for field in dataclasses.fields(opened.request.recipe):
        assert field.metadata.get("help"), f"{field.name} has no help"
        assert field.metadata.get("source"), f"{field.name} has no source"


def test_every_variant_builds_and_has_stages(opened):
    for preset, variant in itertools.product(["tiny"], [None, *opened.method.variants]):
        recipe = opened.method.recipe(preset, variant)
        assert opened.method.build(recipe, opened.data.spec).outputs
        assert all(isinstance(stage, Stage | Preparation) for stage in opened.method.stages(recipe))


def test_run_is_complete(opened):
    names = {path.name for path in opened.folder.iterdir()}
    expected = {
        *("recipe.json", "spec.json", "data.json", "environment.json", "metrics.csv", "evaluation.json", "run.log"),
        *("model.keras", "report.html", "model_card.md", "DONE"),
    }
    assert expected <= names
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


def test_three_steps_of_fit_are_three_steps_of_the_loop(opened):
    size = min(8, opened.first_stage().batch_size)
    fitted, looped = opened.ready(), opened.ready()
    fitted.fit(opened.batches([size, size, size - 1]), epochs=1, verbose=0)
    step = tf.function(looped.train_step)
    for batch in opened.batches([size, size, size - 1]):
        step(batch)
    for one, other in zip(fitted.variables, looped.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7, err_msg=one.path)


def test_one_and_two_devices_take_the_same_steps(opened, logical_devices, tmp_path):
    losses = {}
    for devices in (1, 2):
        strategy = make_strategy("one") if devices == 1 else make_strategy("mirrored", devices)
        run = RunDirectory(tmp_path / str(devices))
        stop = Counter(3)
        with pytest.raises(Interrupted):
            train(
                opened.method, opened.request.recipe, opened.data, run,
                seed=SEED, strategy=strategy, progress=(recorder := Recorder()), stop=stop,
            )  # fmt: skip
        losses[devices] = recorder.losses
    assert len(losses[1]) >= 2
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)


def test_stopped_run_resumes_to_the_same_bits(opened, tmp_path):
    arguments = {"seed": SEED, "strategy": make_strategy("one"), "progress": Progress()}
    run = RunDirectory(tmp_path)
    for steps in (2, 5):
        with pytest.raises(Interrupted):
            train(opened.method, opened.request.recipe, opened.data, run, stop=Counter(steps), **arguments)
    model = train(opened.method, opened.request.recipe, opened.data, run, **arguments)
    whole = keras.saving.load_model(opened.folder / "model.keras", safe_mode=True)
    for one, other in zip(model.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert (tmp_path / "metrics.csv").read_text() == (opened.folder / "metrics.csv").read_text()


def test_export_serves_what_the_model_says(opened, tmp_path):
    model = keras.saving.load_model(opened.folder / "model.keras", safe_mode=True)
    recipe, spec = opened.request.recipe, opened.data.spec
    path = export(opened.method, "contract", model, recipe, spec, opened.data, tmp_path)
    assert path.parent.name == "contract" and path.name.isdigit()
    served = tf.saved_model.load(path).signatures
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["signatures"]) <= set(served)
    assert manifest["signatures"]


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
