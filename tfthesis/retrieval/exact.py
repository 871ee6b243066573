"""Exact search: one matrix product and `top_k`, the default and the oracle of the tests."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfthesis.method import Gallery
from tfthesis.retrieval.neighbours import Neighbours, check_gallery

# The processor kernels multiply whole panels of columns and the remainder by another path, whose rounding
# differs; in a padded matrix equal vectors get bit-equal scores and ties are decided by the row alone.
COLUMN_MULTIPLE = 64
# Numbers of the vectors that are held at a time while areas are summed: 32 MiB.
AREA_NUMBERS = 1 << 23


class ExactNeighbours(Neighbours):
    """Compares each query with every vector; needs `4 B N` bytes for the scores of `B` queries."""

    kind = "exact"

    def __init__(self, gallery: Gallery):
        super().__init__(gallery)
        vectors = check_gallery(gallery)
        columns = -(-self.size // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
        # [D, N]: the product with [N, D] transposed is many times slower for a few queries.
        matrix = np.zeros((self.dimension, columns), np.float32)
        matrix[:, : self.size] = vectors.T
        self._matrix = tf.Variable(matrix, trainable=False)

    def rows(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the rows and scores of the `k` largest inner products; `top_k` puts the lower row first."""
        scores, rows = tf.math.top_k(tf.matmul(queries, self._matrix)[:, : self.size], k)
        return rows, scores

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the vectors `[..., D]` of gallery rows `[...]`."""
        flat = tf.transpose(tf.gather(self._matrix, tf.reshape(rows, [-1]), axis=1))
        return tf.reshape(flat, tf.concat([tf.shape(rows), [self.dimension]], axis=0))

    def positive_areas(self, queries: tf.Tensor, widths: tuple[int, ...]) -> tf.Tensor:
        """Return the summed positive inner products `[B, S]` of each query with all vectors, part by part (Eq 6.9).

        Vectors are taken block by block, so that memory does not grow with the gallery.

        Args:
            queries: `[B, D]`, joined of S parts.
            widths: of the parts, with the sum D.
        """
        parts = tf.split(queries, widths, axis=1)
        total = self._matrix.shape[1]
        block = max(1, AREA_NUMBERS // self.dimension)

        def add(areas: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
            columns = self._matrix[:, start : start + block]
            products = zip(parts, tf.split(columns, widths, axis=0), strict=True)
            sums = [tf.reduce_sum(tf.nn.relu(tf.matmul(part, block)), axis=1) for part, block in products]
            return areas + tf.stack(sums, axis=1)

        first = tf.zeros([tf.shape(queries)[0], len(widths)])
        return tf.foldl(add, tf.range(0, total, block), initializer=first)
