"""The batches of an epoch: their order, their split over replicas, and the time spent waiting for them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.method import Data


def epoch_order(seed: int, stage: int, epoch: int, rows: int) -> np.ndarray:
    """Return the order in which an epoch visits its rows: a function of its arguments alone."""
    return np.random.default_rng((seed, stage, epoch)).permutation(rows)


def global_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the rows of each global batch; the last one may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def shares(batch: np.ndarray, replicas: int) -> list[np.ndarray]:
    """Return the rows of each replica: equal contiguous pieces, the last ones smaller or empty."""
    size = -(-len(batch) // replicas)
    return [batch[i * size : (i + 1) * size] for i in range(replicas)]


@dataclasses.dataclass
class Feeder:
    """Feeds the replicas of a strategy.

    Attributes:
        data: where batches come from.
        strategy: whose replicas they are for.
        last_wait: seconds spent waiting for the latest batch.
        waited: seconds spent waiting since the feeder was made.
    """

    data: Data
    strategy: tf.distribute.Strategy
    last_wait: float = 0.0
    waited: float = 0.0

    def dataset(self, split: str, batches: Sequence[np.ndarray], key: tuple[int, int]) -> Any:
        """Return the distributed dataset of global batches; it repeats, so that no step asks whether it has ended."""
        replicas = self.strategy.num_replicas_in_sync

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * local
            mine = [piece for batch in batches for piece in shares(batch, replicas)[first : first + local]]
            return self.data.batches(split, mine, key).repeat().prefetch(2 * local)

        return self.strategy.distribute_datasets_from_function(pipeline, self._options(split, batches, key))

    def iterate(self, dataset: Any, count: int) -> Iterator[Any]:
        """Yield the first `count` global batches and measure the time that each one took to come."""
        iterator = iter(dataset)
        for _ in range(count):
            start = time.perf_counter()
            batch = next(iterator)
            self.last_wait = time.perf_counter() - start
            self.waited += self.last_wait
            yield batch

    def _options(
        self, split: str, batches: Sequence[np.ndarray], key: tuple[int, int]
    ) -> tf.distribute.InputOptions | None:
        """Return options that keep batches with strings, which accelerators cannot hold, in the machine's memory."""
        if self.strategy.num_replicas_in_sync == 1:
            return None
        spec = self.data.batches(split, batches[:1], key).element_spec
        if all(tensor.dtype != tf.string for tensor in tf.nest.flatten(spec)):
            return None
        return tf.distribute.InputOptions(experimental_fetch_to_device=False)
