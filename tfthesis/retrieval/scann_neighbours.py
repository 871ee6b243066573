"""Approximate search with ScaNN: a k-means tree, anisotropic product quantisation and exact rescoring.

Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", ICML 2020. An export
of this kind needs a server that has ScaNN's ops.
"""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from tfthesis.method import Gallery
from tfthesis.retrieval.measure import found_rows, median_seconds, recall
from tfthesis.retrieval.neighbours import Choice, Neighbours, check_gallery

# Below this size the exact search takes a fraction of a millisecond.
MIN_SIZE = 1000
# ScaNN ends the whole process on vectors whose squared norm overflows.
MAX_NORM = 1e12
RECALL_AT = 10
RECALL_TARGET = 0.95
# Leaves are chosen on one half of the sample queries, so the other half needs some room.
RECALL_MARGIN = 0.01
SPEED_TARGET = 3.0
BATCHES = (1, 32)
SAMPLE = 512
# Candidates that are rescored exactly, per query.
RESCORED = 200
# Vectors that train the tree and the quantiser; more for large trees, so that each leaf sees some fifty.
TRAINING_SAMPLE = 20_000
# Shares of the tree's leaves that are tried, in order.
LEAF_SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 1.0)


class ScannNeighbours(Neighbours):
    """Searches the leaves of a tree that lie nearest to the query.

    Among the items found, equal scores are in the order of their rows, as in the exact search.

    Attributes:
        leaves: leaves of the tree.
        leaves_to_search: leaves visited for each query; more where `k` needs them.
    """

    kind = "scann"

    def __init__(self, gallery: Gallery):
        super().__init__(gallery)
        vectors = check_gallery(gallery)
        self.leaves = max(1, round(math.sqrt(self.size)))
        self.leaves_to_search = self.leaves
        builder = scann_ops.builder(vectors, RECALL_AT, "dot_product")
        sample = min(self.size, max(TRAINING_SAMPLE, 50 * self.leaves))
        builder = builder.tree(self.leaves, self.leaves, training_sample_size=sample)
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2, training_sample_size=sample)
        searcher = builder.reorder(RESCORED).build()
        self._state = searcher.serialize_to_module()
        tf.raw_ops.DestroyResourceOp(resource=searcher.searcher_handle)
        # Without a name of its own the index is shared by the name of a graph node, which is the same for every
        # gallery of an export: a search then answers from another gallery's vectors.
        self._shared_name = f"scann-{uuid.uuid4()}"
        sizes = np.bincount(self._state.datapoint_to_token.numpy(), minlength=self.leaves)
        self._smallest_leaves = np.cumsum(np.sort(sizes))

    def _searcher(self) -> scann_ops.ScannSearcher:
        """Return the searcher, made from the variables where it does not exist yet: at the first call."""
        state = self._state
        handle = scann_ops.tensors_to_scann(
            state.dataset, state.scann_config, state.serialized_partitioner, state.datapoint_to_token,
            state.ah_codebook, state.hashed_dataset, state.int8_dataset, state.int8_multipliers, state.dp_norms,
            shared_name=self._shared_name,
        )  # fmt: skip
        return scann_ops.ScannSearcher(handle)

    def rows(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the rows and exact scores of the best `k` items in the leaves searched."""
        # ScaNN fills up with row 0 where the leaves hold fewer than k items, so visit as many as surely hold k.
        enough = int(np.searchsorted(self._smallest_leaves, k)) + 1
        # It refuses an empty batch.
        count = tf.shape(queries)[0]
        padded = tf.pad(queries, [[0, tf.cast(count == 0, tf.int32)], [0, 0]])
        rows, scores = self._searcher().search_batched(
            padded,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=max(RESCORED, k),
            leaves_to_search=max(self.leaves_to_search, enough),
        )
        ascending, order = tf.math.top_k(-tf.ensure_shape(rows[:count], [None, k]), k)
        scores, best = tf.math.top_k(tf.gather(scores[:count], order, batch_dims=1), k)
        return tf.gather(-ascending, best, batch_dims=1), scores

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the vectors `[..., D]` of gallery rows `[...]`."""
        return tf.gather(tf.reshape(self._state.dataset, [-1, self.dimension]), rows)

    def tune(self, exact: Neighbours, samples: Sequence[np.ndarray]) -> float:
        """Set `leaves_to_search` to the smallest number tried that reaches the recall wished.

        Args:
            exact: the exact search over the same gallery.
            samples: sets of queries `[M, D]`, `M >= 2`. Every other query of each chooses the leaves, the rest
                measure the recall.

        Returns:
            The lowest recall@10 over the sets.
        """
        truth = [found_rows(exact, queries, RECALL_AT) for queries in samples]

        def lowest(part: slice) -> float:
            return min(
                recall(found_rows(self, queries[part], RECALL_AT), true[part])
                for queries, true in zip(samples, truth, strict=True)
            )

        for share in LEAF_SHARES:
            self.leaves_to_search = math.ceil(share * self.leaves)
            if lowest(slice(0, None, 2)) >= RECALL_TARGET + RECALL_MARGIN:
                break
        return lowest(slice(1, None, 2))


def speed_up(approximate: Neighbours, exact: Neighbours, queries: np.ndarray) -> dict[int, float]:
    """Return how many times faster `approximate` answers a batch, for each batch size of `BATCHES`."""
    ratios = {}
    for size in BATCHES:
        batch = tf.constant(np.resize(queries, (size, queries.shape[1])))
        searches = [tf.function(kind.search).get_concrete_function(batch, RECALL_AT) for kind in (approximate, exact)]
        fast, slow = median_seconds([functools.partial(_answer, search, batch) for search in searches])
        ratios[size] = slow / fast
    return ratios


def _answer(search: Callable[[tf.Tensor], dict[str, tf.Tensor]], batch: tf.Tensor) -> np.ndarray:
    return search(batch)["scores"].numpy()


def sample_queries(gallery: Gallery, queries: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return up to `SAMPLE` rows of the gallery's vectors and of each set of `queries` with at least two."""
    generator = np.random.default_rng(0)
    sets = [np.asarray(rows, np.float32) for rows in (gallery.vectors, *queries) if len(rows) > 1]
    return [rows[generator.permutation(len(rows))[:SAMPLE]] for rows in sets]


def attempt(
    gallery: Gallery, exact: Neighbours, queries: Sequence[np.ndarray]
) -> tuple[ScannNeighbours | None, Choice]:
    """Return a ScaNN search that is worth its error, or None, and why; see `build_neighbours`."""
    if exact.size < MIN_SIZE:
        return None, Choice(f"{exact.size} items are fewer than {MIN_SIZE}; the exact search is fast there")
    longest = float(np.linalg.norm(np.asarray(gallery.vectors, np.float64), axis=1).max())
    if longest > MAX_NORM:
        return None, Choice(f"a vector has norm {longest:.3g}, ScaNN can take {MAX_NORM:g}")
    approximate = ScannNeighbours(gallery)
    samples = sample_queries(gallery, queries)
    reached = approximate.tune(exact, samples)
    figures: dict[str, Any] = {f"recall_at_{RECALL_AT}": round(reached, 4), "leaves": approximate.leaves}
    figures["leaves_searched"] = approximate.leaves_to_search
    found = f"recall@{RECALL_AT} {reached:.3f}, {approximate.leaves_to_search} of {approximate.leaves} leaves searched"
    if reached < RECALL_TARGET:
        return None, Choice(f"{found}, wished is {RECALL_TARGET}", figures)
    ratios = speed_up(approximate, exact, samples[0])
    figures["speed_up"] = {str(size): round(ratio, 2) for size, ratio in ratios.items()}
    found += ", " + ", ".join(f"{ratio:.1f} times as fast in batches of {size}" for size, ratio in ratios.items())
    if min(ratios.values()) < SPEED_TARGET:
        return None, Choice(f"{found}, wished is {SPEED_TARGET:g}", figures)
    return approximate, Choice(found, figures)
