"""MMC-Net: counts of the thesis, stages, freezing and the twins."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import training.stage
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.method import Spec
from training.loop import train
from training.progress import Progress
from training.run_directory import RunDirectory
from training.stops import Interrupted
from training.strategy import make_strategy

MMC_NET = load_method("mmc_net")
PASCAL = Spec(inputs={"image": (2048,), "text": (300,)}, classes=tuple(map(str, range(20))))
SMALL = Spec(inputs={"image": (12,), "text": (7,)}, classes=("a", "b", "c"))


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"image": rng.normal(size=(n, 12)), "text": rng.normal(size=(n, 7))}
    targets = {"image_id": np.arange(n) // 2, "label": rng.integers(3, size=n)}
    as_float = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
    return as_float, {name: tf.constant(value) for name, value in targets.items()}


@pytest.mark.parametrize(
    ("preset", "classes", "expected"),
    [
        ("thesis", 20, 40_960),
        ("thesis_coco", 80, 163_840),
        ("thesis_flowers", 102, 417_792),
        ("thesis_cub", 200, 819_200),
    ],
)
def test_thesis_counts(preset, classes, expected):
    spec = dataclasses.replace(PASCAL, classes=tuple(map(str, range(classes))))
    model = MMC_NET.build(MMC_NET.recipe(preset), spec)
    layers = {layer.name: layer for layer in model.layers}
    fully_connected = [w for name, layer in layers.items() if name[-4:-1] == "_fc" for w in layer.weights]
    assert count(fully_connected) == 7_961_600
    assert count(layers["classifier_logits"].weights) == expected
    branches = [layer for name, layer in layers.items() if name.startswith(("image_", "text_"))]
    matching = [w for layer in branches for w in layer.trainable_weights]
    assert count(matching) == 7_972_452


def test_table_7_7_dimensions():
    dimensions = {"compact": 2048, "full": 262_144, "concatenation": 1024}
    for pooling, expected in dimensions.items():
        model = MMC_NET.build(MMC_NET.recipe("thesis", pooling=pooling), PASCAL)
        assert model.get_layer("classifier_logits").kernel.shape[0] == expected


def test_fusion_learns_ten_times_slower_and_only_kernels_decay():
    recipe = MMC_NET.recipe("tiny", weight_decay=0.004, classifier_decay=0.003)
    model = MMC_NET.build(recipe, SMALL)
    MMC_NET.compile(model, recipe, MMC_NET.stages(recipe)[2])
    paths = [variable.path for variable in model.trainable_variables]
    rates = dict(zip(paths, model.optimizer._rates, strict=True))
    decays = dict(zip(paths, model.optimizer._decays, strict=True))
    assert rates["image_fusion/kernel"] == pytest.approx(0.1) and rates["image_fc2/kernel"] == 1
    assert rates["image_fusion_norm/gamma"] == 1
    assert decays["image_fc2/kernel"] == 0.004 and decays["image_fc2/bias"] == 0
    assert decays["classifier_logits/kernel"] == 0.003


@pytest.mark.parametrize("stage_index", [0, 1])
def test_frozen_parts_stay_bit_identical(stage_index):
    recipe = MMC_NET.recipe("tiny")
    model = MMC_NET.build(recipe, SMALL)
    stage = MMC_NET.stages(recipe)[stage_index]
    model.train_only(stage.trainable)
    MMC_NET.compile(model, recipe, stage)
    before = {weight.path: weight.numpy() for weight in model.weights}
    for seed in range(3):
        model.train_step(batch(9, seed))
    trains = ("image_", "text_") if stage_index == 0 else ("classifier_logits",)
    changed = {w.path for w in model.weights if not np.array_equal(before[w.path], w.numpy())}
    frozen = {path for path in changed if not path.startswith(trains) and "dropout" not in path}
    assert not frozen
    assert any(path.startswith(trains) for path in changed)
    if stage_index == 1:
        assert not any("moving" in path for path in changed)


def test_stages_follow_algorithm_3_and_twins_train_as_long():
    recipe = MMC_NET.recipe("thesis")
    first, second, third = MMC_NET.stages(recipe)
    assert first.learning_rate > second.learning_rate > third.learning_rate
    assert third.loss_weights == {"matching": 1.0, "classification": pytest.approx(0.5 / 20)}
    for variant, part in (("mm_net", "matching"), ("mc_net", "classification")):
        twin = MMC_NET.stages(MMC_NET.recipe("thesis", variant))
        assert [set(stage.loss_weights) for stage in twin] == [{part}, {part}]
        assert sum(stage.epochs for stage in twin) == first.epochs + third.epochs


@pytest.mark.parametrize(
    ("variant", "inputs", "outputs"),
    [
        (None, {"image", "text"}, {"image_embedding", "text_embedding", "logits"}),
        ("mm_net", {"image", "text"}, {"image_embedding", "text_embedding"}),
        ("mc_net", {"image", "text"}, {"logits"}),
        ("vision_only", {"image"}, {"logits"}),
        ("text_only", {"text"}, {"logits"}),
        ("bilinear", {"image", "text"}, {"image_embedding", "text_embedding", "logits"}),
    ],
)
def test_variants_build_what_they_say_and_train(variant, inputs, outputs):
    recipe = MMC_NET.recipe("tiny", variant)
    model = MMC_NET.build(recipe, SMALL)
    assert set(model.input) == inputs and set(model.output) == outputs
    for stage in MMC_NET.stages(recipe):
        model.train_only(stage.trainable)
        MMC_NET.compile(model, recipe, stage)
        assert np.isfinite(float(model.train_step(batch(8))["loss"]))


def test_embeddings_are_unit_vectors_and_mixed_precision_trains():
    recipe = MMC_NET.recipe("tiny", precision="mixed_bfloat16")
    model = MMC_NET.build(recipe, SMALL)
    stage = MMC_NET.stages(recipe)[2]
    MMC_NET.compile(model, recipe, stage)
    assert np.isfinite(float(model.train_step(batch(8))["loss"]))
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    plain = MMC_NET.build(MMC_NET.recipe("tiny"), SMALL)(batch(8)[0])
    np.testing.assert_allclose(np.linalg.norm(plain["image_embedding"], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("basis", "weight"), [("mean", 0.7), ("sum", 0.7 / 4)])
def test_beta_weighs_the_classification_loss(basis, weight):
    """Eq 7.13 is computed divided by K, so that beta beside the sum over K of Eq 7.4 is beta / K beside the mean."""
    recipe = MMC_NET.recipe("tiny", beta=0.7, beta_basis=basis, negatives=4, dropout=0.0)
    model = MMC_NET.build(recipe, SMALL)
    stage = MMC_NET.stages(recipe)[2]
    MMC_NET.compile(model, recipe, stage)
    logs = {name: float(value) for name, value in model.test_step(batch(8)).items()}
    assert logs["loss"] == pytest.approx(logs["matching"] + weight * logs["classification"], rel=1e-6)


def test_recipe_field_xla_compiles_the_step_of_the_loop_and_learns_the_same(tmp_path, monkeypatch):
    steps, losses = [], {}
    make_step = training.stage.make_step
    monkeypatch.setattr(training.stage, "make_step", lambda *given: steps.append(make_step(*given)) or steps[-1])
    for xla in (False, True):
        # XLA draws other masks, so that nothing is dropped here.
        recipe = MMC_NET.recipe("tiny", "mm_net", dropout=0.0, xla=xla)
        data, progress = MMC_NET.data(recipe, "scenes", None), Losses()
        options = {"seed": 0, "strategy": make_strategy("one"), "progress": progress, "stop": progress.stop}
        with pytest.raises(Interrupted):
            train(MMC_NET, recipe, data, RunDirectory(tmp_path / str(xla)), **options)
        assert steps.pop().get_concrete_function().function_def.attr["_XlaMustCompile"].b == xla
        losses[xla] = progress.losses
    assert len(losses[True]) == 3
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


class Losses(Progress):
    """Keeps the loss of every step, and asks for a stop after the third."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def step(self, **values):
        self.losses.append(float(values["loss"]))

    def stop(self):
        return 15 if len(self.losses) == 3 else 0


def test_impossible_recipes_are_refused():
    cases = [
        ({"matching": False, "classification": False}, SMALL, "nothing would train"),
        ({}, dataclasses.replace(SMALL, classes=()), "no labels"),
        ({"widths": (8, 4, 4, 5)}, SMALL, "one width"),
    ]
    for overrides, spec, message in cases:
        with pytest.raises(UserError, match=message):
            MMC_NET.build(MMC_NET.recipe("tiny", **overrides), spec)
