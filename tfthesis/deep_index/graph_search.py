"""The search of DeepIndex as graph code, which an export holds: fused or expanded as its rules say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.deep_index.searching import Searcher
from tfthesis.inverted_index.graph import GraphAnswers, GraphIndex, fused
from tfthesis.retrieval.neighbours import Choice


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
        self._indexes = [GraphIndex(index) for index in searcher.indexes]
        self._trackables = [index.trackable for index in self._indexes]
        # One behind the last, for places without an image.
        self._thumbnails = _variable(np.array([*thumbnails, b""], object)) if thumbnails else None
        self._features = [_variable(part) for part in searcher.features]

    def search(self, features: Sequence[tf.Tensor], n: int) -> dict[str, tf.Tensor]:
        """Return the `n` best images for queries of prepared features `[B, P, M]` for each axis, best first.

        Returns:
            "ids" and "payload", strings `[B, n]`, the same, and "scores" float32 `[B, n]`; behind the last image that
            shares a cell with the query ids are empty and scores 0. With thumbnails "thumbnail_bytes" `[B, n]`, JPEG.
        """
        answers = self._answers(features, min(n, self.size))
        names = self._indexes[0].names(answers.rows)
        answer = {"ids": names, "payload": names, "scores": answers.scores}
        if self._thumbnails is not None:
            places = tf.where(answers.rows >= 0, answers.rows, self.size)
            answer["thumbnail_bytes"] = tf.gather(self._thumbnails, places)
        return answer

    def words(self, features: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the nearest word of every patch on each axis, int32 `[B, P, axes]`."""
        found = []
        for axis, part in enumerate(features):
            index, own = (self._indexes[axis], 0) if self._rules.late_fusion else (self._indexes[0], axis)
            found.append(index.words(own, part, 1))
        return tf.concat(found, axis=2)

    def describe(self) -> dict[str, Any]:
        """Return counts and sizes as JSON values."""
        described = [index.describe() for index in self.searcher.indexes]
        return {"kind": self.kind, "size": self.size, "reason": self.choice.reason, "indexes": described}

    def _answers(self, features: Sequence[tf.Tensor], n: int) -> GraphAnswers:
        if self._rules.late_fusion:
            parts = zip(self._indexes, features, strict=True)
            # Of all images, as in memory.
            return fused([self._asked(index, [part], self.size) for index, part in parts], self.size, n)
        (index,) = self._indexes
        if self._rules.expansion:
            rows = self._asked(index, features, min(self._rules.expansion, self.size)).rows
            features = [self._expanded(*pair, rows) for pair in zip(features, self._features, strict=True)]
        return self._asked(index, features, n)

    def _asked(self, index: GraphIndex, features: Sequence[tf.Tensor], n: int) -> GraphAnswers:
        scoring = self._rules.scoring
        signatures = [part[:, self._rules.whole] for part in features] if scoring.alpha else []
        return index.search(features, n, scoring, signatures)

    def _expanded(self, queries: tf.Tensor, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Return queries `[B, P, M]` averaged with images `[N, P, M]` of their rows `[B, r]`, -1 for none; unit length.

        A query without images stays as it is.
        """
        known = tf.cast(rows >= 0, tf.float32)
        sums = tf.einsum("br,brpm->bpm", known, tf.gather(images, tf.maximum(rows, 0)))
        count = tf.reduce_sum(known, axis=1)[:, None, None]
        mean = (queries + sums) / (1 + count)
        scaled = tf.math.divide_no_nan(mean, tf.norm(mean, axis=-1, keepdims=True))
        return tf.where(count > 0, scaled, queries)


def _variable(array: np.ndarray) -> tf.Variable:
    return tf.Variable(tf.constant(array), trainable=False)
