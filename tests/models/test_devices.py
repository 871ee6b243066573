"""One device and several take the same MMC-Net step: loss, gradients, weights, moving statistics, dropout included."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec

MMC_NET = load_method("mmc_net")
SPEC = Spec(inputs={"image": (12,), "text": (7,)}, classes=("a", "b", "c"))


def rows(n, seed, dtype):
    rng = np.random.default_rng(seed)
    inputs = {"image": rng.normal(size=(n, 12)).astype(dtype), "text": rng.normal(size=(n, 7)).astype(dtype)}
    return inputs, {"image_id": np.arange(n) // 2, "label": rng.integers(3, size=n)}


def share(strategy, batch, replicas):
    """Return a batch whose rows are split over the replicas in order, the last ones getting fewer or none."""
    if replicas == 1:
        return batch
    size = -(-len(batch[1]["image_id"]) // replicas)

    def cut(value):
        parts = [tf.constant(value[r * size : (r + 1) * size]) for r in range(replicas)]
        return strategy.experimental_distribute_values_from_function(lambda c: parts[c.replica_id_in_sync_group])

    return tuple({name: cut(value) for name, value in part.items()} for part in batch)


def build(devices, dtype):
    """Return a strategy and a model for the joint stage, no weight of which is at its symmetric start."""
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce())
    keras.utils.set_random_seed(0)
    recipe = MMC_NET.recipe("tiny")
    # No recipe has a float64 policy; here it settles ties and rounding.
    object.__setattr__(recipe, "precision", dtype)
    with strategy.scope():
        model = MMC_NET.build(recipe, SPEC)
        MMC_NET.compile(model, recipe, MMC_NET.stages(recipe)[2])
    rng = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + rng.normal(scale=0.1, size=weight.shape))
    return strategy, model


@functools.cache
def step(devices, size):
    """Return losses, gradients and all weights of one float64 step on a batch of `size` rows, split over `devices`."""
    strategy, model = build(devices, "float64")
    before = {weight.path: weight.numpy() for weight in model.trainable_variables}
    # Not compiled: a graph of four replicas takes longer to build than many steps.
    logs = strategy.run(model.train_step, args=(share(strategy, rows(size, 0, "float64"), len(devices)),))
    losses = [float(loss) for loss in strategy.experimental_local_results(logs["loss"])]
    return losses, gradients(model, before), {weight.path: weight.numpy() for weight in model.weights}


def gradients(model, before):
    """Return the gradients of the first step, whose momenta are -rate * (gradient + decay * weight)."""
    optimizer, found = model.optimizer, {}
    multipliers = zip(optimizer._rates, optimizer._decays, strict=True)
    trained = zip(model.trainable_variables, optimizer.momentums, multipliers, strict=True)
    for variable, momentum, (rate, decay) in trained:
        rate *= optimizer.learning_rate.numpy().astype("float64")
        found[variable.path] = -momentum.numpy() / rate - decay * before[variable.path]
    return found


def same(shared, alone, tolerance, smallest):
    """Compare arrays by path, relative to the largest component of each, or to `smallest`."""
    assert set(shared) == set(alone)
    for path, value in alone.items():
        # The gradient of a bias before a BatchNormalization is zero but for rounding: it has no scale of its own.
        scale = max(np.abs(value).max(), smallest)
        np.testing.assert_allclose(shared[path], value, rtol=tolerance, atol=tolerance * scale, err_msg=path)


@pytest.fixture
def float64():
    """Computes everything in float64, also what no recipe gives a precision: metrics and reshaped tensors."""
    policy, precision = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(precision)
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    ("devices", "size"),
    # Full, uneven, and fewer rows than devices, so that some have none.
    [(2, 12), (2, 11), (2, 1), (4, 12), (4, 11), (4, 3)],
)
def test_devices_agree_on_loss_gradients_weights_and_statistics(logical_devices, float64, devices, size):
    losses, expected_gradients, expected_weights = step(tuple(logical_devices[:1]), size)
    shared_losses, shared_gradients, shared_weights = step(tuple(logical_devices[:devices]), size)
    # Every replica reports the loss of the global batch.
    np.testing.assert_allclose(shared_losses, losses * devices, rtol=1e-9)
    assert np.abs(expected_gradients["image_fc4_norm/beta"]).max() > 1e-3
    same(shared_gradients, expected_gradients, 1e-9, smallest=1e-3)
    assert sum("moving" in path for path in expected_weights) == 20
    same(shared_weights, expected_weights, 1e-9, smallest=1e-3)


def test_devices_agree_after_two_compiled_float32_steps(logical_devices):
    results = []
    for devices in (1, 2):
        strategy, model = build(logical_devices[:devices], "float32")
        compiled = tf.function(
            lambda *batch, run=strategy.run, model=model: run(model.train_step, args=(batch,)), autograph=False
        )
        losses = [compiled(*share(strategy, rows(11, seed, "float32"), devices))["loss"] for seed in range(2)]
        losses = [[float(each) for each in strategy.experimental_local_results(loss)] for loss in losses]
        results.append((np.array(losses), {weight.path: weight.numpy() for weight in model.weights}))
    (losses, weights), (shared_losses, shared_weights) = results
    np.testing.assert_allclose(shared_losses, np.repeat(losses, 2, axis=1), rtol=1e-5)
    same(shared_weights, weights, 1e-5, smallest=0.1)
