"""Which images match a query best: Eq 4.1 to 4.5 of Liu 2018.

The score of an image is the sum over the query's patches, and over the image's patches in the same cell, of idf^2 of
the cell. The weight c of the signatures is the same for all patches of a pair of images, so it multiplies the sum once.
Sums are float64; scores are compared as `ranking` says, and images with equal ones are in the order of their rows.
Images that share no cell with the query are not among the answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfthesis.errors import UserError, closest
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.cells import cell_grid
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.signatures import rooted

#: The inverse document frequency of Eq 4.2 as printed, and with the logarithm that it has elsewhere.
IDF = ("ratio", "log")

#: Images whose signatures are compared before others are ruled out.
FIRST = 512
# Scores of which the largest stands for all.
_STRETCH = 64


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How matches are weighed.

    Attributes:
        assignments: nearest words of each axis that a patch of the query is assigned to; all their combinations are
            looked up.
        idf: "ratio", N / n_i as in Eq 4.2, or "log", its logarithm.
        alpha: strength of the signatures in c = exp(-alpha d); 0 leaves them out. The thesis prints exp(alpha d) in Eq
            4.4, by which unlike images would score higher, against its text.
    """

    assignments: int = 1
    idf: str = "ratio"
    alpha: float = 0.0

    def __post_init__(self):
        if self.idf not in IDF:
            raise closest(self.idf, IDF, "idf")
        if not 0 <= self.alpha <= ranking.LARGEST_ALPHA:
            raise UserError(f"alpha: expected a number from 0 to {ranking.LARGEST_ALPHA:g}, got {self.alpha}")


#: The nearest word, the idf of the thesis, no signatures.
PLAIN = Scoring()


@dataclasses.dataclass(frozen=True)
class Answers:
    """The best images for each of B queries, best first.

    Attributes:
        rows: int32 `[B, n]`, -1 behind the last image that matches.
        logs: natural logarithms of the scores, float64 `[B, n]`, minus infinity where the row is -1.
    """

    rows: np.ndarray
    logs: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Scores, float32 `[B, n]`: 0 where the row is -1, and where they are too small for a float32."""
        return ranking.scores(self.logs)


def search(
    index: Index,
    features: Sequence[np.ndarray],
    n: int,
    scoring: Scoring = PLAIN,
    signatures: Sequence[np.ndarray] | None = None,
) -> Answers:
    """Return the `n` images with the largest score for each query.

    Args:
        features: of the query's patches, `[B, P, D]` for each axis, prepared as those of the index.
        signatures: features of the query's whole image, `[B, M]` for each axis; needed where alpha is not 0.

    Raises:
        UserError: `n` is not positive, or what was given does not fit the index.
    """
    check_asked(index, n, scoring)
    cells = query_cells(index, features, scoring.assignments)
    roots = _roots(index, signatures, len(cells)) if scoring.alpha else None
    rows = np.full((len(cells), n), -1, np.int32)
    ranks = np.full((len(cells), n), ranking.NOTHING)
    for query, keys in enumerate(cells):
        postings, sums = _sums(index, keys, scoring.idf)
        if roots is None:
            best = _best_plain(postings, sums, n, index.patches)
        else:
            powers = _powers(index, [root[query] for root in roots], scoring.alpha)
            best = _best_weighed(postings, sums, n, powers)
        rows[query, : len(best[0])], ranks[query, : len(best[0])] = best
    return Answers(rows, ranking.logs(ranks))


def check_asked(index: Index, n: int, scoring: Scoring) -> None:
    """Raise a `UserError` if `n` images cannot be asked of `index` by `scoring`."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise UserError(f"n: expected a positive number of images, got {n!r}")
    if not 1 <= scoring.assignments <= min(index.sizes):
        raise UserError(
            f"assignments: expected from 1 to the {min(index.sizes)} words of the codebook, got {scoring.assignments}"
        )
    if scoring.alpha and index.signatures is None:
        raise UserError("alpha: expected 0, since this index was built without signatures")


def query_cells(index: Index, features: Sequence[np.ndarray], assignments: int = 1) -> np.ndarray:
    """Return the cells that the patches of queries are looked up in, int64 `[B, P * assignments ** axes]`.

    The arguments are those of `search`. A cell stands there as often as patches of the query reach it.
    """
    if len(features) != len(index.codebooks):
        raise UserError(f"features: expected one array for each of {len(index.codebooks)} axes, got {len(features)}")
    shapes = {np.shape(part)[:2] for part in features}
    if len(shapes) > 1 or any(np.ndim(part) != 3 for part in features):
        got = [list(np.shape(part)) for part in features]
        raise UserError(f"features: expected shape [queries, patches, width] alike for each axis, got {got}")
    (shape,) = shapes
    words = [
        codebook.nearest(np.reshape(part, (-1, np.shape(part)[2])), assignments)
        for codebook, part in zip(index.codebooks, features, strict=True)
    ]
    return cell_grid(words, index.sizes).reshape(shape[0], shape[1] * assignments ** len(words))


def idf(counts: np.ndarray, images: int, kind: str) -> np.ndarray:
    """Return the inverse document frequency of cells, float64.

    Args:
        counts: images in each cell, n_i.
        images: of the index, N.
        kind: "ratio" or "log"; see `Scoring`.
    """
    ratio = images / np.asarray(counts, np.float64)
    return np.log(ratio) if kind == "log" else ratio


def _sums(index: Index, cells: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the postings in the cells of one query, and the score of every image without signatures.

    Args:
        cells: `[c]` of `query_cells`.
        kind: of idf.

    Returns:
        Rows int32 `[m]`, an image as often as it has patches there, and float64 `[N]`.

    Source: Liu 2018, Eq 4.2 and 4.3.
    """
    keys, times = np.unique(cells, return_counts=True)
    places, known = index.lists.places(keys)
    weights = times[known] * idf(index.counts[places], len(index), kind) ** 2
    postings, lengths = index.lists.images(places)
    # A sum for every image takes less time than sorting the postings, even at a million images.
    return postings, np.bincount(postings, np.repeat(weights, lengths), minlength=len(index))


def best_images(rows: np.ndarray, scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `n` rows with the largest scores, or all of them, best first and ties by row, and their scores.

    Args:
        rows: rising.
    """
    if len(rows) > n:
        least = np.partition(scores, len(scores) - n)[len(scores) - n]
        above, level = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        chosen = np.sort(np.concatenate([above, level[: n - len(above)]]))
        rows, scores = rows[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


def _best_plain(postings: np.ndarray, sums: np.ndarray, n: int, patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `best_images` of those in `postings` by `sums`; an image stands there `patches` times at most."""
    scores = sums.take(postings).astype(np.float32)
    rows = np.unique(postings[_near_top(scores, n * patches)])
    return best_images(rows, ranking.ranks(sums[rows]), n)


def _best_weighed(
    postings: np.ndarray, sums: np.ndarray, n: int, powers: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return `best_images` of those in `postings` by `sums * 2 ** -powers(rows)`.

    No weight is above 1: whatever has a lower sum than the n-th best score of some images is not among the best, and
    its signature need not be read.
    """
    met = np.zeros(len(sums), bool)
    met[postings] = True
    rows = np.flatnonzero(met)
    hits = sums[rows]
    first = max(FIRST, 2 * n)
    if len(rows) > first:
        likely = _near_top(hits, first)[: 2 * first]
        scores = ranking.ranks(hits[likely], powers(rows[likely]))
        possible = ranking.ranks(hits) >= np.partition(scores, len(scores) - n)[len(scores) - n]
        rows, hits = rows[possible], hits[possible]
    return best_images(rows, ranking.ranks(hits, powers(rows)), n)


def _near_top(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the places of all scores that may be among the `count` largest, ties included, and of some more.

    As many stretches as `count` have a peak of at least the value that is taken as the bound, so that as many scores
    are not below it; peaks are found many times faster than a partition of all scores.
    """
    stretches = len(scores) // _STRETCH
    if stretches <= count:
        return np.arange(len(scores))
    peaks = scores[: stretches * _STRETCH].reshape(_STRETCH, stretches).max(0)
    return np.flatnonzero(scores >= np.partition(peaks, stretches - count)[stretches - count])


def _powers(index: Index, query: Sequence[np.ndarray], alpha: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return -log2 of c of Eq 4.4, of Eq 4.5 in more dimensions, as a function of rows."""
    return lambda rows: ranking.powers(index.signatures.distances(rows, query), alpha)


def _roots(index: Index, signatures: Sequence[np.ndarray] | None, queries: int) -> list[np.ndarray]:
    expected = [[queries, width] for width in index.signatures.widths]
    got = [list(np.shape(part)) for part in signatures or ()]
    if got != expected:
        raise UserError(f"signatures: expected shapes {expected}, one for each axis, got {got}")
    if not all(np.isfinite(part).all() for part in signatures):
        raise UserError("signatures: expected finite numbers, got NaN or infinity")
    return [rooted(part) for part in signatures]
