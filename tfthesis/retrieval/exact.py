"""Exact search: one matrix product and `top_k`, the default and the oracle of the tests."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfthesis.method import Gallery
from tfthesis.retrieval.neighbours import Neighbours, check_gallery

# The processor kernels multiply whole panels of columns and the remainder by another path, whose rounding
# differs; in a padded matrix equal vectors get bit-equal scores and ties are decided by the row alone.
COLUMN_MULTIPLE = 64


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
