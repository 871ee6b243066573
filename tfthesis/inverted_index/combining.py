"""Query expansion and late fusion in plain forms; the thesis leaves both to future work (Liu 2018, section 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.options import MOST_IMAGES, whole_number
from tfthesis.inverted_index.projection import unit
from tfthesis.inverted_index.search import PLAIN, Answers, Scoring, search

#: Features and signatures of images given by row, `[R, P, D]` and `[R, M]` for each axis.
Lookup = Callable[[np.ndarray], tuple[Sequence[np.ndarray], Sequence[np.ndarray]]]


def search_expanded(
    index: Index,
    features: Sequence[np.ndarray],
    n: int,
    scoring: Scoring = PLAIN,
    signatures: Sequence[np.ndarray] = (),
    *,
    lookup: Lookup,
    images: int = 5,
) -> Answers:
    """Return the answers to each query's average with its best answers.

    The query is searched, and its features and signatures are averaged with those of the best images, each counting
    once: patch by patch, since a patch has one place in the pyramid. What results is scaled to the length one and
    searched again. A query without an answer stays as it is.

    Args:
        features, n, scoring, signatures: as of `search`.
        lookup: what describes the indexed images; an index keeps their words only.
        images: best images that a query is averaged with.

    Raises:
        UserError: `images` is not a whole number from 1, or as `search`.

    Source: average query expansion, Chum et al., "Total Recall", ICCV 2007.
    """
    images = whole_number(images, 1, "images to expand a query with", MOST_IMAGES)
    first = search(index, features, images, scoring, signatures)
    parts = [np.array(part, np.float32) for part in (*features, *signatures)]
    for query, rows in enumerate(first.rows):
        rows = rows[rows >= 0]
        if len(rows):
            found, their_signatures = lookup(rows)
            for part, others in zip(parts, [*found, *their_signatures[: len(signatures)]], strict=True):
                part[query] = unit(np.concatenate([part[query, None], others]).mean(0))
    return search(index, parts[: len(features)], n, scoring, parts[len(features) :])


def fused(answers: Sequence[Answers], n: int, weights: Sequence[float] | None = None) -> Answers:
    """Return the `n` best images by the weighted sum of scores from several indexes of the same images.

    The scores of each query and index are divided by the best of them, since idf makes their sizes differ; an image
    that an index did not answer has no score there, so indexes should be asked for more than `n`.

    Args:
        answers: to the same queries, from indexes whose rows are the same images.
        weights: of the indexes; None weighs all alike.

    Raises:
        UserError: there are no answers, they are to different numbers of queries, or weights do not fit.
    """
    weights = [1.0] * len(answers) if weights is None else list(weights)
    counts = {len(part.rows) for part in answers}
    if len(counts) != 1:
        raise UserError(f"answers to fuse: expected some to the same queries, got to {sorted(counts)} queries")
    if len(weights) != len(answers) or not all(0 <= weight < np.inf for weight in weights):
        raise UserError(f"weights: expected a number from 0 for each of {len(answers)} indexes, got {weights}")
    n = whole_number(n, 1, "n", MOST_IMAGES)
    (count,) = counts
    found = np.concatenate([part.rows for part in answers], axis=1).astype(np.int64)
    shares = np.concatenate([_shares(part.logs) * w for part, w in zip(answers, weights, strict=True)], axis=1)
    queries, _ = known = np.nonzero(found >= 0)
    pairs, places = np.unique((queries << 31) + found[known], return_inverse=True)
    ranks = ranking.ranks(np.bincount(places, shares[known], minlength=len(pairs)))
    best, places = ranking.best_of_each(pairs >> 31, pairs, ranks, n)
    rows, logs = np.full((count, n), -1, np.int32), np.full((count, n), -np.inf)
    rows[pairs[best] >> 31, places] = pairs[best] & (1 << 31) - 1
    logs[pairs[best] >> 31, places] = ranking.logs(ranks[best])
    return Answers(rows, logs)


def _shares(logs: np.ndarray) -> np.ndarray:
    """Return scores `[B, n]`, best first and given by their logarithms, as shares of the best of each query."""
    best = logs[:, :1]
    return np.exp(logs - np.where(best > -np.inf, best, 0))
