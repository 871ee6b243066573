"""FCFN for segmentation: counts, maps, fusion, learning rates, figures and what it serves."""

from __future__ import annotations

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfthesis.data.segmented_images import MapFile, SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.layers import LocallyConnectedFusion
from tfthesis.method import Spec
from tfthesis.segmentation.data import SegmentationData
from tfthesis.segmentation.evaluation import predictions
from tfthesis.segmentation.fields import Field

FCFN = load_method("fcfn_segmentation")


def spec(classes=21, side=500):
    return Spec(
        inputs={"image": (side, side, 3)},
        classes=tuple(f"class {n}" for n in range(classes)),
        extra={"colours": colour_wheel(classes), "background": True},
    )


def built(preset="tiny", variant=None, classes=5, side=64, **overrides):
    return FCFN.build(FCFN.recipe(preset, variant, **overrides), spec(classes, side))


def shape(model, name):
    return tuple(model.get_layer(name).output.shape[1:])


def test_thesis_network_at_500_pixels():
    """check figures: 698, 349, 175, 88, 44, 22, 16; upsampled 34, 70, 568; fusions of 72,828 and 308,700."""
    model = FCFN.build(FCFN.recipe("thesis", weights=""), spec())
    assert shape(model, "conv1_1") == (698, 698, 64) and shape(model, "fc6") == (16, 16, 4096)
    assert shape(model, "upsampling1") == (34, 34, 21) and shape(model, "upsampling2") == (70, 70, 21)
    assert shape(model, "upsampling3") == (568, 568, 21) and shape(model, "scores") == (500, 500, 21)
    assert model.get_layer("fc6").kernel.shape == (7, 7, 512, 4096)
    weights = {name: model.get_layer(name).kernel for name in ("fusion1", "fusion2")}
    assert np.prod(weights["fusion1"].shape) == 48_552 and np.prod(weights["fusion2"].shape) == 205_800
    # Where the enlarged maps begin in pool4's and pool3's maps and in the image: FCN's offsets with a border of 100.
    crops = {name: model.get_layer(name).cropping for name in ("crop1", "crop2", "crop3")}
    assert crops == {"crop1": ((5, 5), (5, 5)), "crop2": ((9, 9), (9, 9)), "crop3": ((31, 37), (31, 37))}
    fused = [model.get_layer(name).count_params() for name in ("fusion1", "fusion2")]
    assert fused == [72_828, 308_700]
    trunk = 14_714_688
    head = 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096
    scores = 21 * (4096 + 1) + 21 * (512 + 1) + 21 * (256 + 1)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == trunk + head + scores + sum(fused)
    # The bilinear kernels are fixed.
    assert {layer.name for layer in model.layers if layer.non_trainable_variables and layer.get_weights()} >= {
        "upsampling1",
        "upsampling2",
        "upsampling3",
    }


def test_at_once_scales_stand_before_the_scores():
    model = built("thesis", trunk="tiny", weights="", side=96)
    for name, scale in (("pool4", 0.01), ("pool3", 0.0001)):
        assert model.get_layer(f"{name}_scaled").scale == scale
        assert model.get_layer(f"{name}_score").input._keras_history.operation.name == f"{name}_scaled"
        assert not np.any(model.get_layer(f"{name}_score").kernel)


@pytest.mark.parametrize("side", [32, 50, 90])
def test_scores_have_the_size_of_the_image(side):
    image = tf.zeros([1, side, side, 3])
    assert built(side=side)({"image": image})["scores"].shape == (1, side, side, 5)


def test_two_stage_fusion_against_numpy():
    """Eq 2.7 and 2.8, from the maps before to those behind."""
    model = built(side=50)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith("score") or isinstance(layer, LocallyConnectedFusion):
            layer.set_weights([generator.normal(size=weight.shape) for weight in layer.get_weights()])
    names = ["fusion1", "fusion2", "pool4_score", "pool3_score", "upsampling1", "upsampling2"]
    taps = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    maps = {
        name: np.asarray(value)
        for name, value in taps({"image": generator.uniform(0, 255, (2, 50, 50, 3)).astype(np.float32)}).items()
    }
    for number, name in ((1, "pool4_score"), (2, "pool3_score")):
        kernel, bias = (np.asarray(weight) for weight in model.get_layer(f"fusion{number}").weights)
        height, width = maps[name].shape[1:3]
        deeper = maps[f"upsampling{number}"][:, :height, :width]
        expected = kernel[..., 0] * maps[name] + kernel[..., 1] * deeper + bias
        np.testing.assert_allclose(maps[f"fusion{number}"], expected, rtol=1e-4, atol=1e-3)


def test_started_at_one_it_is_fcn_8s():
    image = tf.random.uniform([1, 64, 64, 3], 0, 255, seed=1)
    scores = []
    for variant in ("fcn8s", "start_one", None):
        keras.utils.set_random_seed(0)
        model = built(variant=variant)
        generator = np.random.default_rng(0)
        for name in ("score", "pool4_score", "pool3_score"):
            layer = model.get_layer(name)
            layer.set_weights([generator.normal(size=weight.shape) for weight in layer.get_weights()])
        scores.append(np.asarray(model({"image": image}, training=False)["scores"]))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-3)
    assert np.abs(scores[0] - scores[2]).max() > 0.1


def test_learning_rates():
    for variant, expected in ((None, 7.0), ("fcn8s", None)):
        recipe = FCFN.recipe("tiny", variant, fusion_rate=7.0)
        model = FCFN.build(recipe, spec(5, 64))
        FCFN.compile(model, recipe, FCFN.stages(recipe)[0])
        rates = {
            variable.path: (model.optimizer._rates[n], model.optimizer._decays[n])
            for n, variable in enumerate(model.trainable_variables)
        }
        assert rates["conv1_1/kernel"] == (1.0, 0.0001) and rates["fc6/bias"] == (2.0, 0.0)
        if expected:
            assert rates["fusion1/kernel"] == (expected, 0.0001) and rates["fusion2/bias"] == (2 * expected, 0.0)
        else:
            assert not [path for path in rates if path.startswith("fusion")]


def test_thesis_schedule():
    start, stage = FCFN.stages(FCFN.recipe("thesis"))
    assert start.name == "vgg16"
    assert stage.batch_size == 1 and stage.learning_rate == 0.0001
    # 100,000 steps of one image: SBD's and VOC's training images are somewhat fewer than 9,000.
    assert 8_000 < 100_000 / stage.epochs < 9_000


def test_trained_upsampling_trains():
    names = {variable.path for variable in built(variant="trained_upsampling").trainable_variables}
    assert {f"upsampling{n}/kernel" for n in (1, 2, 3)} <= names
    assert not any("upsampling" in variable.path for variable in built().trainable_variables)


def test_bad_recipes():
    with pytest.raises(UserError, match="do not fit trunk=narrow"):
        built("quick", weights="imagenet")
    with pytest.raises(UserError, match="expected 32 pixels or more, got 16 x 64"):
        FCFN.data(FCFN.recipe("tiny", height=16, width=64), "scenes", None)
    with pytest.raises(UserError, match="scenes are square"):
        FCFN.data(FCFN.recipe("tiny", height=48, width=64), "scenes", None)
    assert FCFN.recipe("tiny", "fcn8s").idle() == {"fusion_start", "fusion_activation", "fusion_rate"}
    assert not FCFN.recipe("tiny").idle()


@pytest.fixture(scope="module")
def opened():
    keras.utils.set_random_seed(1)
    recipe = FCFN.recipe("tiny", "trained_upsampling", scene_images=(6, 2, 5))
    data = FCFN.data(recipe, "scenes", None)
    model = FCFN.build(recipe, data.spec)
    generator = np.random.default_rng(0)
    for name in ("score", "pool4_score", "pool3_score"):
        layer = model.get_layer(name)
        layer.set_weights([generator.normal(size=weight.shape) for weight in layer.get_weights()])
    return recipe, data, model


def test_evaluation_counts_every_pixel_once(opened):
    recipe, data, model = opened
    found = FCFN.evaluate(model, data, recipe, "test")
    split = data.split("test")
    scores = np.asarray(model({"image": split.images.astype(np.float32)}, training=False)["scores"])
    predicted = scores.argmax(axis=-1)
    right = predicted == split.maps
    assert found.scalars["pixel_accuracy"] == pytest.approx(100 * right.mean())
    np.testing.assert_allclose(found.samples["wrong_pixels"], 1 - right.mean(axis=(1, 2)))
    overlaps = []
    for label, name in enumerate(data.spec.classes):
        one, other = predicted == label, split.maps == label
        if (one | other).any():
            overlaps.append((one & other).sum() / (one | other).sum())
        if other.any():
            assert found.scalars[f"iou_{name}"] == pytest.approx(100 * overlaps[-1])
        else:
            assert f"iou_{name}" not in found.scalars
    assert found.scalars["mean_iou"] == pytest.approx(100 * np.mean(overlaps)) == found.selection
    assert found.scalars["object_iou"] == pytest.approx(100 * np.mean(overlaps[1:]))
    assert sum(row["pixels"] for row in found.tables["per_class"]) == split.maps.size


def test_images_larger_than_the_field_are_measured_at_their_own_size(opened, tmp_path):
    recipe, _, model = opened
    generator = np.random.default_rng(2)
    image = generator.integers(0, 256, (64, 80, 3)).astype(np.uint8)
    labels = (np.indices((64, 80)).sum(axis=0) % 2).astype(np.uint8)
    PIL.Image.fromarray(labels).save(tmp_path / "map.png")
    split = SegmentedSplit(["a"], [tf.io.encode_png(image).numpy()], [MapFile(tmp_path / "map.png")])
    classes = tuple(f"class {n}" for n in range(17))
    dataset = SegmentedImages("mine", {"test": split}, classes, colour_wheel(17))
    data = SegmentationData(dataset, Field(32, 32))
    found = FCFN.evaluate(model, data, recipe, "test")
    assert [row["pixels"] for row in found.tables["per_class"] if row["pixels"]] == [2560, 2560]
    served = FCFN.signatures(model, recipe, data.spec, {}, {}).signatures["segment"].function
    guess = decoded(served(image=tf.constant(split.images))["map_bytes"][0].numpy())[..., 0]
    assert found.scalars["pixel_accuracy"] == pytest.approx(100 * (guess == labels).mean())
    PIL.Image.fromarray(np.full((64, 80), 255, np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(UserError, match="mine: no pixel of split 'test' has a class"):
        FCFN.evaluate(model, SegmentationData(dataset, Field(32, 32)), recipe, "test")


def test_a_few_images_at_a_time_are_all_images(opened, monkeypatch):
    _, data, model = opened
    monkeypatch.setattr("tfthesis.segmentation.evaluation._PIXELS", 2 * 32 * 32)
    parts = list(predictions(model, data, "test"))
    assert [len(part.rows) for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), data.split("test").maps)


@pytest.mark.parametrize("variant", [None, "fcn8s", "convolution"])
def test_pictures(variant, tmp_path):
    recipe = FCFN.recipe("tiny", variant, scene_images=(4, 2, 3))
    data = FCFN.data(recipe, "scenes", None)
    drawn = FCFN.pictures(FCFN.build(recipe, data.spec), data, recipe, tmp_path)
    names = {picture.path.name for picture in drawn}
    expected = {"overlays.png", "confusion.png"}
    assert names == expected | ({"fusion1_weights.png", "fusion2_weights.png"} if variant is None else set())


def decoded(data):
    return tf.io.decode_png(data).numpy()


def test_served_maps_have_the_size_of_each_photo(opened):
    recipe, data, model = opened
    segment = FCFN.signatures(model, recipe, data.spec, {}, {}).signatures["segment"].function
    generator = np.random.default_rng(0)
    sizes = [(32, 32), (20, 45), (90, 30)]
    photos = [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    photos[0] = data.split("test").images[1]
    found = segment(image=tf.constant([tf.io.encode_png(photo).numpy() for photo in photos]))
    field = Field(32, 32)
    for number, (photo, size) in enumerate(zip(photos, sizes, strict=True)):
        labels = decoded(found["map_bytes"][number].numpy())
        assert labels.shape == (*size, 1)
        scores = model({"image": field.place_image(tf.constant(photo))[None]}, training=False)["scores"]
        expected = field.take_back(tf.cast(tf.argmax(scores[0], -1), tf.uint8), tf.constant(size))
        np.testing.assert_array_equal(labels[..., 0], expected)
        colours = np.array(data.spec.extra["colours"])[labels[..., 0]]
        overlay = decoded(found["overlay_bytes"][number].numpy())
        np.testing.assert_allclose(overlay, (photo + colours) / 2, atol=0.5)
        shares = dict(zip(found["labels"][number].numpy(), found["shares"][number].numpy(), strict=True))
        for label, name in enumerate(data.spec.classes):
            assert shares[name.encode()] == pytest.approx((labels == label).mean(), abs=1e-6)
        assert (np.diff(found["shares"][number]) <= 0).all()


def test_served_without_images(opened):
    recipe, data, model = opened
    segment = tf.function(FCFN.signatures(model, recipe, data.spec, {}, {}).signatures["segment"].function)
    found = segment(image=tf.constant([], tf.string))
    assert found["map_bytes"].shape == (0,) and found["shares"].shape[0] == 0


def test_camvid_preset_reads_real_images(real_data):
    recipe = FCFN.recipe("camvid")
    data = FCFN.data(recipe, "camvid", real_data / "CamVid_half" / "CamVid")
    ((inputs, targets),) = list(data.batches("train", [np.arange(2)], (0, 0)))
    assert inputs["image"].shape == (2, 180, 240, 3) and targets["labels"].shape == (2, 180, 240)
    loss = tf.reduce_mean(tf.cast(targets["labels"] == 255, tf.float32))
    assert 0 < loss < 0.2
