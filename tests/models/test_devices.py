"""One device and several take the same MMC-Net step: loss, weights, moving statistics, dropout included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.method import Spec, load_method

MMC_NET = load_method("mmc_net")
SPEC = Spec(inputs={"image": (12,), "text": (7,)}, classes=("a", "b", "c"))


def rows(n, seed):
    rng = np.random.default_rng(seed)
    inputs = {"image": rng.normal(size=(n, 12)).astype("f4"), "text": rng.normal(size=(n, 7)).astype("f4")}
    return inputs, {"image_id": np.arange(n) // 2, "label": rng.integers(3, size=n)}


def train(devices, sizes, dtype):
    """Return losses and all weights after a joint step on a batch of each size, split over `devices`."""
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce())
    keras.utils.set_random_seed(0)
    floats = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        with strategy.scope():
            recipe = MMC_NET.recipe("tiny")
            # float64 settles ties and rounding; recipes have no such policy, so the floats are set here.
            object.__setattr__(recipe, "precision", dtype)
            model = MMC_NET.build(recipe, SPEC)
            MMC_NET.compile(model, recipe, MMC_NET.stages(recipe)[2])
        step = tf.function(lambda inputs, targets: strategy.run(model.train_step, args=((inputs, targets),)), autograph=False)
        losses = []
        for seed, size in enumerate(sizes):
            share = -(-size // len(devices))
            batch = rows(size, seed)
            cut = [
                tf.nest.map_structure(lambda x, r=r: tf.constant(x[r * share : (r + 1) * share]), batch)
                for r in range(len(devices))
            ]
            shares = _per_replica(strategy, cut) if len(devices) > 1 else cut[0]
            logs = step(*shares)
            losses.append(float(strategy.experimental_local_results(logs["loss"])[0]))
    finally:
        keras.config.set_floatx(floats)
    return np.array(losses), {weight.path: weight.numpy() for weight in model.weights}


def _per_replica(strategy, cut):
    def value(*path):
        def pick(context):
            item = cut[context.replica_id_in_sync_group]
            for key in path:
                item = item[key]
            return item

        return strategy.experimental_distribute_values_from_function(pick)

    return tuple({name: value(i, name) for name in part} for i, part in enumerate(cut[0]))


@pytest.mark.parametrize(
    ("devices", "dtype", "tolerance"), [(2, "float64", 1e-9), (4, "float64", 1e-9), (4, "float32", 1e-5)]
)
def test_devices_agree(logical_devices, devices, dtype, tolerance):
    sizes = [11, 3]  # uneven, and fewer rows than four devices
    losses, weights = train(logical_devices[:1], sizes, dtype)
    shared_losses, shared = train(logical_devices[:devices], sizes, dtype)
    np.testing.assert_allclose(shared_losses, losses, rtol=tolerance)
    for path, value in weights.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(shared[path], value, rtol=tolerance, atol=tolerance * scale, err_msg=path)
