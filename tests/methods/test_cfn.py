"""CFN: counts, fusion, variants, losses and what it serves."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import losses
from tfthesis.data.options import reader_options
from tfthesis.data.readers import cifar
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.models.replicas import Replicas

CFN = load_method("cfn")


def spec(classes=10, side=32):
    return Spec(inputs={"image": (side, side, 3)}, classes=tuple(map(str, range(classes))), extra={"resize": side})


def built(preset="thesis", variant=None, classes=10, **overrides):
    recipe = CFN.recipe(preset, variant, **overrides)
    side = 224 if recipe.architecture in ("11", "19") else 32
    return CFN.build(recipe, spec(classes, side))


def count(*arguments, **overrides):
    model = built(*arguments, **overrides)
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("overrides", "plain", "fused"),
    [
        ({"architecture": "a"}, 224_202, 249_930),
        ({"architecture": "b"}, 1_286_698, 1_343_146),
        ({"architecture": "b_wide", "classes": 100}, 1_721_572, 1_796_452),
        ({"preset": "thesis_imagenet", "classes": 1000}, 6_283_368, 6_752_362),
        ({"preset": "thesis_imagenet", "architecture": "19", "classes": 1000}, 12_554_088, 13_023_082),
    ],
)
def test_numbers_of_parameters(overrides, plain, fused):
    """Table 2.2 and section 2.4.2; the thesis's .074M of CFN-B are the sides of the CIFAR-100 network."""
    options = dict(overrides)
    preset = options.pop("preset", "thesis")
    assert count(preset, "plain", **options) == plain
    assert count(preset, **options) == fused


def test_what_the_fusions_of_table_2_2_add():
    base = count("thesis", "plain", architecture="a")
    sides = 24_960
    added = {name: count("thesis", name, architecture="a") - base for name in ("sum", "convolution", None)}
    assert added == {"sum": sides, "convolution": sides + 4, None: sides + 768}
    # Early prediction has two more predictions, and fuses 10 values instead of 192.
    assert count("thesis", "early_prediction", architecture="a") - base == sides + 2 * (192 * 10 + 10) + 10 * 4


def test_maps_are_32_16_8():
    model = built("thesis", architecture="a")
    shapes = {name: model.get_layer(f"{name}_conv_relu").output.shape[1:] for name in ("side1", "side2", "main")}
    assert shapes == {"side1": (16, 16, 192), "side2": (8, 8, 192), "main": (8, 8, 192)}
    large = built("thesis_imagenet", classes=1000)
    sides = [large.get_layer(f"{name}_conv").input.shape[1:] for name in ("side1", "side2", "side3", "main")]
    assert sides == [(28, 28, 64), (14, 14, 128), (7, 7, 256), (7, 7, 512)]


def test_fused_feature_against_numpy():
    model = built("tiny")
    fusion = model.get_layer("fusion")
    fusion.set_weights([np.random.default_rng(0).normal(size=weight.shape) for weight in fusion.get_weights()])
    images = np.random.default_rng(1).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    names = ("side1", "side2", "main")
    taps = keras.Model(model.input, [model.get_layer(f"{name}_conv_relu").output for name in names])
    vectors = [np.asarray(maps).mean(axis=(1, 2)) for maps in taps({"image": images}, training=False)]
    kernel, bias = (np.asarray(weight) for weight in fusion.weights)
    expected = np.maximum(sum(kernel[:, j] * vector for j, vector in enumerate(vectors)) + bias, 0)
    outputs = model({"image": images}, training=False)
    np.testing.assert_allclose(outputs["feature"], expected, rtol=1e-4, atol=1e-5)
    weights, shift = (np.asarray(weight) for weight in model.get_layer("prediction").weights)
    np.testing.assert_allclose(outputs["logits"], expected @ weights + shift, rtol=1e-4, atol=1e-4)


def outputs_of(model, names, images):
    taps = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    found = taps({"image": images}, training=False)
    return {name: np.asarray(found[name]) for name in names}


def test_early_prediction_fuses_what_each_branch_predicts():
    model = built("tiny", "early_prediction")
    generator = np.random.default_rng(0)
    fusion = model.get_layer("fusion")
    fusion.set_weights([generator.normal(size=weight.shape) for weight in fusion.get_weights()])
    images = generator.uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    branches = ("side1", "side2", "main")
    vectors = outputs_of(model, [f"{name}_pool" for name in branches], images)
    kernel, bias = (np.asarray(weight) for weight in fusion.weights)
    expected = bias
    for number, name in enumerate(branches):
        weights, shift = (np.asarray(weight) for weight in model.get_layer(f"prediction{number + 1}").weights)
        expected = expected + kernel[:, number] * (vectors[f"{name}_pool"] @ weights + shift)
    outputs = model({"image": images}, training=False)
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-4)


def test_fusion_of_the_imagenet_network_has_one_batch_norm_for_the_vector():
    model = built("thesis_imagenet", classes=5)
    generator = np.random.default_rng(0)
    fusion, norm = model.get_layer("fusion"), model.get_layer("fusion_norm")
    assert [weight.shape for weight in fusion.weights] == [(1024, 4)]
    assert [weight.shape for weight in norm.weights] == [(1,)] * 4
    fusion.set_weights([generator.normal(size=(1024, 4))])
    norm.set_weights([np.array([value], np.float32) for value in (1.5, -0.2, 0.3, 2.0)])
    images = generator.uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    branches = ("side1", "side2", "side3", "main")
    vectors = outputs_of(model, [f"{name}_pool" for name in branches], images)
    kernel = np.asarray(fusion.kernel)
    fused = sum(kernel[:, number] * vectors[f"{name}_pool"] for number, name in enumerate(branches))
    expected = np.maximum(1.5 * (fused - 0.3) / np.sqrt(2.0 + 1e-5) - 0.2, 0)
    feature = model({"image": images}, training=False)["feature"]
    np.testing.assert_allclose(feature, expected, rtol=1e-3, atol=1e-3)


def test_shortcuts_add_the_input_of_a_stage():
    model = built("tiny", "resnet", classes=5)
    names = [layer.name for layer in model.layers if layer.name.startswith("shortcut")]
    assert names == ["shortcut2", "shortcut3"]
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    found = outputs_of(model, ["shortcut3", "conv3_1_relu", "pool2"], images)
    np.testing.assert_allclose(found["shortcut3"], found["conv3_1_relu"] + found["pool2"], rtol=1e-5, atol=1e-5)


def test_loss_is_the_softmax_loss_and_those_of_the_sides():
    generator = np.random.default_rng(0)
    outputs = {
        name: tf.constant(generator.normal(size=(5, 3))) for name in ("logits", "side_1_logits", "side_2_logits")
    }
    labels = np.array([0, 2, 1, 1, 0])
    objective = losses.SoftmaxClassification({"classification": 1.0, "side_1": 1.0, "side_2": 1.0})
    found = objective(outputs, {"label": tf.constant(labels)}, Replicas.current())
    for part, name in (("classification", "logits"), ("side_1", "side_1_logits"), ("side_2", "side_2_logits")):
        logits = outputs[name].numpy()
        expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), labels]
        np.testing.assert_allclose(found[part], expected, rtol=1e-9)


def test_learning_rates_of_the_released_solvers():
    recipe = CFN.recipe("thesis", architecture="a")
    model = CFN.build(recipe, spec())
    CFN.compile(model, recipe, CFN.stages(recipe)[0])
    rates = {
        v.path: (model.optimizer._rates[n], model.optimizer._decays[n]) for n, v in enumerate(model.trainable_variables)
    }
    assert rates["fusion/kernel"] == (0.1, 0.0001)
    assert rates["fusion/bias"] == (pytest.approx(0.2), 0.0)
    assert rates["conv1_1/kernel"] == (1.0, 0.0001)
    assert rates["conv1_1/bias"] == rates["prediction/bias"] == (2.0, 0.0)
    imagenet = CFN.recipe("thesis_imagenet")
    model = CFN.build(imagenet, spec(1000, 224))
    CFN.compile(model, imagenet, CFN.stages(imagenet)[0])
    rates = {v.path: model.optimizer._rates[n] for n, v in enumerate(model.trainable_variables)}
    assert rates["main_conv/kernel"] == 10.0
    assert rates["side1_conv/kernel"] == rates["fusion/kernel"] == 1.0
    assert rates["conv1_1/bias"] == rates["prediction/bias"] == 2.0


def test_schedules():
    """Section 2.4.1 has 100,000 and 20,000 steps, the released solver falls twice, each time after 40,000."""
    for preset, expected in (
        ("thesis", [(200, 0.1), (40, 0.01)]),
        ("thesis_released", [(80, 0.1), (80, 0.01), (80, 0.001)]),
    ):
        stages = CFN.stages(CFN.recipe(preset))
        assert [(stage.epochs, pytest.approx(stage.learning_rate)) for stage in stages] == expected
        assert all(stage.batch_size == 100 for stage in stages)


def test_thesis_presets_train_on_nearly_all_images():
    """A twentieth of CIFAR's 50,000 selects weights, of ten classes as of a hundred."""
    for preset, classes in (("thesis", 10), ("thesis_cifar100", 100)):
        options = reader_options(CFN.recipe(preset).reader)
        parameters = inspect.signature(cifar.open_labelled).parameters
        held = options.get("val_per_class", parameters["val_per_class"].default)
        assert held * classes == 2_500


def test_imagenet_schedule():
    images = 1_281_167 - 10 * 1000
    stages = CFN.stages(CFN.recipe("thesis_imagenet"))
    steps = [stage.epochs * images // 64 for stage in stages]
    np.testing.assert_allclose(steps, [100_000, 50_000, 50_000], rtol=0.21)
    assert [stage.learning_rate for stage in stages] == pytest.approx([0.01, 0.001, 0.0001])


def test_deep_supervision_has_its_losses():
    recipe = CFN.recipe("thesis_imagenet", "dsn")
    assert CFN.stages(recipe)[0].loss_weights == {"classification": 1.0, "side_1": 1.0, "side_2": 1.0, "side_3": 1.0}
    model = CFN.build(recipe, spec(1000, 224))
    assert set(model.output) == {"feature", "logits", "side_1_logits", "side_2_logits", "side_3_logits"}


def test_shortcuts_stand_over_every_stage():
    model = built("thesis_imagenet", "resnet", classes=10)
    names = [layer.name for layer in model.layers if layer.name.startswith("shortcut")]
    # Linear convolutions where the channels differ: stages 3, 4 and 5.
    assert sorted(name for name in names if name.endswith("_conv")) == [f"shortcut{n}_conv" for n in (3, 4, 5)]
    assert sorted(name for name in names if not name.endswith("_conv")) == [f"shortcut{n}" for n in (2, 3, 4, 5)]


def test_branch_weights_are_metrics():
    keras.utils.set_random_seed(0)
    recipe = CFN.recipe("tiny")
    model = CFN.build(recipe, spec())
    CFN.compile(model, recipe, CFN.stages(recipe)[0])
    batch = {"image": tf.random.uniform([6, 32, 32, 3], 0, 255)}, {"label": tf.constant([0, 1, 2, 3, 4, 5])}
    logs = model.train_step(batch)
    assert {"fusion_weight_1", "fusion_weight_2", "fusion_weight_3"} <= set(logs)
    # After one step they are still near where they began, and those of the model itself.
    weights = [float(logs[f"fusion_weight_{n}"]) for n in (1, 2, 3)]
    np.testing.assert_allclose(weights, 1 / 3, atol=0.01)
    spreads = [float(logs[f"fusion_spread_{n}"]) for n in (1, 2, 3)]
    np.testing.assert_allclose([weights, spreads], model.get_layer("fusion").branch_weights(), rtol=1e-5)


def test_fields_that_contradict_each_other():
    with pytest.raises(UserError, match="set fusion to 'none'"):
        built("thesis", deep_supervision=True)
    with pytest.raises(UserError, match="need fusion_kernel=1"):
        built("thesis", conditioned=True, fusion_kernel=2)
    with pytest.raises(UserError, match="no effect without crop"):
        CFN.data(CFN.recipe("tiny", pad=4), "scenes", None)
    with pytest.raises(UserError, match="leave no room"):
        CFN.data(CFN.recipe("tiny", crop=True), "scenes", None)


def test_fields_without_an_effect():
    assert "fusion_rate" in CFN.recipe("thesis", "sum").idle()
    assert "fusion_rate" not in CFN.recipe("thesis", "convolution").idle()
    assert CFN.recipe("thesis").idle() == {"norm_momentum", "norm_epsilon"}
    assert "dropout" in CFN.recipe("thesis_imagenet").idle()


def test_initial_weights():
    small, large = built("thesis", architecture="a"), built("thesis_imagenet")
    assert np.std(small.get_layer("conv2_1").kernel) == pytest.approx(0.05, rel=0.05)
    assert np.std(small.get_layer("prediction").kernel) == pytest.approx(0.1, rel=0.1)
    assert not np.any(small.get_layer("conv2_1").bias)
    np.testing.assert_array_equal(large.get_layer("conv1_1").bias, np.float32(0.2))
    bound = np.sqrt(3 / 512)
    assert np.abs(large.get_layer("main_conv").kernel).max() == pytest.approx(bound, rel=0.01)


def test_sides_start_behind_dropout():
    model = built("thesis", architecture="a")
    assert [model.get_layer(f"side{n}_conv").input._keras_history.operation.name for n in (1, 2)] == [
        "pool1_dropout",
        "pool2_dropout",
    ]
    assert model.get_layer("prediction").input._keras_history.operation.name == "top_dropout"
    assert not [layer.name for layer in built("thesis_imagenet").layers if "dropout" in layer.name]


@pytest.mark.parametrize("variant", [None, "plain", "early_prediction", "dsn", "kernel3"])
def test_pictures_of_every_kind_of_network(variant, tmp_path):
    recipe = CFN.recipe("tiny", variant)
    data = CFN.data(recipe, "scenes", None)
    drawn = CFN.pictures(CFN.build(recipe, data.spec), data, recipe, tmp_path)
    names = {picture.path.name for picture in drawn}
    assert {"answers.png", "confusion.png", "branch_maps.png"} <= names
    assert ("fusion_weights.png" in names) == (recipe.fusion == "local")
    assert all(picture.path.read_bytes().startswith(b"\x89PNG") for picture in drawn)


def test_served_classes_are_those_of_the_model():
    recipe = CFN.recipe("tiny")
    data = CFN.data(recipe, "scenes", None)
    model = CFN.build(recipe, data.spec)
    served = CFN.signatures(model, recipe, data.spec, {}, {})
    assert set(served.signatures) == {"classify", "encode_image"}
    pixels = data.split("test").images[:3]
    files = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    answer = served.signatures["classify"].function(image=files)
    logits = np.asarray(model({"image": pixels.astype(np.float32)}, training=False)["logits"])
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    assert [[name.decode() for name in row] for row in answer["labels"].numpy()] == [
        [data.spec.classes[label] for label in row] for row in best
    ]
    assert answer["predicted"].numpy().tolist() == [[True, False, False, False, False]] * 3
    vectors = served.signatures["encode_image"].function(image=files)["embedding"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
