"""One device and several take the same MMC-Net step: loss, weights, moving statistics, dropout included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.method import Spec, load_method

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


def train(devices, sizes, dtype):
    """Return losses and all weights after a joint step on a batch of each size, split over `devices`."""
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce())
    keras.utils.set_random_seed(0)
    recipe = MMC_NET.recipe("tiny")
    # No recipe has a float64 policy; here it settles ties and rounding.
    object.__setattr__(recipe, "precision", dtype)
    with strategy.scope():
        model = MMC_NET.build(recipe, SPEC)
        MMC_NET.compile(model, recipe, MMC_NET.stages(recipe)[2])

    def step(inputs, targets):
        return strategy.run(model.train_step, args=((inputs, targets),))

    step, losses = tf.function(step, autograph=False), []
    for seed, size in enumerate(sizes):
        logs = step(*share(strategy, rows(size, seed, dtype), len(devices)))
        losses.append([float(loss) for loss in strategy.experimental_local_results(logs["loss"])])
    return np.array(losses), {weight.path: weight.numpy() for weight in model.weights}


@pytest.mark.parametrize(
    ("devices", "sizes", "dtype", "tolerance"),
    # Uneven; and fewer rows than devices, so that one has none.
    [(2, [11], "float32", 1e-5), (4, [3], "float64", 1e-9)],
)
def test_devices_agree(logical_devices, devices, sizes, dtype, tolerance):
    losses, weights = train(logical_devices[:1], sizes, dtype)
    shared_losses, shared = train(logical_devices[:devices], sizes, dtype)
    # Every replica reports the loss of the global batch.
    np.testing.assert_allclose(shared_losses, np.repeat(losses, devices, axis=1), rtol=tolerance)
    for path, value in weights.items():
        # The gradient of a bias before a BatchNormalization is zero but for rounding: it has no scale of its own.
        scale = max(np.abs(value).max(), 0.1)
        np.testing.assert_allclose(shared[path], value, rtol=tolerance, atol=tolerance * scale, err_msg=path)
