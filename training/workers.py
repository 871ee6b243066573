"""What the processes of a run must agree on, beside the gradients."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from training.strategy import worker_index

LOST_WORKER = 75
"""Exit code when another worker is gone: the run can be resumed (EX_TEMPFAIL)."""

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
)
"""What a collective raises when a worker is gone."""


class Workers:
    """The processes that take each step together; with a single one every exchange is free.

    Every worker must call the same exchanges in the same order.

    Attributes:
        count: number of processes.
        index: which of them this is; 0 is the chief, which alone writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        multiple = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._strategy = strategy
        # A call of `strategy.gather` would trace a new function each time.
        self._all_gather = tf.function(self._gathered, reduce_retracing=True)
        self.index = worker_index(strategy) if multiple else 0
        self.count = len(strategy.cluster_resolver.cluster_spec().as_dict()["worker"]) if multiple else 1

    @property
    def chief(self) -> bool:
        """Whether this process writes the run."""
        return self.index == 0

    def gather(self, numbers: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the numbers of all workers one after another, as float64."""
        own = np.asarray(numbers, np.float64)
        if self.count == 1:
            return own
        strategy = self._strategy
        local = strategy.num_replicas_in_sync // self.count

        def first_of_worker(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % local == 0
            return tf.constant(own if first else own[:0])

        values = self._all_gather(strategy.experimental_distribute_values_from_function(first_of_worker))
        return strategy.experimental_local_results(values)[0].numpy()

    def _gathered(self, values: tf.Tensor) -> tf.Tensor:
        def gather(own: tf.Tensor) -> tf.Tensor:
            # The argument of a graph has no device yet, and a collective wants to know one.
            return tf.distribute.get_replica_context().all_gather(tf.identity(own), axis=0)

        return self._strategy.run(gather, args=(values,))

    def share(self, value: Any = None) -> Any:
        """Return the chief's JSON value on every worker; the value of the others is not looked at."""
        if self.count == 1:
            return value
        text = json.dumps(value).encode() if self.chief else b""
        return json.loads(self.gather(np.frombuffer(text, np.uint8)).astype(np.uint8).tobytes())

    def leave(self, error: Exception) -> NoReturn:
        """End this process after another worker was lost: its collectives cannot be used again."""
        lines = [line.strip() for line in str(error).splitlines() if "aborted" in line or "unhealthy" in line]
        reason = lines[0] if lines else f"{type(error).__name__}: {str(error).strip()}"
        print(
            f"error: worker {self.index}: lost contact with another worker. Restart all workers with the same command "
            f"to resume from the last checkpoint. (TensorFlow says: {reason[:300]})",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        # An orderly exit would wait for the lost worker.
        os._exit(LOST_WORKER)
