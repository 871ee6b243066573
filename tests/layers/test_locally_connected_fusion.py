"""Locally-connected fusion and its extensions."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.layers import GlobalContrastNormalization, LocallyConnectedFusion
from tfthesis.layers.locally_connected_fusion import fusion_parameters

GOLDEN = Path(__file__).parents[1] / "golden" / "locally_connected.npz"


def branches(count, *shape, seed=0, dtype=np.float64):
    return list(np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype))


def randomised(layer, inputs, seed=1):
    """Build `layer` for `inputs` and give it random weights; returns them by name."""
    layer(inputs)
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(generator.normal(size=weight.shape))
    return {weight.name: np.array(weight) for weight in layer.weights}


@pytest.mark.parametrize("shape", [(7,), (3, 4, 2)])
def test_against_einsum(shape):
    inputs = branches(3, 5, *shape)
    layer = LocallyConnectedFusion(activation=None, dtype="float64")
    weights = randomised(layer, inputs)
    expected = np.einsum("sb...,...s->b...", np.stack(inputs), weights["kernel"]) + weights["bias"]
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-12)
    rectified = LocallyConnectedFusion.from_config({**layer.get_config(), "activation": "relu"})
    rectified(inputs)
    rectified.set_weights(layer.get_weights())
    np.testing.assert_allclose(rectified(inputs), np.maximum(expected, 0), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_against_keras_2(size):
    """tests/golden/make_locally_connected.py tells how the numbers were made."""
    with np.load(GOLDEN) as golden:
        inputs = list(np.moveaxis(golden["branches"], -1, 0))
        layer = LocallyConnectedFusion(size, dtype="float64")
        layer(inputs)
        kernel = golden[f"kernel_{size}"]
        layer.set_weights([kernel[:, 0] if size == 1 else kernel, golden[f"bias_{size}"]])
        assert str(golden["keras"]) == "2.15.0"
        np.testing.assert_allclose(layer(inputs), golden[f"fused_{size}"], rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_wider_kernels_against_a_loop(size):
    inputs = branches(2, 4, 6)
    layer = LocallyConnectedFusion(size, activation=None, dtype="float64")
    weights = randomised(layer, inputs)
    expected = np.zeros((4, 6))
    before = (size - 1) // 2
    for position in range(6):
        for place in range(size):
            seen = position + place - before
            if 0 <= seen < 6:
                for branch in range(2):
                    expected[:, position] += weights["kernel"][position, place, branch] * inputs[branch][:, seen]
    np.testing.assert_allclose(layer(inputs), expected + weights["bias"], rtol=1e-12)


def test_conditioned_weights_against_a_loop():
    inputs = branches(3, 4, 5)
    layer = LocallyConnectedFusion(conditioned=True, activation=None, dtype="float64")
    weights = randomised(layer, inputs)
    g = np.stack(inputs, axis=-1)
    effective = weights["kernel"] + np.einsum("kjl,bkl->bkj", weights["dynamic_kernel"], g)
    np.testing.assert_allclose(layer(inputs), (effective * g).sum(-1) + weights["bias"], rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"kernel_size": 2}, {"kernel_size": 3}, {"conditioned": True}])
def test_untrained_it_is_the_mean(options):
    inputs = branches(4, 3, 6, dtype=np.float32)
    layer = LocallyConnectedFusion(activation=None, **options)
    np.testing.assert_allclose(layer(inputs), np.mean(inputs, axis=0), rtol=1e-5, atol=1e-6)
    means, spreads = layer.branch_weights()
    np.testing.assert_allclose(means, [0.25] * 4, rtol=1e-6)
    np.testing.assert_allclose(spreads, [0] * 4, atol=1e-7)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_branch_weights_are_mean_and_deviation_over_positions(kernel_size):
    inputs = branches(4, 3, 6, dtype=np.float32)
    layer = LocallyConnectedFusion(kernel_size=kernel_size)
    kernel = randomised(layer, inputs)["kernel"]
    of_position = kernel if kernel_size == 1 else kernel.sum(axis=-2)
    means, spreads = layer.branch_weights()
    np.testing.assert_allclose(means, of_position.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(spreads, of_position.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4,), {}),
        ((4,), {"kernel_size": 3}),
        ((4,), {"conditioned": True}),
        ((4,), {"use_bias": False}),
        ((3, 4, 2), {}),
        ((3, 4, 2), {"conditioned": True}),
    ],
)
def test_gradients_by_finite_differences(shape, options):
    inputs = [tf.constant(branch) for branch in branches(2, 3, *shape)]
    layer = LocallyConnectedFusion(activation="softplus", dtype="float64", **options)
    randomised(layer, inputs)
    weights = [weight.value for weight in layer.weights]

    def loss(*values):
        for weight, value in zip(weights, values[2:], strict=True):
            weight.assign(value)
        with tf.GradientTape() as tape:
            tape.watch(values[:2])
            result = tf.reduce_sum(layer(list(values[:2])) ** 2)
        return result, tape.gradient(result, [*values[:2], *weights])

    point = [*inputs, *map(tf.identity, weights)]
    _, gradients = loss(*point)
    generator = np.random.default_rng(3)
    for number, (value, gradient) in enumerate(zip(point, gradients, strict=True)):
        direction = generator.normal(size=value.shape)
        step = 1e-6
        ahead, behind = (loss(*point[:number], value + s * step * direction, *point[number + 1 :])[0] for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / (2 * step), np.sum(gradient * direction), rtol=1e-6)


@pytest.mark.parametrize(("positions", "count"), [((192,), 3), ((1024,), 4), ((34, 34, 21), 2)])
def test_number_of_weights(positions, count):
    layer = LocallyConnectedFusion()
    layer.build([(None, *positions)] * count)
    assert layer.count_params() == fusion_parameters(positions, count)
    assert fusion_parameters((192,), 3) == 768
    # Section 2.3.1 prints H W C 2, without the bias of its Eq 2.7.
    assert fusion_parameters((34, 34, 21), 2, use_bias=False) == 48_552
    assert fusion_parameters((70, 70, 21), 2) == 308_700


def test_saved_and_loaded(tmp_path):
    inputs = {str(number): keras.Input((6,), name=str(number)) for number in range(2)}
    fused = LocallyConnectedFusion(2, start=1.0, activation="relu")(list(inputs.values()))
    model = keras.Model(inputs, fused)
    values = dict(zip(inputs, branches(2, 3, 6, dtype=np.float32), strict=True))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(model(values), again(values))


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ({"kernel_size": 4}, None, "kernel_size must be one of"),
        ({"kernel_size": 2, "conditioned": True}, None, "kernel_size must be 1"),
        ({}, [(None, 4)], "two branches or more"),
        ({}, [(None, 4), (None, 5)], "of one shape"),
        ({}, [(None, None, 4, 2)] * 2, "fixed input size"),
        ({"kernel_size": 2}, [(None, 3, 3, 2)] * 2, "needs features"),
    ],
)
def test_what_cannot_be_fused(options, shapes, message):
    with pytest.raises(ValueError, match=message):
        LocallyConnectedFusion(**options).build(shapes)


def test_global_contrast_normalization():
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    images[3] = 77.0
    result = np.array(GlobalContrastNormalization()(images))
    flat = images.reshape(4, -1).astype(np.float64)
    centred = flat - flat.mean(1, keepdims=True)
    expected = 55 * centred[:3] / np.linalg.norm(centred[:3], axis=1, keepdims=True)
    np.testing.assert_allclose(result[:3].reshape(3, -1), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(result[:3].reshape(3, -1), axis=1), 55, rtol=1e-5)
    # An image without contrast has nothing to scale.
    assert np.isfinite(result[3]).all()
    assert np.abs(result[3]).max() < 1e-3
