"""Search by adaptive late fusion: each query weighs its scores by the areas below their curves, in the graph."""

from __future__ import annotations

import tensorflow as tf

from tfthesis.metrics.adaptive_fusion import EPSILON
from tfthesis.retrieval.neighbours import Neighbours

#: Candidates of the approximate search that are scored anew.
CANDIDATES = 100


def adaptive_search(index: Neighbours, queries: tf.Tensor, widths: tuple[int, ...], k: int) -> dict[str, tf.Tensor]:
    """Return the `k` items with the largest adaptively fused score over the whole gallery.

    Args:
        index: an index that can sum positive similarities (`exact`).
        queries: `[B, D]`, joined embeddings of parts of `widths`; the gallery's are joined alike.
        k: items a query.

    Source: Liu 2018, Eq 6.9 to 6.11.
    """
    queries = index.checked(queries)
    weights = _weights(index.positive_areas(queries, widths))
    return index.search(_weighted(queries, weights, widths), k)


def rescored_search(index: Neighbours, queries: tf.Tensor, widths: tuple[int, ...], k: int) -> dict[str, tf.Tensor]:
    """Return the best `k` of the `CANDIDATES` items with the largest average score, by scores fused adaptively.

    Eq 6.9 sums over all items, an approximate search sees few of them: here the areas are those below the curves of the
    candidates, so that answers differ from those of `adaptive_search`.
    """
    queries = index.checked(queries)
    rows, _ = index.rows(queries, min(CANDIDATES, index.size))
    parts = zip(tf.split(queries, widths, axis=1), tf.split(index.vectors(rows), widths, axis=2), strict=True)
    scores = tf.stack([tf.einsum("bd,bcd->bc", query, candidate) for query, candidate in parts], axis=2)
    weights = _weights(tf.reduce_sum(tf.nn.relu(scores), axis=1))
    best = tf.math.top_k(tf.einsum("bcs,bs->bc", scores, weights), min(k, index.size, CANDIDATES))
    return index.named(tf.gather(rows, best.indices, batch_dims=1), best.values)


def _weights(areas: tf.Tensor) -> tf.Tensor:
    """Return weights `[B, S]` of areas `[B, S]`; joined parts are the S-th of a cosine, so their sum is S."""
    inverse = 1.0 / (areas + EPSILON)
    return inverse * tf.cast(tf.shape(areas)[1], areas.dtype) / tf.reduce_sum(inverse, axis=1, keepdims=True)


def _weighted(queries: tf.Tensor, weights: tf.Tensor, widths: tuple[int, ...]) -> tf.Tensor:
    parts = zip(tf.split(queries, widths, axis=1), tf.unstack(weights, num=len(widths), axis=1), strict=True)
    return tf.concat([part * weight[:, None] for part, weight in parts], axis=1)
