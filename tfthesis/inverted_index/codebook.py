"""Codebooks: the words that features are turned into (Liu 2018, section 4.2.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index.checks import as_float32
from tfthesis.inverted_index.files import load_arrays, save_arrays

#: Words of the thesis's largest codebook (section 4.4.2, for UKB).
MOST_WORDS = 10_000
#: Patches a word in the thesis's densest case: 1,491 images of Holidays in 14 patches, 5,000 words.
PATCHES_A_WORD = 4

# Products of features and words above which the words are learned from small batches.
_LARGE = 200_000_000
# Numbers of the block of products that are held at a time: small enough for the processor's cache.
_BLOCK = 1 << 19
# How far products in float32 may be off, in units of 2^-24 of the lengths multiplied, beside one for each number of a
# vector: rounding the offsets and their subtraction.
_ROUNDINGS = 8


def codebook_size(patches: int, words: int | None = None) -> int:
    """Return the number of words for so many training patches.

    Args:
        patches: of the training images, all together.
        words: what was asked for; None takes a quarter of the patches, `MOST_WORDS` at most (our choice, after the
            ratio of Holidays).

    Raises:
        UserError: more words than patches, or none.
    """
    if words is None:
        words = max(1, min(MOST_WORDS, patches // PATCHES_A_WORD))
    if not 1 <= words <= patches:
        raise UserError(f"words of the codebook: expected from 1 to the {patches} training patches, got {words}")
    return words


class Codebook:
    """Words, the centres of k-means clusters, and the search for the nearest of them.

    Attributes:
        words: `[K, D]` float32.
    """

    def __init__(self, words: np.ndarray):
        words = as_float32(words, "words of a codebook")
        if words.ndim != 2 or not words.size:
            raise UserError(f"words of a codebook: expected shape [words, width], got {list(words.shape)}")
        self.words = words
        squares = (words.astype(np.float64) ** 2).sum(1)
        self._offsets = squares / 2
        # The offset is the last factor of the product. Row by row in memory, it is multiplied twice as fast.
        self._matrix = np.ascontiguousarray(np.concatenate([words.T, -self._offsets.astype(np.float32)[None]]))
        self._longest = np.sqrt(squares.max())

    def __len__(self) -> int:
        return len(self.words)

    def save(self, path: str | Path) -> None:
        """Write the words to a file, whole or not at all; a `UserError` says that the disk is full."""
        save_arrays(Path(path), {"words": self.words})

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Return the codebook of a file of `save`; a `UserError` says that it is damaged or none."""
        return cls(load_arrays(Path(path), ("words",))["words"])

    def nearest(self, vectors: np.ndarray, count: int = 1) -> np.ndarray:
        """Return the `count` nearest words of each vector, the nearest first and ties by number, int32 `[N, count]`.

        Euclidean: the words with the largest x w - |w|^2 / 2, computed in float64 and rounded to float32, so that it is
        the same wherever it is computed and equal words are equally near. More than one word a vector is the multiple
        assignment of queries (section 4.4.2).

        Args:
            vectors: `[N, D]`.

        Raises:
            UserError: the width differs, a vector holds NaN or infinity, or there are fewer words than `count`.
        """
        vectors = as_float32(vectors, "features")
        if vectors.ndim != 2 or vectors.shape[1] != self.words.shape[1]:
            raise UserError(f"features: expected shape [patches, {self.words.shape[1]}], got {list(vectors.shape)}")
        if not 1 <= count <= len(self):
            raise UserError(f"assignments: expected from 1 to the {len(self)} words of the codebook, got {count}")
        found = np.empty((len(vectors), count), np.int32)
        step = max(1, _BLOCK // len(self))
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            found[start : start + step] = self._nearest(part, count)
        return found

    def _nearest(self, vectors: np.ndarray, count: int) -> np.ndarray:
        """Return the nearest words by products in float32, and by exact ones where those are too close together."""
        affinities = np.column_stack([vectors, np.ones(len(vectors), np.float32)]) @ self._matrix
        rows = np.arange(len(vectors))
        found, values = np.empty((len(vectors), count), np.int32), np.empty((len(vectors), count), np.float32)
        for place in range(count):
            best = affinities.argmax(1)
            found[:, place], values[:, place] = best, affinities[rows, best]
            affinities[rows, best] = -np.inf
        lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(1)) + self._longest
        slack = (vectors.shape[1] + _ROUNDINGS) * 2.0**-23 * self._longest * lengths
        least = values[:, -1] - slack
        close = (affinities.max(1) >= least) | (values[:, :-1] - values[:, 1:] <= slack[:, None]).any(1)
        if close.any():
            affinities[rows[:, None], found] = values
            asked, words = np.nonzero(affinities[close] >= least[close, None])
            found[close] = self._ranked(vectors[close], asked, words, count)
        return found

    def _ranked(self, vectors: np.ndarray, asked: np.ndarray, words: np.ndarray, count: int) -> np.ndarray:
        """Return the nearest of the words that are given with the row of their vector, both rising, for each vector."""
        exact = np.empty(len(words), np.float32)
        step = max(1, _BLOCK // vectors.shape[1])
        for start in range(0, len(words), step):
            part = slice(start, start + step)
            wide = vectors[asked[part]].astype(np.float64), self.words[words[part]].astype(np.float64)
            exact[part] = np.einsum("nd,nd->n", *wide) - self._offsets[words[part]]
        order = np.lexsort((-exact, asked))
        first = np.searchsorted(asked, np.arange(len(vectors)))
        return words[order[first[:, None] + np.arange(count)]]


def fit_codebook(vectors: np.ndarray, size: int, *, seed: int = 0, iterations: int = 100) -> Codebook:
    """Return the codebook that k-means finds, the same for the same seed.

    Small sets are fitted whole from k-means++ centres, large ones in small batches from random vectors.

    Args:
        vectors: `[N, D]` float32, of length one as in the thesis.
        size: K, the number of words.
        seed: of the first centres and the batches.
        iterations: passes over the vectors at most.

    Raises:
        UserError: more words than vectors (`codebook_size`), or the vectors are not finite numbers `[N, D]`.

    Source: Liu 2018, section 4.2.2; the thesis uses the approximate k-means of FLANN.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    vectors = as_float32(vectors, "features")
    if vectors.ndim != 2:
        raise UserError(f"features: expected shape [patches, width], got {list(vectors.shape)}")
    size = codebook_size(len(vectors), size)
    if len(vectors) * size <= _LARGE:
        model = KMeans(size, n_init=1, max_iter=iterations, random_state=seed)
    else:
        model = MiniBatchKMeans(
            size, init="random", n_init=1, max_iter=iterations, batch_size=max(1024, size), random_state=seed
        )
    return Codebook(model.fit(vectors).cluster_centers_)
