"""The devices that share a global batch, as seen from one of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The replicas that take one step together; `context` is None outside `strategy.run`."""

    context: Any
    count: int

    @classmethod
    def current(cls) -> Replicas:
        """Return the replicas of the running step: a single one outside a distribution strategy."""
        context = tf.distribute.get_replica_context()
        count = context.num_replicas_in_sync if context is not None else 1
        return cls(context if count > 1 else None, count)

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows of all replicas, `[n, ...] -> [N, ...]`, in the order of the global batch.

        The gradient of each replica's rows collects what all replicas send back.
        """
        # The argument of a graph has no device yet, and the collectives of several workers want to know one.
        return rows if self.context is None else self.context.all_gather(tf.identity(rows), axis=0)

    def total(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of `value` over all replicas."""
        return value if self.context is None else self.context.all_reduce("SUM", value)

    def offset(self, rows: tf.Tensor) -> tf.Tensor:
        """Return where this replica's rows begin in the global batch, given their number."""
        if self.context is None:
            return tf.zeros([], rows.dtype)
        counts = self.context.all_gather(rows[None], axis=0)
        return tf.reduce_sum(counts[: self.context.replica_id_in_sync_group])


class DistributedFit:
    """Makes `keras.Model.fit` work under mirrored and several-worker strategies; put it first in the bases.

    Keras averages the first batch over the replicas to learn its shapes, which fails for uneven batches,
    strings and several workers, and it reduces scalar logs over an axis that they lack.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self._distribute_strategy
        if strategy is None:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = next(batches)
                break
        local = keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], data_batch)
        with strategy.scope():
            self._symbolic_build(data_batch=local)

    def vectors(self, logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return scalar logs with an axis for the reduction over workers."""
        if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}
