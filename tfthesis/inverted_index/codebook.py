"""Codebooks: the words that features are turned into (Liu 2018, section 4.2.2)."""

from __future__ import annotations

import numpy as np

from tfthesis.errors import UserError

#: Words of the thesis's largest codebook (section 4.4.2, for UKB).
MOST_WORDS = 10_000
#: Patches a word in the thesis's densest case: 1,491 images of Holidays in 14 patches, 5,000 words.
PATCHES_A_WORD = 4

# Products of features and words above which the words are learned from small batches.
_LARGE = 200_000_000
# Numbers of the block of products that are held at a time: small enough for the processor's cache.
_BLOCK = 1 << 19
# The kernels multiply whole panels of columns and the remainder by another path, whose rounding differs; in a padded
# matrix equal words get bit-equal products, and ties are decided by the word's number alone.
_COLUMNS = 64


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
        words = np.ascontiguousarray(words, np.float32)
        if words.ndim != 2 or not words.size:
            raise UserError(f"words of a codebook: expected shape [words, width], got {list(words.shape)}")
        if not np.isfinite(words).all():
            raise UserError("words of a codebook: expected finite numbers, got NaN or infinity")
        self.words = words
        columns = -(-len(words) // _COLUMNS) * _COLUMNS
        self._matrix = np.zeros((words.shape[1], columns), np.float32)
        self._matrix[:, : len(words)] = words.T
        self._offsets = np.full(columns, np.inf, np.float32)
        self._offsets[: len(words)] = (words.astype(np.float64) ** 2).sum(1) / 2

    def __len__(self) -> int:
        return len(self.words)

    def nearest(self, vectors: np.ndarray, count: int = 1) -> np.ndarray:
        """Return the `count` nearest words of each vector, the nearest first and ties by number, int32 `[N, count]`.

        Euclidean, in float32. More than one word a vector is the multiple assignment of queries (section 4.4.2).

        Args:
            vectors: `[N, D]`.

        Raises:
            UserError: the width differs, a vector holds NaN or infinity, or there are fewer words than `count`.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.words.shape[1]:
            raise UserError(f"features: expected shape [patches, {self.words.shape[1]}], got {list(vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise UserError("features: expected finite numbers, got NaN or infinity")
        if not 1 <= count <= len(self):
            raise UserError(f"assignments: expected from 1 to the {len(self)} words of the codebook, got {count}")
        found = np.empty((len(vectors), count), np.int32)
        step = max(1, _BLOCK // len(self._offsets))
        for start in range(0, len(vectors), step):
            # |x - w|^2 is smallest where x w - |w|^2 / 2 is largest.
            affinities = vectors[start : start + step] @ self._matrix
            affinities -= self._offsets
            rows = np.arange(len(affinities))
            for place in range(count):
                best = affinities.argmax(1)
                found[start : start + step, place] = best
                affinities[rows, best] = -np.inf
        return found


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

    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2:
        raise UserError(f"features: expected shape [patches, width], got {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        raise UserError("features: expected finite numbers, got NaN or infinity")
    size = codebook_size(len(vectors), size)
    if len(vectors) * size <= _LARGE:
        model = KMeans(size, n_init=1, max_iter=iterations, random_state=seed)
    else:
        model = MiniBatchKMeans(
            size, init="random", n_init=1, max_iter=iterations, batch_size=max(1024, size), random_state=seed
        )
    return Codebook(model.fit(vectors).cluster_centers_)
