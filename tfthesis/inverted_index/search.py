"""Which images match a query best: Eq 4.1 to 4.5 of Liu 2018.

The score of an image is the sum over the query's patches, and over the image's patches in the same cell, of idf^2 of
the cell, or of 1 for Eq 4.1. The weight c of the signatures is the same for all patches of a pair of images, so it
multiplies the sum once. Sums are float64; scores are compared as `ranking` says, and images with equal ones are in the
order of their rows. Images that share no cell with the query are not among the answers.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.cells import cell_grid
from tfthesis.inverted_index.checks import as_float32, shapes_of
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.options import MOST_IMAGES, PLAIN, Scoring, whole_number
from tfthesis.inverted_index.signatures import rooted

#: Images whose signatures are compared before others are ruled out.
FIRST = 512

# Sums that are held together: one for each image and query, unless there are more images.
_TOGETHER = 1 << 20
# Images for each match of a query up to which the sums of all images are looked through: what lies in a row is read
# several times faster than what is scattered.
_LOOKED_THROUGH = 16


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
        n: images, more than the index has too; memory grows with it.
        features: of the query's patches, `[B, P, D]` for each axis, prepared as those of the index.
        signatures: features of the query's whole image, `[B, M]` for each axis; needed where alpha is not 0.

    Raises:
        UserError: `n` is not from 1 to `options.MOST_IMAGES`, or what was given does not fit the index.
    """
    n = check_asked(index, n, scoring)
    cells = query_cells(index, features, scoring.assignments)
    roots = _roots(index, signatures, len(cells)) if scoring.alpha else None
    rows = np.full((len(cells), n), -1, np.int32)
    ranks = np.full((len(cells), n), ranking.NOTHING)
    for found in _matches(index, cells, scoring.idf, (scoring.candidates or None) if scoring.alpha else n):
        if roots is None:
            ranked = ranking.ranks(found.sums)
        else:
            found, ranked = weighed(index, found, roots, n, scoring)
        best, places = ranking.best_of_each(found.queries, found.rows, ranked, n)
        rows[found.queries[best], places], ranks[found.queries[best], places] = found.rows[best], ranked[best]
    return Answers(rows, ranking.logs(ranks))


def check_asked(index: Index, n: int, scoring: Scoring) -> int:
    """Return `n` as Python's whole number; a `UserError` says that it cannot be asked of `index` by `scoring`."""
    n = whole_number(n, 1, "n", MOST_IMAGES)
    if scoring.assignments > min(index.sizes):
        raise UserError(
            f"assignments: expected from 1 to the {min(index.sizes)} words of the codebook, got {scoring.assignments}"
        )
    if scoring.alpha and index.signatures is None:
        raise UserError("alpha: expected 0, since this index was built without signatures")
    return n


def query_cells(index: Index, features: Sequence[np.ndarray], assignments: int = 1) -> np.ndarray:
    """Return the cells that the patches of queries are looked up in, int64 `[B, P * assignments ** axes]`.

    The arguments are those of `search`. A cell stands there as often as patches of the query reach it.
    """
    full = shapes_of(features, "features")
    if len(full) != len(index.codebooks):
        raise UserError(f"features: expected one array for each of {len(index.codebooks)} axes, got {len(full)}")
    shapes = {shape[:2] for shape in full}
    if len(shapes) > 1 or any(len(shape) != 3 for shape in full):
        got = [list(shape) for shape in full]
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
        kind: "ratio", "log" or "none"; see `Scoring`.
    """
    if kind == "none":
        return np.ones(np.shape(counts))
    ratio = images / np.asarray(counts, np.float64)
    return np.log(ratio) if kind == "log" else ratio


@dataclasses.dataclass(frozen=True)
class Matches:
    """Images that share cells with queries, each pair once, sorted by query.

    Attributes:
        queries: int64 `[m]`.
        rows: int32 `[m]`.
        sums: scores without signatures, float64 `[m]`.
    """

    queries: np.ndarray
    rows: np.ndarray
    sums: np.ndarray

    def chosen(self, items: np.ndarray) -> Matches:
        """Return the matches of places or a mask."""
        return Matches(self.queries[items], self.rows[items], self.sums[items])


def _matches(index: Index, cells: np.ndarray, kind: str, best: int | None) -> Iterator[Matches]:
    """Yield the matches of some queries after those of others.

    Args:
        cells: `[B, c]` of `query_cells`.
        kind: of idf.
        best: as many with the largest sums for each query are needed, others may be left out; None for all.

    Source: Liu 2018, Eq 4.2 and 4.3.
    """
    if not cells.size:
        return
    places, known = index.lists.places(cells.reshape(-1))
    # A cell that several patches of a query reach is read once and counts so often.
    asked = np.flatnonzero(known) // cells.shape[1] * len(index.lists.keys) + places
    asked, times = np.unique(asked, return_counts=True)
    queries, places = np.divmod(asked, len(index.lists.keys))
    weights = times * idf(index.counts[places], len(index), kind) ** 2
    lengths = index.lists.offsets[places + 1] - index.lists.offsets[places]
    together = max(1, _TOGETHER // len(index))
    bounds = np.searchsorted(queries, np.unique(queries)[::together])
    for start, stop in itertools.pairwise([*bounds.tolist(), len(queries)]):
        part = slice(start, stop)
        postings = index.lists.images(places[part])[0]
        asked, terms = (np.repeat(values[part], lengths[part]) for values in (queries, weights))
        # An image is as often among the postings as it has patches there.
        yield summed(asked, postings, terms, len(index), best, index.patches)


def summed(
    queries: np.ndarray, rows: np.ndarray, terms: np.ndarray, images: int, best: int | None = None, often: int = 1
) -> Matches:
    """Return the matches of queries with patches of images.

    Args:
        queries: of each match, rising, int64 `[m]`.
        rows: of the image, `[m]`.
        terms: what is added to the image's score, `[m]`.
        images: N of the index.
        best: as many images with the largest sums for each query are needed, others may be left out; None for all.
        often: matches of a query with one image at most.
    """
    if not len(queries):
        return Matches(queries, rows, terms)
    pairs, alone = rows, queries[0] == queries[-1]
    if not alone:
        pairs = np.cumsum(np.diff(queries, prepend=queries[0]) > 0) * images + rows
    # A sum for every image takes less time than sorting the matches, even at a million images.
    sums = np.bincount(pairs, terms)
    if alone and len(rows) * _LOOKED_THROUGH > images:
        # What is not 0 is of an image that matches, unless it has no weight.
        least = ranking.bound(sums, best) if best is not None else terms.min()
        if least > 0:
            found = np.flatnonzero(sums >= least)
            return Matches(np.full(len(found), queries[0]), found.astype(np.int32), sums[found])
    found = sums.take(pairs)
    if best is not None:
        values = found.astype(np.float32)
        kept = np.flatnonzero(values >= ranking.bounds(values, queries, best * often))
        pairs, found, queries, rows = pairs[kept], found[kept], queries[kept], rows[kept]
    # Each pair once, where its last place is noted; in the array of the sums, since another one of that size takes more
    # time than all else.
    places = np.arange(len(pairs))
    sums[pairs] = places
    once = np.flatnonzero(sums.take(pairs) == places)
    return Matches(queries[once], rows[once], found[once])


def weighed(
    index: Index, found: Matches, roots: Sequence[np.ndarray], n: int, scoring: Scoring
) -> tuple[Matches, np.ndarray]:
    """Return matches that hold the `n` best of each query, and their ranks by sums that signatures weigh.

    Of more matches than `scoring.candidates` only those with the largest sums are looked at.

    No weight is above 1: an image whose sum is below the n-th best score of some images is not among the best, and its
    signature need not be read. Of those that are left, kernels in float32 leave the few that may be among the best.
    """
    alpha = scoring.alpha
    margin = ranking.margin(index.signatures.error, alpha)
    plain = ranking.ranks(found.sums)
    if scoring.candidates:
        kept, _ = ranking.best_of_each(found.queries, found.rows, plain, scoring.candidates)
        found, plain = found.chosen(kept), plain[kept]
    likely, _ = ranking.best_of_each(found.queries, found.rows, plain, max(FIRST, 2 * n))
    if len(likely) < len(plain):
        some = found.chosen(likely)
        near = _ranks(index, some, roots, alpha, np.float32)
        least = np.empty(found.queries[-1] + 1, np.int64)
        least[some.queries] = ranking.bounds(near, some.queries, n) - margin
        found = found.chosen(plain >= least[found.queries])
    if len(found.rows) > FIRST:
        near = _ranks(index, found, roots, alpha, np.float32)
        found = found.chosen(near >= ranking.bounds(near, found.queries, n) - 2 * margin)
    return found, _ranks(index, found, roots, alpha, np.float64)


def _ranks(index: Index, found: Matches, roots: Sequence[np.ndarray], alpha: float, dtype: type) -> np.ndarray:
    """Return the ranks of matches: their sums times c of Eq 4.4, of Eq 4.5 in more dimensions."""
    distances = index.signatures.distances(found.queries, found.rows, roots, dtype)
    return ranking.ranks(found.sums, ranking.powers(distances, alpha))


def _roots(index: Index, signatures: Sequence[np.ndarray] | None, queries: int) -> list[np.ndarray]:
    expected = [[queries, width] for width in index.signatures.widths]
    got = [list(shape) for shape in shapes_of(signatures, "signatures")]
    if got != expected:
        raise UserError(f"signatures: expected shapes {expected}, one for each axis, got {got}")
    return [rooted(as_float32(part, "signatures")) for part in signatures]
