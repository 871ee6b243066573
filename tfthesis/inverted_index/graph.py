"""The search as TensorFlow operations over the arrays of an index, so that an export holds it.

It answers as `search.search` does, ties included: what float64 may round otherwise than numpy is rounded away before it
is compared. All operations are those of a stock TensorFlow Serving.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.search import FIRST, PLAIN, Scoring, check_asked
from tfthesis.lazy import tf

if TYPE_CHECKING:
    import tensorflow as tf


class GraphAnswers(NamedTuple):
    """The best images for each of B queries, best first: `search.Answers` as tensors.

    Attributes:
        rows: int32 `[B, n]`, -1 behind the last image that matches.
        scores: float32 `[B, n]`, 0 where the row is -1, and where they are too small for a float32.
        logs: natural logarithms of the scores, float64 `[B, n]`, minus infinity where the row is -1.
    """

    rows: tf.Tensor
    scores: tf.Tensor
    logs: tf.Tensor


class GraphIndex:
    """An index whose arrays are variables, and the search in it as graph code.

    Attributes:
        trackable: a `tf.Module` that holds the variables; it has to be saved with the functions that search.
    """

    def __init__(self, index: Index):
        """Copy the arrays of `index` into variables."""
        self._index = index
        names = np.array([name.encode() for name in index.names.all()], object)
        arrays = {"keys": index.lists.keys, "offsets": index.lists.offsets, "postings": index.lists.postings}
        arrays |= {"counts": index.counts, "names": names}
        arrays |= {f"codebook_{axis}": codebook.words for axis, codebook in enumerate(index.codebooks)}
        if index.signatures is not None:
            arrays["signatures"] = index.signatures.values
            if index.signatures.scales is not None:
                arrays["scales"] = index.signatures.scales
        self._arrays = {name: tf.Variable(array, trainable=False, name=name) for name, array in arrays.items()}
        self.trackable = tf.Module()
        self.trackable.arrays = self._arrays

    def search(
        self, features: Sequence[tf.Tensor], n: int, scoring: Scoring = PLAIN, signatures: Sequence[tf.Tensor] = ()
    ) -> GraphAnswers:
        """Return the `n` images with the largest score for each query.

        Args:
            features: of the query's patches, `[B, P, D]` for each axis; an empty batch is allowed.
            signatures: features of the query's whole image, `[B, M]` for each axis; needed where alpha is not 0.

        Raises:
            UserError: as `search.search`, when it is traced.
            tf.errors.InvalidArgumentError: a number is NaN or infinite, when it runs.
        """
        n = check_asked(self._index, n, scoring)
        widths = [book.words.shape[1] for book in self._index.codebooks]
        asked = _checked("features", features, [(None, None, width) for width in widths])
        cells = self._cells(asked, scoring.assignments)
        roots = []
        if scoring.alpha:
            shapes = [(None, width) for width in self._index.signatures.widths]
            roots = [_rooted(part) for part in _checked("signatures", signatures, shapes)]

        def ranked(query: tuple[tf.Tensor, list[tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
            rows, sums = self._sums(query[0], scoring.idf)
            if not scoring.alpha:
                return _best(rows, _ranks(sums), n)
            if scoring.candidates:
                kept = tf.math.top_k(_ranks(sums), tf.minimum(tf.size(rows), scoring.candidates)).indices
                # Equal scores are told apart by the place of a row.
                kept = tf.sort(kept)
                rows, sums = tf.gather(rows, kept), tf.gather(sums, kept)
            return self._best_weighed(rows, sums, query[1], n, scoring.alpha)

        kinds = tf.TensorSpec([n], tf.int32), tf.TensorSpec([n], tf.int64)
        return _answers(*tf.map_fn(ranked, (cells, roots), fn_output_signature=kinds))

    def words(self, axis: int, features: tf.Tensor, count: int) -> tf.Tensor:
        """Return the nearest words of features `[B, P, D]` of an axis, the nearest first, int32 `[B, P, count]`."""
        words = tf.cast(self._arrays[f"codebook_{axis}"], tf.float64)
        flat = tf.reshape(tf.cast(features, tf.float64), [-1, words.shape[1]])
        affinities = tf.matmul(flat, words, transpose_b=True) - tf.reduce_sum(words**2, axis=1) / 2
        nearest = tf.math.top_k(tf.cast(affinities, tf.float32), count).indices
        return tf.reshape(nearest, [tf.shape(features)[0], tf.shape(features)[1], count])

    def names(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the names of images by row, strings in the shape of `rows`; the empty string where the row is -1."""
        return tf.where(rows < 0, "", tf.gather(self._arrays["names"], tf.maximum(rows, 0)))

    def _cells(self, features: Sequence[tf.Tensor], assignments: int) -> tf.Tensor:
        """Return the keys of the cells that each query is looked up in, int64 `[B, P * assignments ** axes]`."""
        batch, patches = tf.shape(features[0])[0], tf.shape(features[0])[1]
        keys = tf.zeros([batch * patches, 1], tf.int64)
        for axis, part in enumerate(features):
            nearest = tf.reshape(self.words(axis, part, assignments), [-1, assignments])
            keys = keys[:, :, None] * len(self._index.codebooks[axis]) + tf.cast(nearest, tf.int64)[:, None]
            keys = tf.reshape(keys, [batch * patches, assignments ** (axis + 1)])
        return tf.reshape(keys, [batch, patches * assignments ** len(features)])

    def _sums(self, cells: tf.Tensor, idf: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the rows of the images in the cells of a query, rising, and their scores without signatures."""
        arrays, images = self._arrays, len(self._index)
        places = tf.minimum(tf.searchsorted(arrays["keys"], cells), len(self._index.lists.keys) - 1)
        places = tf.boolean_mask(places, tf.gather(arrays["keys"], places) == cells)
        counts = tf.cast(tf.gather(arrays["counts"], places), tf.float64)
        frequencies = {"ratio": lambda n: images / n, "log": lambda n: tf.math.log(images / n), "none": tf.ones_like}
        weights = frequencies[idf](counts) ** 2
        starts, ends = tf.gather(arrays["offsets"], places), tf.gather(arrays["offsets"], places + 1)
        postings = tf.gather(arrays["postings"], tf.ragged.range(starts, ends).flat_values)
        sums = tf.math.unsorted_segment_sum(tf.repeat(weights, ends - starts), postings, images)
        met = tf.math.bincount(postings, minlength=images, maxlength=images)
        rows = tf.cast(tf.reshape(tf.where(met > 0), [-1]), tf.int32)
        return rows, tf.gather(sums, rows)

    def _best_weighed(
        self, rows: tf.Tensor, sums: tf.Tensor, roots: Sequence[tf.Tensor], n: int, alpha: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `_best` by sums that signatures weigh; those of images that cannot be among the best are not read."""
        likely = tf.math.top_k(_ranks(sums), tf.minimum(tf.size(rows), max(FIRST, 2 * n))).indices

        def weighed(rows: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
            return _ranks(sums, self._distances(rows, roots) * (alpha / math.log(2)))

        bound = _best(likely, weighed(tf.gather(rows, likely), tf.gather(sums, likely)), n)[1][-1]
        possible = _ranks(sums) >= bound
        rows, sums = tf.boolean_mask(rows, possible), tf.boolean_mask(sums, possible)
        return _best(rows, weighed(rows, sums), n)

    def _distances(self, rows: tf.Tensor, roots: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the distance between images and the query, summed over the axes, float64 `[C]`."""
        widths = self._index.signatures.widths
        values = tf.split(tf.cast(tf.gather(self._arrays["signatures"], rows), tf.float64), widths, axis=1)
        total = tf.zeros([tf.size(rows)], tf.float64)
        for axis, (part, root) in enumerate(zip(values, roots, strict=True)):
            similarity = tf.linalg.matvec(part, root)
            if "scales" in self._arrays:
                similarity *= tf.cast(tf.gather(self._arrays["scales"][:, axis], rows), tf.float64)
            rounded = tf.cast(tf.cast(similarity, tf.float32), tf.float64)
            total += tf.maximum(2 - 2 * rounded, 0)
        return total


def fused(answers: Sequence[GraphAnswers], images: int, n: int) -> GraphAnswers:
    """Return `combining.fused`, all indexes weighed alike, as tensors.

    Args:
        answers: to the same queries, from indexes of the same images.
        images: in each index.
        n: best images that are returned.
    """

    def best(query: list[tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
        total, met = tf.zeros([images], tf.float64), tf.zeros([images], tf.int32)
        for rows, logs in query:
            first = tf.where(logs[0] > -math.inf, logs[0], 0.0)
            known, shares = tf.boolean_mask(rows, rows >= 0), tf.boolean_mask(tf.exp(logs - first), rows >= 0)
            total += tf.math.unsorted_segment_sum(shares, known, images)
            met += tf.math.unsorted_segment_sum(tf.ones_like(known), known, images)
        rows = tf.cast(tf.reshape(tf.where(met > 0), [-1]), tf.int32)
        return _best(rows, _ranks(tf.gather(total, rows)), n)

    kinds = tf.TensorSpec([n], tf.int32), tf.TensorSpec([n], tf.int64)
    return _answers(*tf.map_fn(best, [(part.rows, part.logs) for part in answers], fn_output_signature=kinds))


def _answers(rows: tf.Tensor, ranks: tf.Tensor) -> GraphAnswers:
    """Return answers by their ranks, as of `ranking.ranks`."""
    logs = _logs(ranks)
    scores = tf.cast(tf.exp(logs), tf.float32)
    return GraphAnswers(rows, tf.where(scores < np.finfo(np.float32).tiny, 0.0, scores), logs)


def _checked(name: str, parts: Sequence[tf.Tensor], expected: Sequence[tuple[int | None, ...]]) -> list[tf.Tensor]:
    """Return `parts` as float32; a `UserError` says that their shapes are not those expected."""
    parts = [tf.cast(part, tf.float32) for part in parts]
    shapes = [part.shape for part in parts]
    if len(shapes) != len(expected) or not all(map(tf.TensorShape.is_compatible_with, shapes, expected)):
        wished, got = [list(shape) for shape in expected], [str(shape) for shape in shapes]
        raise UserError(f"{name}: expected shapes {wished}, one for each axis, got {got}")
    return [tf.debugging.check_numerics(part, f"{name}: a number is NaN or infinite") for part in parts]


def _rooted(vectors: tf.Tensor) -> tf.Tensor:
    """Return `signatures.rooted` of vectors, as float64."""
    wide = tf.cast(vectors, tf.float64)
    totals = tf.reduce_sum(tf.abs(wide), axis=-1, keepdims=True)
    roots = tf.sign(wide) * tf.sqrt(tf.abs(wide) / tf.where(totals > 0, totals, 1))
    return tf.cast(tf.cast(roots, tf.float32), tf.float64)


def _ranks(sums: tf.Tensor, powers: tf.Tensor | float = 0.0) -> tf.Tensor:
    """Return `ranking.ranks` as a tensor."""
    octaves = tf.floor(tf.cast(powers, tf.float64))
    values = tf.cast(sums * tf.exp((octaves - powers) * math.log(2)), tf.float32)
    found = tf.cast(tf.bitcast(values, tf.int32), tf.int64) - tf.cast(octaves, tf.int64) * ranking.OCTAVE
    return tf.where(values > 0, found, ranking.NOTHING)


def _logs(ranks: tf.Tensor) -> tf.Tensor:
    """Return `ranking.logs` as a tensor."""
    octaves = ranks // ranking.OCTAVE
    digits = tf.cast(ranks - octaves * ranking.OCTAVE, tf.float64) / ranking.OCTAVE
    logs = tf.cast(octaves - ranking.BIAS, tf.float64) * math.log(2) + tf.math.log1p(digits)
    return tf.where(ranks > ranking.NOTHING, logs, -math.inf)


def _best(rows: tf.Tensor, ranks: tf.Tensor, n: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the `n` rows of the largest ranks and these, equal ones by row; -1 and `NOTHING` fill up."""
    found = tf.math.top_k(ranks, tf.minimum(tf.size(ranks), n))
    fill = [[0, n - tf.size(found.indices)]]
    rows = tf.pad(tf.gather(rows, found.indices), fill, constant_values=-1)
    return tf.ensure_shape(rows, [n]), tf.ensure_shape(tf.pad(found.values, fill, constant_values=ranking.NOTHING), [n])
