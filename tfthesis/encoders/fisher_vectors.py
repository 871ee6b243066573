"""Fisher vectors of texts: how the words of a text would move the parameters of a mixture of all words.

Klein, Lev, Sadeh and Wolf, CVPR 2015, after Perronnin, Sanchez and Mensink, ECCV 2010. For a text of word vectors
x_1..x_N with responsibilities T_ik, the derivatives of the log-likelihood are, for a dimension of component k,

    Gaussian:    by mu: sum_i T_ik (x_i - mu) / sigma^2      by sigma: sum_i T_ik ((x_i - mu)^2 / sigma^3 - 1 / sigma)
    Laplacian:   by m:  sum_i T_ik sign(x_i - m) / s         by s:     sum_i T_ik (|x_i - m| / s^2 - 1 / s)

Each is divided by the square root of its Fisher information, the expected square of the derivative, where a word is
taken to belong to one component: E z^2 = 1, E (z^2 - 1)^2 = 2 for a standard normal z, and E sign^2 = 1,
E (|z| - 1)^2 = 1 for a Laplacian one of scale one. Hence with N words

    Gaussian:    N pi_k / sigma^2 and 2 N pi_k / sigma^2     Laplacian:  N pi_k / s^2 for both

and with z = (x - location) / scale the parts of the Fisher vector are

    Gaussian:    sum_i T_ik z_i / sqrt(N pi_k)               sum_i T_ik (z_i^2 - 1) / sqrt(2 N pi_k)
    Laplacian:   sum_i T_ik sign(z_i) / sqrt(N pi_k)         sum_i T_ik (|z_i| - 1) / sqrt(N pi_k)

The signed square root of every number follows, then the division by the L2 norm, in which N cancels; so it is left out.
A word that is the median of a Laplacian has sign 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.hybrid_mixture import HybridMixture
from tfthesis.encoders.words import word_rows, word_table


class FisherVectors:
    """Maps UTF-8 texts `[B]` to Fisher vectors `[B, 2 K D]` float32, in the graph.

    Numbers lie by component; of each, the D of the locations come first, then the D of the scales. Unknown words are
    left out; a text of unknown words only is the zero vector.

    Args:
        words: W words.
        vectors: `[W, D]`.
        mixture: of K components in D dimensions.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, mixture: HybridMixture):
        # A word has the same responsibilities in every text.
        shares, _ = mixture.expectation(np.asarray(vectors, np.float64))
        arrays = {
            "vectors": vectors,
            "shares": shares / np.sqrt(mixture.weights),
            "location": mixture.location,
            "scale": mixture.scale,
            "laplacian": mixture.laplacian,
        }
        self._arrays = {
            name: tf.Variable(array.astype(bool if name == "laplacian" else np.float32), trainable=False, name=name)
            for name, array in arrays.items()
        }
        self._rows = word_table(words)
        self.dimension = 2 * mixture.location.size

    @property
    def variables(self) -> list[tf.Variable]:
        """What a SavedModel that calls this must track."""
        return list(self._arrays.values())

    @property
    def tables(self) -> list[Any]:
        """Tables that it must track too."""
        return [self._rows]

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Map texts `[B]` to their Fisher vectors `[B, 2 K D]`."""
        rows = word_rows(self._rows, texts)
        known = rows.flat_values >= 0
        picked = tf.boolean_mask(rows.flat_values, known)
        owner = tf.boolean_mask(rows.value_rowids(), known)
        vectors = tf.gather(self._arrays["vectors"], picked)
        shares = tf.transpose(tf.gather(self._arrays["shares"], picked))

        def component(part: tuple[tf.Tensor, ...]) -> tf.Tensor:
            terms = word_terms(vectors, *part[1:]) * part[0][:, None]
            return tf.math.unsorted_segment_sum(terms, owner, rows.nrows())

        # One component at a time: all at once would be [words of a batch, 2 K D].
        parts = (shares, *(self._arrays[name] for name in ("location", "scale", "laplacian")))
        width = self.dimension // shares.shape[0]
        sums = tf.map_fn(component, parts, fn_output_signature=tf.TensorSpec([None, width], tf.float32))
        joined = tf.reshape(tf.transpose(sums, [1, 0, 2]), [-1, self.dimension])
        return tf.math.l2_normalize(tf.sign(joined) * tf.sqrt(tf.abs(joined)), axis=1)


def word_terms(vectors: tf.Tensor, location: tf.Tensor, scale: tf.Tensor, laplacian: tf.Tensor) -> tf.Tensor:
    """Return what words `[n, D]` contribute to the Fisher vector of one component `[D]`: `[n, 2 D]`."""
    z = (vectors - location) / scale
    size = tf.abs(z)
    by_location = tf.where(laplacian, tf.sign(z), z)
    by_scale = tf.where(laplacian, size - 1, (tf.square(z) - 1) / math.sqrt(2))
    return tf.concat([by_location, by_scale], 1)
