"""RDS and FCFN for edges: counts, labels, supervision, learning rates, what is measured and served."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import PIL.Image
import pytest
import scipy.io
import skimage.feature
import skimage.filters
import tensorflow as tf
from scipy.ndimage import binary_dilation, sobel

from tfthesis.data.edge_images import EdgeImages, EdgeSplit, open_edges
from tfthesis.data.segmented_images import SegmentedImages, SegmentedSplit, colour_wheel
from tfthesis.discovery import load_method
from tfthesis.edges import data as data_of_edges
from tfthesis.edges import evaluation, networks
from tfthesis.edges.counting import count_edges, even_thresholds
from tfthesis.edges.data import EdgeData, Supervision, Window, _stretched
from tfthesis.edges.detection import EdgeDetector
from tfthesis.edges.relaxed import CANNY_SIGMAS
from tfthesis.edges.scores import score_edges
from tfthesis.edges.thinning import suppress_non_maxima
from tfthesis.errors import UserError
from tfthesis.method import Spec
from tfthesis.models.replicas import Replicas
from tfthesis.processes import allow_processes, map_in_processes

RDS, FCFN = load_method("rds"), load_method("fcfn_edges")
ANY = Spec(inputs={"image": (None, None, 3)})


def drawn(height=20, width=24, count=4, annotators=3, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    edges = [generator.random((annotators, height, width)) < 0.2 for _ in range(count)]
    for maps in edges:
        maps[0, 0, 0] = True
    split = EdgeSplit([f"image {n}" for n in range(count)], images, edges)
    return EdgeImages("mine", {"train": split, "val": split_named(split, "v"), "test": split_named(split, "t")})


def split_named(split, letter):
    return EdgeSplit([f"{letter}{name}" for name in split.ids], split.images, split.edges)


def targets_of(data, rows, key=None, split="train"):
    ((inputs, targets),) = list(data.batches(split, [np.array(rows)], key))
    return inputs["image"].numpy(), targets["edges"].numpy(), targets["relaxed"].numpy()


def test_counts_of_the_thesis_network():
    """check figures: trunk, five sides of 1,477, fusion of 6, and 1,360 weights of upsampling."""
    model = RDS.build(RDS.recipe("thesis", weights=""), ANY)
    names = {"side": 1_477, "fusion": 6, "upsampling": 1_360, "conv": 14_714_688}
    for prefix, count in names.items():
        own = [variable for variable in model.trainable_variables if variable.path.startswith(prefix)]
        assert sum(int(np.prod(variable.shape)) for variable in own) == count
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 14_716_171 + 1_360
    fixed = FCFN.build(FCFN.recipe("thesis", "hed", weights=""), Spec(inputs={"image": (400, 400, 3)}))
    assert sum(int(np.prod(variable.shape)) for variable in fixed.trainable_variables) == 14_716_171
    # Sides of an image of 400 pixels with the border of 35, before and behind the upsampling.
    assert [fixed.get_layer(f"side{n}").output.shape[1:3] for n in range(1, 6)] == [
        (side, side) for side in (468, 234, 117, 59, 30)
    ]
    assert [fixed.get_layer(f"upsampling{n}").output.shape[1:3] for n in range(2, 6)] == [
        (side, side) for side in (470, 472, 480, 496)
    ]
    assert all(output.shape[1:3] == (400, 400) for output in fixed.output.values())


def test_locally_connected_fusion_of_400_pixels():
    recipe = FCFN.recipe("thesis", trunk="tiny", weights="")
    model = FCFN.build(recipe, Spec(inputs={"image": (400, 400, 3)}))
    kernel, bias = model.get_layer("fusion").weights
    assert np.prod(kernel.shape) == 800_000 and np.prod(bias.shape) == 160_000
    np.testing.assert_array_equal(kernel, np.float32(0.2))


def test_first_weights_are_those_of_the_thesis():
    model = RDS.build(RDS.recipe("tiny"), ANY)
    for number in range(1, 6):
        assert not np.any(model.get_layer(f"side{number}").kernel)
    np.testing.assert_allclose(model.get_layer("fusion").kernel, 0.2)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("border", [0, 35])
def test_side_outputs_lie_where_their_pixels_are(monkeypatch, border, axis):
    """Each pooling of a ramp takes the larger of two values, half a pixel of its own size ahead; no more may be off."""
    monkeypatch.setitem(networks.BORDERS, "tiny", border)
    model = RDS.build(RDS.recipe("tiny"), ANY)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            # Means of what a convolution sees, which leave a ramp as it is.
            kernel = layer.get_weights()[0]
            layer.set_weights([np.full_like(kernel, 1 / kernel[..., 0].size), np.zeros(kernel.shape[-1], np.float32)])
    ramp = np.indices((256, 256))[axis].astype(np.float32)[None, ..., None]
    sides = model({"image": 200 + np.repeat(ramp, 3, axis=-1)}, training=False)
    # Where no convolution sees the end of the image.
    inner = {name: np.asarray(side)[0, 100:156, 100:156, 0] for name, side in sides.items()}
    slope = np.diff(inner["side_1"], axis=axis).mean()
    for number in range(1, 6):
        ahead = (inner[f"side_{number}"] - inner["side_1"]).mean() / slope
        assert ahead == pytest.approx((2 ** (number - 1) - 1) / 2, abs=0.1)


def test_relaxed_labels_against_scikit_image_called_directly():
    dataset = drawn(40, 44)
    data = EdgeData(dataset, Window(40, 44), Supervision(3, True, "canny"))
    _, edges, relaxed = targets_of(data, [1])
    pixels, annotators = dataset.splits["train"].images[1], dataset.splits["train"].edges[1]
    box = np.ones((3, 3))
    truth = binary_dilation(annotators.sum(axis=0) >= 3, box)
    np.testing.assert_array_equal(edges[0], truth)
    for number, sigma in enumerate(CANNY_SIGMAS):
        values = pixels @ np.array([0.2989, 0.5870, 0.1140]) / 255
        smooth = skimage.filters.gaussian(values, sigma, mode="nearest")
        gradient = np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1))
        # The smallest of 64 steps that more than seven tenths of the pixels stay below.
        steps = np.round(gradient / gradient.max() * 63)
        high = next(n + 1 for n in range(64) if (steps <= n).mean() > 0.7) / 64 * gradient.max()
        found = skimage.feature.canny(values, sigma, low_threshold=0.4 * high, high_threshold=high, mode="nearest")
        expected = np.where(truth, 1, np.where(binary_dilation(found, box), 2, 0))
        np.testing.assert_array_equal(relaxed[0, ..., number], expected)


def test_labels_without_dilation_and_of_fewer_annotators():
    dataset = drawn()
    edges = dataset.splits["train"].edges[2]
    for agreeing in (1, 2, 3):
        data = EdgeData(dataset, Window(20, 24), Supervision(agreeing, False))
        _, found, relaxed = targets_of(data, [2])
        np.testing.assert_array_equal(found[0], edges.sum(axis=0) >= agreeing)
        # Without relaxed labels every side output has the edges.
        np.testing.assert_array_equal(relaxed[0], np.repeat(found[0][..., None], 5, axis=-1))


def test_relaxed_labels_of_soft_maps_in_files(tmp_path):
    dataset = drawn()
    soft = np.random.default_rng(5).integers(0, 256, (20, 24)).astype(np.uint8)
    for name in dataset.splits["train"].ids[:3]:
        PIL.Image.fromarray(soft).save(tmp_path / f"{name}.png")
    data = EdgeData(dataset, Window(20, 24), Supervision(3, False, "maps", tmp_path))
    with pytest.raises(UserError, match=r"of image 3: expected .*image 3.png or .*image 3.npy, found neither"):
        data.batches("train", [np.array([3])], None)
    np.save(tmp_path / "image 3.npy", soft[::-1] / 255)
    _, edges, relaxed = targets_of(data, [3])
    for number, factor in enumerate((0.5, 1.0, 1.5, 2.0, 2.5)):
        expected = np.where(edges[0] == 1, 1, np.where(soft[::-1] / 255 > factor * (soft[::-1] / 255).mean(), 2, 0))
        np.testing.assert_array_equal(relaxed[0, ..., number], expected)
    _, edges, relaxed = targets_of(data, [0])
    for number, factor in enumerate((0.5, 1.0, 1.5, 2.0, 2.5)):
        expected = np.where(edges[0] == 1, 1, np.where(soft / 255 > factor * (soft / 255).mean(), 2, 0))
        np.testing.assert_array_equal(relaxed[0, ..., number], expected)
    before = data.spec.dataset["fingerprint"]
    PIL.Image.fromarray(soft[:-1]).save(tmp_path / "image 1.png")
    data = EdgeData(dataset, Window(20, 24), Supervision(3, False, "maps", tmp_path))
    with pytest.raises(UserError, match=r"image 1.png has \(19, 24\) pixels, the image \(20, 24\)"):
        data.batches("train", [np.array([0])], None)
    # Other maps are other data: a run on them does not go on with these.
    assert data.spec.dataset["fingerprint"] != before
    # What is measured is the same, with and without them.
    assert data.spec.dataset["measured"] == dataset.fingerprint()
    with pytest.raises(UserError, match="no folder nowhere"):
        RDS.data(RDS.recipe("tiny", relaxed="maps", relaxed_maps="nowhere"), "scenes", None)
    with pytest.raises(UserError, match=r"relaxed=maps needs a folder"):
        RDS.data(RDS.recipe("tiny", relaxed="maps"), "scenes", None)


def test_no_relaxed_labels_are_baseline_2_to_the_bit(tmp_path):
    """A detector that finds nothing relaxes nothing: the same labels, the same step."""
    dataset = drawn()
    for name in dataset.splits["train"].ids:
        PIL.Image.fromarray(np.zeros((20, 24), np.uint8)).save(tmp_path / f"{name}.png")
    recipe = RDS.recipe("tiny", "baseline2")
    trained = []
    for supervision in (Supervision(3, True, "maps", tmp_path), Supervision(3, True)):
        (batch,) = list(EdgeData(dataset, Window(20, 24), supervision).batches("train", [np.arange(3)], None))
        keras.utils.set_random_seed(3)
        model = RDS.build(recipe, ANY)
        RDS.compile(model, recipe, RDS.stages(recipe)[0])
        loss = float(model.train_step(batch)["loss"])
        trained.append((batch[1]["relaxed"].numpy(), loss, [variable.numpy() for variable in model.variables]))
    np.testing.assert_array_equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]
    for one, other in zip(trained[0][2], trained[1][2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_labels_without_a_2_are_baseline_2_to_the_bit_by_a_formula(reduction):
    """A weighted cross-entropy on the edges alone, which knows of no label 2, in float32; and its derivative."""
    recipe = RDS.recipe("tiny", loss_reduction=reduction)
    model = RDS.build(recipe, ANY)
    RDS.compile(model, recipe, RDS.stages(recipe)[0])
    (batch,) = list(EdgeData(drawn(), Window(20, 24), Supervision(2)).batches("train", [np.arange(3)], None))
    edges = batch[1]["edges"].numpy()
    assert set(np.unique(edges)) == {0, 1}
    generator = np.random.default_rng(4)
    names = ("fuse", *(f"side_{number}" for number in range(1, 6)))
    outputs = {name: tf.constant(generator.normal(0, 3, (3, 20, 24, 1)), tf.float32) for name in names}
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        found = model.objective(outputs, batch[1], Replicas.current())
        total = tf.add_n([tf.reduce_sum(found[name]) for name in names])
    gradients = tape.gradient(total, outputs)
    pixels = np.float32(1 if reduction == "sum" else 20 * 24)
    for name, logits in outputs.items():
        x = logits[..., 0]
        entropy = np.where(edges == 1, np.float32(9) * tf.nn.softplus(-x), tf.nn.softplus(x))
        expected = (tf.reduce_sum if reduction == "sum" else tf.reduce_mean)(entropy, axis=[1, 2])
        np.testing.assert_array_equal(found[name], expected)
        # Of -9 log sigmoid(x) and of -log(1 - sigmoid(x)).
        one = np.float32(1) / pixels
        slope = np.where(edges == 1, -np.float32(9) * one * tf.sigmoid(-x), one * tf.sigmoid(x))
        np.testing.assert_array_equal(gradients[name][..., 0], slope)


def test_a_step_of_baseline_2_against_a_short_version():
    recipe = RDS.recipe("tiny", "baseline2", mirror=False, momentum=0.5, weight_decay=0.01)
    data = RDS.data(recipe, "scenes", None)
    keras.utils.set_random_seed(3)
    model, twin = RDS.build(recipe, data.spec), RDS.build(recipe, data.spec)
    for layer in model.layers:
        if layer.name.startswith("side"):
            layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.get_weights()])
    twin.set_weights(model.get_weights())
    RDS.compile(model, recipe, RDS.stages(recipe)[0])
    (batch,) = list(data.batches("train", [np.arange(3)], None))
    model.train_step(batch)
    with tf.GradientTape() as tape:
        outputs, edges = twin(batch[0], training=True), tf.cast(batch[1]["edges"], tf.float32)
        loss = 0.0
        for name in ("fuse", *(f"side_{number}" for number in range(1, 6))):
            logits = outputs[name][..., 0]
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(edges, logits)
            loss += tf.reduce_mean(tf.where(edges == 1, 9.0, 1.0) * entropy)
    gradients = tape.gradient(loss, twin.trainable_variables)
    rates = {"side": 1.0, "fusion": 0.1, "upsampling": 0.1}
    for variable, gradient, trained in zip(twin.trainable_variables, gradients, model.trainable_variables, strict=True):
        rate = recipe.learning_rate * next((rates[key] for key in rates if variable.path.startswith(key)), 1.0)
        rate *= 2 if variable.path.endswith("bias") else 1
        decay = 0.01 if variable.path.endswith("kernel") else 0.0
        expected = variable - rate * (gradient + decay * variable)
        np.testing.assert_allclose(trained, expected, rtol=1e-5, atol=1e-7, err_msg=variable.path)


def test_supervision_of_tables_3_1_and_3_2():
    def parts(variant):
        return [tuple(stage.loss_weights) for stage in RDS.stages(RDS.recipe("thesis", variant, weights=""))]

    sides = tuple(f"side_{number}" for number in range(1, 6))
    assert parts(None) == [("fuse", *sides)] == parts("baseline2")
    assert parts("baseline1") == [("fuse",)]
    assert parts("early") == [("fuse", *sides[:3])] and parts("late") == [("fuse", *sides[3:])]
    assert parts("cea") == [("fuse",), ("fuse", *sides)] and parts("cea_only") == [("fuse",)]
    assert RDS.recipe("thesis", "baseline2").relaxed == "none" and RDS.recipe("thesis").relaxed == "canny"
    start, stage = RDS.stages(RDS.recipe("thesis"))
    assert start.name == "vgg16"
    assert (stage.epochs, stage.batch_size, stage.learning_rate) == (25, 8, 1e-9)


def test_rates_after_coarse_edges():
    def rates(*options, **fields):
        return [stage.learning_rate for stage in RDS.stages(RDS.recipe(*options, **fields)) if stage.name != "vgg16"]

    assert rates("quick") == pytest.approx([0.05, 0.005])
    assert rates("quick", "cea") == pytest.approx([0.05, 0.4 * 0.05, 0.4 * 0.005])
    assert rates("quick", "cea", tuning_rate=1.0) == pytest.approx([0.05, 0.05, 0.005])
    assert rates("quick", "cea_only") == pytest.approx([0.05])
    assert rates("thesis", "cea") == [1e-9, 1e-9]
    assert "tuning_rate" in RDS.recipe("quick").idle() & RDS.recipe("quick", "cea_only").idle()
    assert "tuning_rate" not in RDS.recipe("quick", "cea").idle()


def test_released_multipliers():
    recipe = RDS.recipe("thesis", trunk="tiny", weights="")
    model = RDS.build(recipe, ANY)
    RDS.compile(model, recipe, RDS.stages(recipe)[0])
    rates = {v.path: model.optimizer._rates[n] for n, v in enumerate(model.trainable_variables)}
    assert rates["conv1_1/kernel"] == 1 and rates["conv4_1/bias"] == 2
    assert rates["conv5_1/kernel"] == 100 and rates["conv5_1/bias"] == 200
    assert rates["side3/kernel"] == pytest.approx(0.01) and rates["side3/bias"] == pytest.approx(0.02)
    assert rates["upsampling5/kernel"] == rates["fusion/kernel"] == pytest.approx(0.01)
    hed = FCFN.recipe("thesis", trunk="tiny", weights="")
    model = FCFN.build(hed, Spec(inputs={"image": (64, 64, 3)}))
    FCFN.compile(model, hed, FCFN.stages(hed)[0])
    rates = {v.path: model.optimizer._rates[n] for n, v in enumerate(model.trainable_variables)}
    # HED's .001, and the rate of weights that see one place.
    assert rates["fusion/kernel"] == pytest.approx(1.0) and not [path for path in rates if "upsampling" in path]


def test_crops_and_flips_are_those_of_the_lot():
    dataset = drawn()
    data = EdgeData(dataset, Window(8, 10, crop=True, mirror=True), Supervision(1, False))
    images, edges, _ = targets_of(data, [0, 1, 2, 3], (5, 2))
    again, _, _ = targets_of(data, [3, 2, 1, 0], (5, 2))
    np.testing.assert_array_equal(images, again[::-1])
    other, _, _ = targets_of(data, [0, 1, 2, 3], (5, 3))
    assert not np.array_equal(images, other)
    split = dataset.splits["train"]
    for row in range(4):
        truth = split.edges[row].any(axis=0)
        places = [
            (top, left, turned)
            for top in range(13)
            for left in range(15)
            for turned in (1, -1)
            if np.array_equal(split.images[row][top : top + 8, left : left + 10][:, ::turned], images[row])
        ]
        ((top, left, turned),) = places
        np.testing.assert_array_equal(edges[row], truth[top : top + 8, left : left + 10][:, ::turned])


@pytest.mark.parametrize("size", [(160, 240), (321, 400), (480, 700)])
def test_thin_edges_stay_whole_when_an_image_is_stretched(size):
    """Lines of one pixel, of which the nearest pixel alone would keep every third or fewer."""
    labels = np.zeros((321, 481, 1), np.uint8)
    labels[40, :], labels[:, 77], labels[np.arange(300), np.arange(300)] = 1, 1, 1
    found = _stretched(labels, *size)[..., 0]
    row, column = (
        np.searchsorted(np.arange(new) * old // new, place, side="right") - 1
        for new, old, place in zip(size, labels.shape[:2], (40, 77), strict=True)
    )
    assert found[row].all() and found[:, column].all()
    # The diagonal is in every row and is connected.
    for row in range(0, 299 * size[0] // 321):
        assert found[row].any()
    assert set(np.unique(found)) == {0, 1}
    relaxed = np.array([[0, 2, 1, 0], [2, 0, 0, 0]], np.uint8)[..., None]
    assert _stretched(relaxed, 1, 2)[..., 0].tolist() == [[2, 1]]
    np.testing.assert_array_equal(_stretched(relaxed, 2, 4), relaxed)


def test_images_are_prepared_on_the_processor(logical_devices, monkeypatch):
    """Whatever device is the default one, such as a GPU: here the second of two that stand for it."""
    devices, resize, decode = [], tf.image.resize, data_of_edges.decode

    def seen(function):
        def call(*arguments, **options):
            devices.append(function(*arguments, **options))
            return devices[-1]

        return call

    monkeypatch.setattr(tf.image, "resize", seen(resize))
    monkeypatch.setattr(data_of_edges, "decode", seen(decode))
    splits = drawn(count=2).splits
    for name, split in splits.items():
        files = [tf.io.encode_png(image).numpy() for image in split.images]
        splits[name] = EdgeSplit(split.ids, files, split.edges)
    data = EdgeData(EdgeImages("mine", splits), Window(8, 8), Supervision())
    with tf.device(logical_devices[1]):
        assert data.placed("train", 1).shape == (8, 8, 3)
    assert len(devices) >= 2 and all(tensor.device.endswith("CPU:0") for tensor in devices)


def test_local_fusion_learns():
    """Each of its weights sees one place: without a rate of its own it would stay where it starts."""
    keras.utils.set_random_seed(0)
    recipe = FCFN.recipe("tiny")
    data = FCFN.data(recipe, "scenes", None)
    spread = {}
    for rate in (recipe.place_rate, 1.0):
        model = FCFN.build(recipe, data.spec)
        FCFN.compile(model, FCFN.recipe("tiny", place_rate=rate), FCFN.stages(recipe)[0])
        for step in range(12):
            rows = np.arange(3 * step, 3 * step + 3) % data.size("train")
            (batch,) = list(data.batches("train", [rows], (0, step)))
            model.train_step(batch)
        spread[rate] = float(np.std(model.get_layer("fusion").kernel))
    assert spread[1.0] < 1e-4 < 1e-3 < spread[recipe.place_rate] < 1


def test_an_image_smaller_than_the_crop_is_filled_up():
    data = EdgeData(drawn(), Window(32, 32, crop=True), Supervision(1, False))
    images, edges, relaxed = targets_of(data, [0])
    assert (edges[0, 20:] == 255).all() and (edges[0, :, 24:] == 255).all() and (relaxed[0, 20:] == 255).all()
    np.testing.assert_allclose(images[0, 31, 31], images[0, :20, :24].mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize("border", [0, 35])
def test_images_smaller_than_what_a_network_sees(monkeypatch, border):
    """The last output sees more than a hundred pixels; these images are poolings of nothing but themselves."""
    monkeypatch.setitem(networks.BORDERS, "tiny", border)
    recipe = RDS.recipe("tiny")
    model = RDS.build(recipe, ANY)
    for height, width in ((1, 1), (1, 9), (5, 3)):
        data = EdgeData(drawn(height, width, count=2), Window(height, width), Supervision(1))
        edges = EdgeDetector(model).probabilities(data.image("test", 0)).numpy()
        assert edges.shape == (height, width) and np.isfinite(edges).all()
        images, found, _ = targets_of(data, [0, 1])
        assert images.shape == (2, height, width, 3) and found.shape == (2, height, width)
        assert 0 <= RDS.evaluate(model, data, recipe, "test").scalars["ods"] <= 100


def test_coarse_edges_are_the_borders_of_a_segmentation():
    maps = np.zeros((2, 6, 6), np.uint8)
    maps[0, 2:4, 2:4] = 1
    split = SegmentedSplit(["a", "b"], np.zeros((2, 6, 6, 3), np.uint8), maps)
    coarse = SegmentedImages("shapes", {"train": split}, ("ground", "thing"), colour_wheel(2))
    data = EdgeData(drawn(), Window(6, 6), Supervision(3, False, "canny"), coarse)
    # An image of one class has no border to learn from.
    assert data.size("coarse") == 1 and data.spec.dataset["counts"]["coarse"] == 1
    _, edges, _ = targets_of(data, [0], split="coarse")
    expected = np.zeros((6, 6))
    expected[1, 2:4] = expected[3, 2:4] = 1
    expected[2:4, 1] = expected[2:4, 3] = 1
    np.testing.assert_array_equal(edges[0], expected)
    with pytest.raises(UserError, match="unknown split"):
        EdgeData(drawn(), Window(6, 6), Supervision()).size("coarse")


def test_coarse_edges_may_be_those_of_an_edge_dataset(tmp_path):
    """PASCAL Context has more classes than a segmentation dataset can have, and is read as their borders."""
    (tmp_path / "trainval").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    labels = np.full((48, 48), 300, np.uint16)
    labels[:, 20:] = 400
    scipy.io.savemat(tmp_path / "trainval" / "a.mat", {"LabelMap": labels})
    PIL.Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / "JPEGImages" / "a.jpg")
    recipe = RDS.recipe("tiny", coarse_dataset="pascal_context", coarse_folder=str(tmp_path))
    data = RDS.data(recipe, "scenes", None)
    assert data.size("coarse") == 1 and data.item_ids("coarse", np.array([0])) == ["coarse/a"]
    _, edges, relaxed = targets_of(data, [0], split="coarse")
    expected = np.zeros((48, 48), bool)
    expected[:, 18:21] = True
    np.testing.assert_array_equal(edges[0], expected)
    np.testing.assert_array_equal(relaxed[0], np.repeat(edges[0][..., None], 5, axis=-1))
    assert RDS.stages(recipe)[0].split == "coarse"
    plain = RDS.data(RDS.recipe("tiny"), "scenes", None).spec.dataset
    assert "measured" not in plain and data.spec.dataset["measured"] == plain["fingerprint"]
    assert data.spec.dataset["fingerprint"] != plain["fingerprint"]
    with pytest.raises(UserError, match="Did you mean 'pascal_context'"):
        RDS.data(RDS.recipe("tiny", coarse_dataset="pascal_contxt", coarse_folder="x"), "scenes", None)


def test_another_dataset_can_be_measured():
    other = drawn(count=2, seed=9)
    data = EdgeData(drawn(), Window(8, 8), Supervision(), test=other)
    assert data.size("test") == 2 and data.size("train") == 4 and data.spec.dataset["counts"]["test"] == 2
    np.testing.assert_array_equal(data.image("test", 1), other.splits["test"].images[1])
    assert (
        data.spec.dataset["fingerprint"] != EdgeData(drawn(), Window(8, 8), Supervision()).spec.dataset["fingerprint"]
    )
    recipe = RDS.recipe("thesis_nyud")
    assert (recipe.dataset, recipe.test_dataset, recipe.max_dist) == ("bsds500", "nyud", 0.011)
    assert recipe.further_reaches == (0.0075,)


def test_training_images_without_an_agreed_edge_are_skipped_and_listed(tmp_path):
    """Three annotators with a line of their own each: nobody is confirmed by another one."""
    for split in ("train", "val", "test"):
        (tmp_path / split / "images").mkdir(parents=True)
        for name, distance in (("apart", 5), ("alike", 0)):
            image = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
            PIL.Image.fromarray(image).save(tmp_path / split / "images" / f"{name}.png")
            (tmp_path / split / "edges" / name).mkdir(parents=True)
            for number in range(3):
                edges = np.zeros((20, 24), np.uint8)
                edges[4 + distance * number] = 255
                PIL.Image.fromarray(edges).save(tmp_path / split / "edges" / name / f"{number}.png")
    dataset = open_edges("edge_folders", tmp_path)
    data = EdgeData(dataset, Window(8, 8), Supervision())
    assert data.size("train") == 1 and data.item_ids("train", np.arange(1)) == ["train/alike"]
    (line,) = data.describe()["skipped"]["items"]
    assert line.startswith("train: image train/apart: no pixel on which 3 of its 3 annotators agree")
    # What is measured is compared with each annotator, so it stays.
    assert data.size("test") == 2
    assert EdgeData(dataset, Window(8, 8), Supervision(agreeing=1)).size("train") == 2


def test_bad_recipes():
    with pytest.raises(UserError, match="expected different numbers of 1 to 5"):
        RDS.stages(RDS.recipe("tiny", supervised=(1, 6)))
    with pytest.raises(UserError, match="need coarse_dataset"):
        RDS.stages(RDS.recipe("tiny", epochs=(0,)))
    for field, value in (
        ("agreeing", 0),
        ("positive", -1.0),
        ("max_dist", 0.0),
        ("tuning_rate", 0.0),
        ("further_reaches", (0.01, 0.0)),
        ("val_images", 0),
        ("height", 0),
    ):
        with pytest.raises(UserError, match=f"recipe field '{field}': expected"):
            RDS.data(RDS.recipe("tiny", **{field: value}), "scenes", None)
    with pytest.raises(UserError, match="recipe field 'test_folder': name the folder of nyud"):
        RDS.data(RDS.recipe("tiny", test_dataset="nyud"), "scenes", None)
    with pytest.raises(UserError, match="set it to 'training'"):
        FCFN.data(FCFN.recipe("tiny", test_size="own"), "scenes", None)
    with pytest.raises(UserError, match="do not fit trunk=narrow"):
        RDS.build(RDS.recipe("quick", weights="imagenet"), ANY)
    model = FCFN.build(FCFN.recipe("tiny"), Spec(inputs={"image": (48, 48, 3)}))
    with pytest.raises(UserError, match="takes one scale"):
        EdgeDetector(model, (1.0, 2.0))
    with pytest.raises(UserError, match="sizes above 0"):
        EdgeDetector(model, ())


@pytest.fixture(scope="module", params=["rds", "fcfn_edges"])
def opened(request):
    keras.utils.set_random_seed(1)
    method = {"rds": RDS, "fcfn_edges": FCFN}[request.param]
    recipe = method.recipe("tiny")
    data = method.data(recipe, "scenes", None)
    model = method.build(recipe, data.spec)
    for layer in model.layers:
        if layer.name.startswith("side"):
            layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.get_weights()])
    return method, recipe, data, model


def test_what_is_measured_is_the_benchmark(opened, monkeypatch):
    method, recipe, data, model = opened
    counted = []
    score = evaluation.score_edges
    monkeypatch.setattr(evaluation, "score_edges", lambda *given: counted.extend(given[0]) or score(*given))
    found = method.evaluate(model, data, recipe, "test")
    monkeypatch.undo()
    maps = evaluation.edge_maps(model, data, recipe, "test", np.arange(data.size("test")))
    counts = []
    for row, measured in enumerate(maps):
        image = data.image("test", row).astype(np.float32)
        edges = tf.sigmoid(model({"image": image[None]}, training=False)["fuse"])[0, ..., 0]
        edges = suppress_non_maxima(np.asarray(edges, np.float64))
        np.testing.assert_allclose(measured, edges, atol=1e-5)
        counts.append(count_edges(edges, data.annotators("test", row), even_thresholds(5), max_dist=0.0075))
    scores = score_edges(counts, even_thresholds(5))
    assert len(counted) == len(counts) == 4
    for one, other in zip(counted, counts, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert found.scalars["ods"] == pytest.approx(100 * scores.ods.f, rel=1e-12)
    assert found.scalars["ap"] == pytest.approx(100 * scores.average_precision, rel=1e-12)
    assert len(found.samples["best_f"]) == 4 and len(found.tables["images"]) == 4
    wider = method.evaluate(model, data, method.recipe("tiny", further_reaches=(0.03, 0.0075)), "test").scalars
    assert {name: wider[name] for name in found.scalars} == found.scalars
    assert {name: wider[f"reach_0.0075.{name}"] for name in found.scalars} == found.scalars
    assert wider["reach_0.03.ods"] > wider["ods"]
    few = method.evaluate(model, data, recipe, "val")
    assert len(few.samples["row"]) == 2 and "3 thresholds" in few.protocol
    some = method.evaluate(model, data, method.recipe("tiny", test_images=1), "test")
    assert len(some.samples["row"]) == 1


def test_several_processes_measure_the_same(opened, monkeypatch):
    method, recipe, data, model = opened
    monkeypatch.setattr(evaluation, "_FEW_MAPS", 1)
    alone = method.evaluate(model, data, recipe, "test")
    asked = []
    monkeypatch.setattr(
        evaluation, "map_in_processes", lambda *given: asked.append(given[2]) or map_in_processes(*given)
    )
    with allow_processes(2):
        shared = method.evaluate(model, data, recipe, "test")
    assert asked == [2]
    assert shared.scalars == alone.scalars and shared.tables == alone.tables and shared.curves == alone.curves
    np.testing.assert_array_equal(shared.samples["best_f"], alone.samples["best_f"])


def test_served_maps_have_the_size_of_each_photo(opened):
    method, recipe, data, model = opened
    served = method.signatures(model, recipe, data.spec, {}, {}).signatures
    generator = np.random.default_rng(0)
    sizes = [(48, 48), (33, 70), (20, 18)]
    photos = [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    files = tf.constant([tf.io.encode_png(photo).numpy() for photo in photos])
    pictures = served["detect_edges"].function(image=files)["edges_bytes"].numpy()
    numbers = {name: value.numpy() for name, value in served["edge_probabilities"].function(image=files).items()}
    assert numbers["size"].tolist() == [list(size) for size in sizes] and numbers["edges"].shape == (3, 48, 70)
    for place, (photo, (height, width)) in enumerate(zip(photos, sizes, strict=True)):
        edges = EdgeDetector(model).probabilities(tf.constant(photo)).numpy()
        picture = tf.io.decode_png(pictures[place]).numpy()[..., 0]
        np.testing.assert_allclose(picture, 255 * edges, atol=0.51)
        np.testing.assert_allclose(numbers["edges"][place, :height, :width], edges, atol=1e-5)
        assert not numbers["edges"][place, height:].any() and not numbers["edges"][place, :, width:].any()
    if recipe.test_size == "own":
        plain = model({"image": photos[1][None].astype(np.float32)}, training=False)["fuse"]
        np.testing.assert_allclose(numbers["edges"][1, :33, :70], tf.sigmoid(plain)[0, ..., 0], atol=1e-5)


def test_hed_is_looked_at_like_fcfn():
    """Both are stretched to the size of training, so that Table 2.8 compares fusions alone."""
    for variant in (None, "hed"):
        recipe = FCFN.recipe("tiny", variant)
        model = FCFN.build(recipe, FCFN.data(recipe, "scenes", None).spec)
        assert EdgeDetector(model).fixed == (48, 48)


def test_several_scales_are_averaged():
    keras.utils.set_random_seed(1)
    model = RDS.build(RDS.recipe("tiny"), ANY)
    model.get_layer("side1").set_weights([np.random.default_rng(0).normal(size=(1, 1, 4, 1)), np.zeros(1)])
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.float32)
    one = EdgeDetector(model).probabilities(photo)
    double = EdgeDetector(model).probabilities(tf.image.resize(photo, [40, 60], antialias=True))
    back = tf.image.resize(double[..., None], [20, 30], antialias=True)[..., 0]
    found = EdgeDetector(model, (1.0, 2.0)).probabilities(photo)
    np.testing.assert_allclose(found, (one + back) / 2, atol=1e-5)


@pytest.mark.parametrize("variant", ["baseline1", "cea_only", "multi_scale", "maps"])
def test_pictures_of_every_supervision(variant, tmp_path):
    recipe = RDS.recipe("tiny", None if variant == "maps" else variant, coarse_reader=("images=[3, 1, 1]", "size=48"))
    if variant == "maps":
        # Soft maps of training images only: nothing else is trained on.
        recipe = dataclasses.replace(recipe, relaxed="maps", relaxed_maps=str(tmp_path))
        for number in range(recipe.scene_images[0]):
            PIL.Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / f"train-{number:06d}.png")
    data = RDS.data(recipe, "scenes", None)
    drawn_pictures = RDS.pictures(RDS.build(recipe, data.spec), data, recipe, tmp_path)
    names = {picture.path.name for picture in drawn_pictures}
    assert names == {"edges.png", "sides.png", "labels.png"}
    described = json.loads(json.dumps(data.describe()))
    assert described["window"]["height"] == 48 and described["skipped"]["count"] == 0


def test_real_bsds500(real_data):
    recipe = RDS.recipe("bsds500", "baseline2")
    data = RDS.data(recipe, "bsds500", real_data / "BSDS500" / "BSDS500" / "data")
    assert [data.size(split) for split in ("train", "val", "test")] == [200, 100, 200]
    images, edges, _ = targets_of(data, [0, 1], (0, 0))
    assert images.shape == (2, 160, 160, 3) and 0 < edges.mean() < 0.5
    assert data.image("test", 0).shape[:2] == data.annotators("test", 0).shape[1:]
