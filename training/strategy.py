"""The devices that share each batch: one, all of a machine, or those of several machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfthesis.errors import UserError, closest
from training.command_line import STRATEGIES
from training.rendezvous import Cluster, meet

if TYPE_CHECKING:
    import tensorflow as tf


def make_strategy(name: str, devices: int | None = None, *, wait_seconds: float = 60.0) -> tf.distribute.Strategy:
    """Return the strategy `name`; call it before anything else uses TensorFlow.

    Args:
        name: "one" (the first GPU, else the CPU), "mirrored" (devices of this machine) or "multi_worker"
            (the processes that `TF_CONFIG` names).
        devices: how many devices "mirrored" uses; all unless given. Without a GPU the CPU is split into so
            many logical devices, which is of use in tests only.
        wait_seconds: how long "multi_worker" waits for the other workers.

    Raises:
        UserError: the name is unknown, there are fewer devices, or a worker does not answer.
    """
    if name not in STRATEGIES:
        raise closest(name, STRATEGIES, "strategy")
    if devices is not None and (name != "mirrored" or devices < 1):
        raise UserError(f"devices: expected a number from 1 with strategy mirrored, got {devices} with {name}")
    if name == "multi_worker":
        # Without this TensorFlow waits for an absent worker for ever, and SIGTERM does not end it.
        meet(Cluster.from_environment(), wait_seconds)
    import tensorflow as tf

    if name == "one":
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy() if name == "multi_worker" else _mirrored(devices)


def _mirrored(devices: int | None) -> tf.distribute.Strategy:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if devices is not None and devices > len(gpus):
            raise UserError(f"devices: {devices} GPUs were asked for, and this machine has {len(gpus)}")
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(devices or len(gpus))])
    count = devices or 1
    try:
        split = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], split)
    except RuntimeError:  # TensorFlow already runs; what it has may do
        found = len(tf.config.list_logical_devices("CPU"))
        if found < count:
            raise UserError(
                f"devices: {count} were asked for, but TensorFlow already runs with {found}; make the strategy first"
            ) from None
    # The default collectives fail on logical CPUs as soon as a step makes a variable or is repeated in a graph.
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], tf.distribute.HierarchicalCopyAllReduce())


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes the run: the first worker, or the only one."""
    return worker_index(strategy) == 0


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Return which of the workers this process is; 0 when it is the only one."""
    resolver = strategy.cluster_resolver
    return resolver.task_id or 0 if resolver is not None else 0
