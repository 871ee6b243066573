"""Losses of edge detection: against a loop, Eq 3.5, and finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from tfthesis import losses
from tfthesis.models.replicas import Replicas


def drawn(labels=3):
    generator = np.random.default_rng(0)
    outputs = {name: generator.normal(size=(2, 4, 5, 1)) for name in ("fuse", *(f"side_{n}" for n in range(1, 6)))}
    targets = {
        "edges": generator.integers(0, 2, (2, 4, 5)).astype(np.uint8),
        "relaxed": generator.integers(0, labels, (2, 4, 5, 5)).astype(np.uint8),
    }
    return outputs, targets


def tensors(outputs):
    return {name: tf.constant(value) for name, value in outputs.items()}


def loop(logits, labels, positive, negative):
    total = 0.0
    for x, label in zip(logits.ravel(), labels.ravel(), strict=True):
        probability = 1 / (1 + np.exp(-x))
        if label == 1:
            total -= positive * np.log(probability)
        elif label == 0:
            total -= negative * np.log(1 - probability)
    return total


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_weighted_loss_against_a_loop(reduction):
    outputs, targets = drawn()
    objective = losses.EdgeDetection({"fuse": 1.0, "side_2": 1.0}, 9.0, 1.0, reduction)
    found = objective(tensors(outputs), targets, Replicas.current())
    share = 1 if reduction == "sum" else 1 / 20
    for name, labels in (("fuse", targets["edges"]), ("side_2", targets["relaxed"][..., 1])):
        expected = [share * loop(outputs[name][row], labels[row], 9, 1) for row in range(2)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-9)


def test_balanced_loss_of_hed_against_a_loop():
    outputs, targets = drawn(2)
    targets["edges"][1] = 0
    found = losses.EdgeDetection({"fuse": 1.0}, None, reduction="sum")(tensors(outputs), targets, Replicas.current())
    expected = []
    for row in range(2):
        labels = targets["edges"][row]
        others = float(np.mean(labels == 0))
        expected.append(loop(outputs["fuse"][row], labels, others, 1 - others))
    np.testing.assert_allclose(found["fuse"], expected, rtol=1e-9)
    # An image without an edge: nothing weighs anything.
    assert found["fuse"][1] == 0


def test_gradients_are_those_of_eq_3_5_and_of_finite_differences():
    outputs, targets = drawn()
    objective = losses.EdgeDetection({"side_3": 1.0}, 9.0, 1.0, "sum")
    logits = tf.constant(outputs["side_3"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(objective({"side_3": logits}, targets, Replicas.current())["side_3"])
    gradient = tape.gradient(loss, logits).numpy()[..., 0]
    labels, sigmoid = targets["relaxed"][..., 2], 1 / (1 + np.exp(-outputs["side_3"][..., 0]))
    expected = np.where(labels == 1, 9 * (sigmoid - 1), np.where(labels == 0, sigmoid, 0.0))
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)
    # Exactly nothing at a relaxed label.
    assert (labels == 2).any() and not gradient[labels == 2].any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("positive", [9.0, None], ids=["fixed", "balanced"])
@pytest.mark.parametrize("name", ["fuse", "side_3"])
def test_gradients_at_every_pixel_are_finite_differences(name, positive, reduction):
    outputs, targets = drawn()
    objective = losses.EdgeDetection({name: 1.0}, positive, 1.0, reduction)

    def loss_of(logits):
        return tf.reduce_sum(objective({name: logits}, targets, Replicas.current())[name])

    logits = tf.constant(outputs[name])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_of(logits)
    gradient = tape.gradient(loss, logits).numpy()
    differences = np.empty_like(gradient)
    for place in np.ndindex(*gradient.shape):
        step = np.zeros_like(gradient)
        step[place] = 1e-5
        differences[place] = (loss_of(logits + step) - loss_of(logits - step)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-8)
    assert np.abs(gradient).max() > 1e-3


def test_worked_values_of_both_weightings():
    """check figures: logits of 0, each label worth ln 2 times its weight."""
    logits = tf.zeros([1, 2, 2, 1])
    relaxed = np.zeros((1, 2, 2, 5), np.uint8)
    relaxed[0, ..., 0] = [[1, 0], [2, 0]]
    targets = {"edges": np.array([[[1, 0], [0, 0]]], np.uint8), "relaxed": relaxed}
    objective = losses.EdgeDetection({"side_1": 1.0}, 9.0, 1.0, "sum")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = objective({"side_1": logits}, targets, Replicas.current())["side_1"]
    np.testing.assert_allclose(found, [7.6246190], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(found, logits)[0, ..., 0], [[-4.5, 0.5], [0, 0.5]], rtol=1e-6)
    balanced = losses.EdgeDetection({"fuse": 1.0}, None, reduction="sum")
    np.testing.assert_allclose(balanced({"fuse": logits}, targets, Replicas.current())["fuse"], [1.0397208], rtol=1e-6)


def test_pixels_outside_of_an_image_do_not_count():
    outputs, targets = drawn(2)
    cut = {"edges": targets["edges"].copy(), "relaxed": targets["relaxed"].copy()}
    cut["edges"][:, 2:], cut["relaxed"][:, 2:] = 255, 255
    objective = losses.EdgeDetection({"fuse": 1.0, "side_1": 1.0}, None, reduction="sum")
    whole = objective(
        {name: tf.constant(value[:, :2]) for name, value in outputs.items()},
        {"edges": targets["edges"][:, :2], "relaxed": targets["relaxed"][:, :2]},
        Replicas.current(),
    )
    found = objective(tensors(outputs), cut, Replicas.current())
    for name in ("fuse", "side_1"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-9)


def test_config_and_bad_reduction():
    objective = losses.EdgeDetection({"fuse": 1.0}, None, 2.0, "sum")
    assert losses.EdgeDetection.from_config(objective.get_config()).get_config() == objective.get_config()
    with pytest.raises(ValueError, match="got 'median'"):
        losses.EdgeDetection({"fuse": 1.0}, reduction="median")
