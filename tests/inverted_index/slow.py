"""DeepIndex as plain loops over images and patches: slow, and obviously what the thesis says."""

from __future__ import annotations

import dataclasses
import decimal
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np

from tfthesis.inverted_index.building import Images
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.options import IDF
from tfthesis.inverted_index.search import Answers, Scoring

SIGNATURE = 3

# Enough digits and exponents for any score.
EXACTLY = decimal.Context(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)


@dataclasses.dataclass
class Case:
    """A small collection and queries to it.

    All features are small whole numbers, so that distances, and with "ratio" the sums of matches, have true ties.
    """

    codebooks: list[np.ndarray]
    names: list[str]
    features: list[np.ndarray]
    signatures: list[np.ndarray]
    queries: list[np.ndarray]
    query_signatures: list[np.ndarray]

    def books(self) -> list[Codebook]:
        return [Codebook(words) for words in self.codebooks]

    def block(self, rows: Sequence[int]) -> Images:
        """Return some of the images."""
        features, signatures = ([part[list(rows)] for part in parts] for parts in (self.features, self.signatures))
        return Images([self.names[row] for row in rows], features, signatures)

    def blocks(self, step: int, rows: Sequence[int] | None = None) -> list[Images]:
        rows = list(range(len(self.names)) if rows is None else rows)
        return [self.block(rows[start : start + step]) for start in range(0, len(rows), step)]

    def without(self, removed: Sequence[int]) -> Case:
        kept = [row for row in range(len(self.names)) if row not in removed]
        block = self.block(kept)
        return dataclasses.replace(self, names=list(block.names), features=block.features, signatures=block.signatures)


@st.composite
def cases(draw: st.DrawFn, axes: int | None = None, signed: bool = True) -> Case:
    axes = axes or draw(st.integers(1, 3))
    images, queries, patches = draw(st.integers(1, 12)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.integers(1, 6))
    sizes = [draw(st.integers(3, 6)) for _ in range(axes)]

    def features(count: int) -> list[np.ndarray]:
        return [rng.integers(0, spread, (count, patches, 2)).astype(np.float32) for _ in range(axes)]

    def signatures(count: int) -> list[np.ndarray]:
        return [rng.integers(-2 if signed else 0, 3, (count, SIGNATURE)).astype(np.float32) for _ in range(axes)]

    return Case(
        codebooks=[rng.integers(0, spread, (size, 2)).astype(np.float32) for size in sizes],
        names=[f"größe {row}" for row in rng.permutation(images)],
        features=features(images),
        signatures=signatures(images),
        queries=features(queries),
        query_signatures=signatures(queries),
    )


scorings = st.builds(
    Scoring,
    st.integers(1, 3),
    st.sampled_from(IDF),
    st.sampled_from([0.0, 0.5, 4.0, 20.0, 3e3, 1e5]),
    st.sampled_from([0, 0, 1, 2, 5]),
)


def nearest(vector: np.ndarray, words: np.ndarray, count: int) -> list[int]:
    squares = [sum((a - b) ** 2 for a, b in zip(vector.tolist(), word, strict=True)) for word in words.tolist()]
    return sorted(range(len(words)), key=lambda word: (squares[word], word))[:count]


def cell(case: Case, features: list[np.ndarray], item: int, patch: int) -> tuple[int, ...]:
    return tuple(nearest(part[item, patch], words, 1)[0] for part, words in zip(features, case.codebooks, strict=True))


def root(vector: np.ndarray) -> list[float]:
    total = sum(abs(x) for x in vector.tolist())
    return [float(np.float32(math.copysign(math.sqrt(abs(x) / (total or 1)), x))) for x in vector.tolist()]


def weighed(total: Fraction, case: Case, image: int, query: int, alpha: float) -> Decimal:
    """Return the sum of matches times c of Eq 4.4 and 4.5, with the sign of the text, to 24 binary digits."""
    distance = Fraction(0)
    for mine, theirs in zip(case.signatures, case.query_signatures, strict=True):
        kernel = math.fsum(a * b for a, b in zip(root(mine[image]), root(theirs[query]), strict=True))
        distance += max(Fraction(0), 2 - 2 * Fraction(float(np.float32(kernel))))
    if not total:
        return Decimal(0)
    exponent = Fraction(alpha) * distance
    with decimal.localcontext(EXACTLY):
        score = Decimal(total.numerator) / total.denominator
        score *= (-Decimal(exponent.numerator) / exponent.denominator).exp()
        unit = Decimal(2) ** (int((score.ln() / Decimal(2).ln()).to_integral_value(decimal.ROUND_FLOOR)) - 23)
        return (score / unit).to_integral_value(decimal.ROUND_HALF_EVEN) * unit


def as_float32(score: Decimal) -> float:
    """Return a score as float32, 0 where it is too small for a normal one."""
    return float(score) if score >= Decimal(float(np.finfo(np.float32).tiny)) else 0.0


def slow_search(case: Case, n: int, scoring: Scoring) -> list[list[tuple[int, float]]]:
    """Return `(row, score)` of the best images for each query."""
    images, patches = len(case.names), case.features[0].shape[1]
    cells = [[cell(case, case.features, image, patch) for patch in range(patches)] for image in range(images)]
    found = []
    for query in range(len(case.queries[0])):
        sums = {}
        for image in range(images):
            hits = []
            for patch in range(patches):
                words = [
                    nearest(part[query, patch], words, scoring.assignments)
                    for part, words in zip(case.queries, case.codebooks, strict=True)
                ]
                for asked in itertools.product(*words):
                    holders = sum(asked in theirs for theirs in cells)
                    for theirs in cells[image]:
                        if theirs == asked:
                            ratio = Fraction(images, holders)
                            weights = {"ratio": ratio**2, "log": Fraction(math.log(ratio) ** 2), "none": Fraction(1)}
                            hits.append(weights[scoring.idf])
            if hits:
                sums[image] = Fraction(sum(hits))
        # Sorting is stable, and leaves equal scores in the order of the rows.
        if scoring.alpha and scoring.candidates:
            plain = {image: weighed(total, case, image, query, 0.0) for image, total in sums.items()}
            sums = {
                image: sums[image]
                for image in sorted(sorted(sums, key=plain.__getitem__, reverse=True)[: scoring.candidates])
            }
        scores = {image: weighed(total, case, image, query, scoring.alpha) for image, total in sums.items()}
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)
        found.append([(image, as_float32(scores[image])) for image in ranked[:n]])
    return found


def as_lists(answers: Answers) -> list[list[tuple[int, float]]]:
    """Return answers as `slow_search` does, and check how they are filled up."""
    found = []
    for rows, scores in zip(answers.rows, answers.scores, strict=True):
        count = int((rows >= 0).sum())
        assert (rows[:count] >= 0).all()
        assert (scores[count:] == 0).all()
        found.append(list(zip(rows[:count].tolist(), scores[:count].tolist(), strict=True)))
    return found
