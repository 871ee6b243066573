"""The search of an inverted index as graph code: its arrays are variables of the export that holds it.

It answers as `tfthesis.inverted_index.search` does, sums in float64 in the same order, scores in float32, images with
equal scores in the order of their rows; logarithms and powers of the idf are computed beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.deep_index.searching import Rules, Searcher
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.search import idf
from tfthesis.retrieval.neighbours import Choice

# Images whose signatures are compared before others are ruled out, and at a time.
_FIRST, _BLOCK = 512, 4096
# Scores of images that share no cell with the query; all others have 0 or more.
_UNMET = -1.0


class GraphIndex(tf.Module):
    """One index: `tfthesis.inverted_index.index.Index` as variables."""

    def __init__(self, index: Index, rules: Rules):
        super().__init__()
        self.size, self.axes = len(index), len(index.codebooks)
        self._alpha, self._assignments = rules.scoring.alpha, rules.scoring.assignments
        self._sizes = index.sizes
        self._words = [_variable(codebook.words.T) for codebook in index.codebooks]
        halves = [(codebook.words.astype(np.float64) ** 2).sum(1) / 2 for codebook in index.codebooks]
        self._halves = [_variable(half.astype(np.float32)) for half in halves]
        lists = index.lists
        self._keys, self._offsets = _variable(lists.keys), _variable(lists.offsets)
        self._postings = _variable(lists.postings)
        self._squared = _variable(idf(index.counts, len(index), rules.scoring.idf) ** 2)
        if self._alpha:
            self._widths = index.signatures.widths
            self._signatures = _variable(index.signatures.values)
            scales = index.signatures.scales
            self._scales = None if scales is None else _variable(scales)

    def words(self, axis: int, features: tf.Tensor, count: int) -> tf.Tensor:
        """Return the nearest words of features `[P, M]` of an axis, the nearest first, int64 `[P, count]`."""
        affinities = features @ self._words[axis] - self._halves[axis]
        return tf.cast(tf.math.top_k(affinities, count).indices, tf.int64)

    def best(self, features: Sequence[tf.Tensor], whole: int | None, n: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return rows int32 `[n]`, -1 behind the last image that matches, and scores float32 `[n]` of one query.

        Args:
            features: of the query, `[P, M]` for each axis.
            whole: place of the patch whose feature is the signature.
        """
        sums, met = self._sums(features)
        if not self._alpha:
            scores = tf.where(met, tf.cast(sums, tf.float32), _UNMET)
            return _top(scores, tf.range(self.size), n)
        roots = [_rooted(part[whole]) for part in features]
        first = min(max(_FIRST, 2 * n), self.size)
        # No weight is above 1: whatever has a lower sum than the n-th best score of some images is not among the best.
        likely = tf.math.top_k(tf.where(met, sums, _UNMET), first).indices
        known = tf.boolean_mask(likely, tf.gather(met, likely))
        sample = self._weighed(known, sums, roots)
        least = tf.cond(tf.size(sample) >= n, lambda: tf.math.top_k(sample, n).values[-1], lambda: _UNMET)
        possible = tf.where(met & (tf.cast(sums, tf.float32) >= least))[:, 0]
        rows = tf.cast(possible, tf.int32)
        return _top(self._weighed(rows, sums, roots), rows, n)

    def scores(self, features: Sequence[tf.Tensor], whole: int | None) -> tf.Tensor:
        """Return the score of every image, float32 `[N]`, below 0 where it shares no cell with the query."""
        sums, met = self._sums(features)
        if not self._alpha:
            return tf.where(met, tf.cast(sums, tf.float32), _UNMET)
        rows = tf.cast(tf.where(met)[:, 0], tf.int32)
        weighed = self._weighed(rows, sums, [_rooted(part[whole]) for part in features])
        return tf.tensor_scatter_nd_update(tf.fill([self.size], _UNMET), rows[:, None], weighed)

    def _sums(self, features: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the score of every image without signatures, float64 `[N]`, and whether it shares a cell (Eq 4.3)."""
        keys = tf.zeros([tf.shape(features[0])[0], 1], tf.int64)
        for axis, (part, size) in enumerate(zip(features, self._sizes, strict=True)):
            words = self.words(axis, part, self._assignments)
            keys = tf.reshape(keys[:, :, None] * size + words[:, None, :], [tf.shape(keys)[0], -1])
        keys, _, times = tf.unique_with_counts(tf.sort(tf.reshape(keys, [-1])), out_idx=tf.int64)
        # Of keys behind the last the place is one too many.
        places = tf.minimum(tf.searchsorted(self._keys, keys, out_type=tf.int64), self._keys.shape[0] - 1)
        known = tf.gather(self._keys, places) == keys
        places, times = tf.boolean_mask(places, known), tf.boolean_mask(times, known)
        weights = tf.cast(times, tf.float64) * tf.gather(self._squared, places)
        starts, ends = tf.gather(self._offsets, places), tf.gather(self._offsets, places + 1)
        postings = tf.gather(self._postings, tf.ragged.range(starts, ends).values)
        sums = tf.math.unsorted_segment_sum(tf.repeat(weights, ends - starts), postings, self.size)
        return sums, tf.math.unsorted_segment_sum(tf.ones_like(postings), postings, self.size) > 0

    def _weighed(self, rows: tf.Tensor, sums: tf.Tensor, roots: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the scores of images with signatures, float32 `[C]` (Eq 4.4 and 4.5)."""
        count = tf.size(rows)

        def block(start: tf.Tensor) -> tf.Tensor:
            own = rows[start : start + _BLOCK]
            values = tf.cast(tf.gather(self._signatures, own), tf.float64)
            distances = tf.zeros([tf.size(own)], tf.float64)
            for axis, part in enumerate(tf.split(values, self._widths, axis=1)):
                similarity = tf.linalg.matvec(part, tf.cast(roots[axis], tf.float64))
                if self._scales is not None:
                    similarity *= tf.cast(tf.gather(self._scales, own)[:, axis], tf.float64)
                rounded = tf.cast(tf.cast(similarity, tf.float32), tf.float64)
                distances += tf.maximum(2.0 - 2.0 * rounded, 0.0)
            scores = tf.cast(tf.gather(sums, own) * tf.exp(-self._alpha * distances), tf.float32)
            return tf.pad(scores, [[0, _BLOCK - tf.size(own)]])

        starts = tf.range(0, count, _BLOCK)
        blocks = tf.map_fn(block, starts, fn_output_signature=tf.TensorSpec([_BLOCK], tf.float32))
        return tf.reshape(blocks, [-1])[:count]


@dataclasses.dataclass(frozen=True)
class IndexedImages:
    """What a served search finds: images in an inverted index, implements `tfthesis.method.OwnSearch`.

    Attributes:
        searcher: the index in memory.
        thumbnails: JPEG of each image; empty leaves them out.
    """

    searcher: Searcher
    thumbnails: Sequence[bytes] = ()

    def neighbours(self) -> GraphSearch:
        """Return the search as graph code."""
        return GraphSearch(self.searcher, self.thumbnails)


class GraphSearch(tf.Module):
    """A `Searcher` as graph code; beside `tfthesis.retrieval.neighbours.Neighbours`, whose queries are vectors.

    Attributes:
        kind: "inverted".
        choice: why it is searched so.
        searcher: what it was made from.
    """

    kind = "inverted"

    def __init__(self, searcher: Searcher, thumbnails: Sequence[bytes] = ()):
        super().__init__()
        self.choice = Choice("the method's own search")
        self.searcher, self.size, self._rules = searcher, len(searcher), searcher.rules
        self._indexes = [GraphIndex(index, searcher.rules) for index in searcher.indexes]
        # One behind the last, for places without an image.
        self._ids = _variable(np.array([*(name.encode() for name in searcher.indexes[0].names.all()), b""], object))
        self._thumbnails = _variable(np.array([*thumbnails, b""], object)) if thumbnails else None
        self._features = [_variable(part) for part in searcher.features]

    def search(self, features: Sequence[tf.Tensor], n: int) -> dict[str, tf.Tensor]:
        """Return the `n` best images for queries of prepared features `[B, P, M]` for each axis, best first.

        Returns:
            "ids" and "payload", strings `[B, n]`, the same, and "scores" float32 `[B, n]`; behind the last image that
            shares a cell with the query ids are empty and scores 0. With thumbnails "thumbnail_bytes" `[B, n]`, JPEG.
        """
        n = min(n, self.size)
        signature = tf.TensorSpec([n], tf.int32), tf.TensorSpec([n], tf.float32)
        rows, scores = tf.map_fn(lambda query: self._rows(query, n), tuple(features), fn_output_signature=signature)
        places = tf.where(rows >= 0, rows, self.size)
        answer = {name: tf.gather(self._ids, places) for name in ("ids", "payload")}
        if self._thumbnails is not None:
            answer["thumbnail_bytes"] = tf.gather(self._thumbnails, places)
        return {**answer, "scores": scores}

    def words(self, features: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the nearest word of every patch on each axis, int32 `[B, P, axes]`."""
        found = []
        for axis, part in enumerate(features):
            index, own = (self._indexes[axis], 0) if self._rules.late_fusion else (self._indexes[0], axis)
            flat = index.words(own, tf.reshape(part, [-1, part.shape[2]]), 1)
            found.append(tf.reshape(tf.cast(flat, tf.int32), [-1, part.shape[1]]))
        return tf.stack(found, axis=2)

    def describe(self) -> dict[str, Any]:
        """Return counts and sizes as JSON values."""
        described = [index.describe() for index in self.searcher.indexes]
        return {"kind": self.kind, "size": self.size, "reason": self.choice.reason, "indexes": described}

    def _rows(self, query: Sequence[tf.Tensor], n: int) -> tuple[tf.Tensor, tf.Tensor]:
        whole = self._rules.whole
        if self._rules.late_fusion:
            parts = zip(self._indexes, query, strict=True)
            return self._fused([index.scores([part], whole) for index, part in parts], n)
        (index,) = self._indexes
        if self._rules.expansion:
            rows, _ = index.best(query, whole, min(self._rules.expansion, self.size))
            query = self._expanded(query, tf.boolean_mask(rows, rows >= 0))
        return index.best(query, whole, n)

    def _expanded(self, query: Sequence[tf.Tensor], rows: tf.Tensor) -> list[tf.Tensor]:
        """Return a query's features averaged with those of images `[r]`; a query without images as it is."""
        parts = []
        for own, features in zip(query, self._features, strict=True):
            mean = tf.reduce_mean(tf.concat([own[None], tf.gather(features, rows)], axis=0), axis=0)
            scaled = tf.math.divide_no_nan(mean, tf.norm(mean, axis=-1, keepdims=True))
            parts.append(tf.where(tf.size(rows) > 0, scaled, own))
        return parts

    def _fused(self, scores: Sequence[tf.Tensor], n: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the best by the sum of scores `[N]`, each as a share of its best."""
        total = tf.zeros([self.size], tf.float64)
        met = tf.zeros([self.size], tf.bool)
        for part in scores:
            best = tf.cast(tf.reduce_max(part), tf.float64)
            share = tf.cast(part, tf.float64) / tf.where(best > 0, best, 1.0)
            total += tf.where(part >= 0, share, 0.0)
            met |= part >= 0
        return _top(tf.where(met, tf.cast(total, tf.float32), _UNMET), tf.range(self.size), n)


def _top(scores: tf.Tensor, rows: tf.Tensor, n: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the `n` rows with the largest scores `[C]`, of equal ones the first before; -1 and 0 behind the last."""
    missing = tf.maximum(n - tf.size(scores), 0)
    scores = tf.concat([scores, tf.fill([missing], _UNMET)], axis=0)
    rows = tf.concat([rows, tf.fill([missing], -1)], axis=0)
    values, places = tf.math.top_k(scores, n)
    rows = tf.where(values >= 0, tf.gather(rows, places), -1)
    return tf.ensure_shape(rows, [n]), tf.ensure_shape(tf.maximum(values, 0.0), [n])


def _rooted(vector: tf.Tensor) -> tf.Tensor:
    """Return the root feature of a vector `[M]`; see `tfthesis.inverted_index.signatures.rooted`."""
    wide = tf.cast(vector, tf.float64)
    total = tf.reduce_sum(tf.abs(wide))
    root = tf.sqrt(tf.abs(wide) / tf.where(total > 0, total, 1.0))
    return tf.cast(tf.sign(wide) * root, tf.float32)


def _variable(array: np.ndarray) -> tf.Variable:
    return tf.Variable(tf.constant(array), trainable=False)
