"""One step on a global batch, the same for every strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def make_step(
    run: Callable[[Any], dict[str, tf.Tensor]], strategy: tf.distribute.Strategy, spec: Any, xla: bool
) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function that takes one step on a distributed batch: logs, and how many replicas found them not finite.

    One signature with open batch sizes serves full and uneven batches, so that a run resumed at an uneven
    batch computes with the same graph as one that was never stopped.

    Args:
        run: the model's `train_step` or `test_step`, which every strategy runs alike.
        strategy: the devices.
        spec: of a distributed batch.
        xla: compile with XLA; for one device only.
    """

    def replica_step(data: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        logs = {name: tf.cast(tf.reshape(value, []), tf.float32) for name, value in run(data).items()}
        bad = 1.0 - tf.cast(tf.reduce_all(tf.math.is_finite([*logs.values()])), tf.float32)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            bad = context.all_reduce("SUM", bad)
        return logs, bad

    @tf.function(input_signature=[spec], jit_compile=xla or None, autograph=False)
    def step(batch: Any) -> tuple[Any, Any]:
        return strategy.run(replica_step, args=(batch,))

    return step
