"""The softmax loss of pixels against a loop, with ignored pixels."""

import numpy as np
import pytest
import tensorflow as tf

from tfthesis import losses
from tfthesis.models.replicas import Replicas


def loop(scores, labels, reduction):
    rows = []
    for score, label in zip(scores, labels, strict=True):
        values = [
            np.log(np.exp(score[i, j]).sum()) - score[i, j, label[i, j]]
            for i, j in np.ndindex(label.shape)
            if label[i, j] != 255
        ]
        rows.append(sum(values) if reduction == "sum" else sum(values) / max(len(values), 1))
    return rows


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_against_a_loop(reduction):
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(3, 4, 5, 6)), generator.integers(0, 6, (3, 4, 5)).astype(np.uint8)
    labels[0, :2] = 255
    # An image without a single pixel that counts.
    labels[2] = 255
    objective = losses.PixelClassification({"pixels": 1.0}, reduction)
    found = objective({"scores": tf.constant(scores)}, {"labels": labels}, Replicas.current())["pixels"]
    np.testing.assert_allclose(found, loop(scores, labels, reduction), rtol=1e-9)
    assert found[2] == 0


def test_ignored_pixels_have_no_gradient():
    scores, labels = tf.random.normal([1, 2, 2, 3]), np.array([[[0, 255], [2, 1]]], np.uint8)
    objective = losses.PixelClassification({"pixels": 1.0})
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = tf.reduce_sum(objective({"scores": scores}, {"labels": labels}, Replicas.current())["pixels"])
    gradient = np.asarray(tape.gradient(loss, scores))
    softmax = np.asarray(tf.nn.softmax(scores))
    np.testing.assert_array_equal(gradient[0, 0, 1], 0)
    np.testing.assert_allclose(gradient[0, 1, 0], (softmax[0, 1, 0] - [0, 0, 1]) / 3, rtol=1e-5)


def test_config_and_bad_reduction():
    objective = losses.PixelClassification({"pixels": 2.0}, "sum")
    assert losses.PixelClassification.from_config(objective.get_config()).get_config() == objective.get_config()
    with pytest.raises(ValueError, match="got 'median'"):
        losses.PixelClassification({"pixels": 1.0}, "median")
