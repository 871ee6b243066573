"""The index of a dataset in memory's reach, and how it is asked: in one of several dimensions, or one for each axis."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from tfthesis.deep_index.data import IndexedImageData
from tfthesis.deep_index.model import codebooks, prepared
from tfthesis.errors import UserError
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.combining import fused, search_expanded
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.search import Answers, Scoring, search


@dataclasses.dataclass(frozen=True)
class Rules:
    """How images are searched, beside `Scoring`.

    Attributes:
        scoring: multiple assignment, idf, and the strength of the signatures.
        late_fusion: ask an index of one dimension for each axis and add their scores, instead of one index of all axes.
        expansion: best images that a query is averaged with before it is searched again; 0 searches once.
        whole: place of the patch that is the whole image, whose feature is the signature; None keeps no signatures.
        kind: how signatures are kept.
    """

    scoring: Scoring
    late_fusion: bool = False
    expansion: int = 0
    whole: int | None = 0
    kind: str = "float32"

    def __post_init__(self):
        if self.scoring.alpha and self.whole is None:
            raise UserError("alpha: signatures are features of the whole image; the pyramid's levels need a 1 for it")
        if self.late_fusion and self.expansion:
            raise UserError("expansion: a query is expanded in one index, not in several; leave out late_fusion")


@dataclasses.dataclass(frozen=True)
class Searcher:
    """Indexes of the same images, and how they are asked.

    Attributes:
        indexes: one over all axes, or with late fusion one for each axis.
        rules: how.
        features: prepared features `[N, P, M]` of the images for each axis, where queries are expanded; else empty.
    """

    indexes: tuple[Index, ...]
    rules: Rules
    features: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.indexes[0])

    def ask(self, features: Sequence[np.ndarray], n: int, scoring: Scoring | None = None) -> Answers:
        """Return the `n` best images for queries of prepared features `[B, P, M]` for each axis.

        Args:
            scoring: instead of that of the rules.
        """
        scoring = scoring or self.rules.scoring
        signatures = [part[:, self.rules.whole] for part in features] if scoring.alpha else []
        if self.rules.late_fusion:
            # Of all images, since one that is not among the answers of an index would count as unlike.
            parts = [
                search(index, [part], len(self), scoring, signatures[axis : axis + 1])
                for axis, (index, part) in enumerate(zip(self.indexes, features, strict=True))
            ]
            return fused(parts, n)
        (index,) = self.indexes
        if self.rules.expansion:
            images = self.rules.expansion
            return search_expanded(index, features, n, scoring, signatures, lookup=self._lookup, images=images)
        return search(index, features, n, scoring, signatures)

    def _lookup(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        own = [part[rows] for part in self.features]
        return own, [part[:, self.rules.whole] for part in own] if self.rules.whole is not None else []


def build_searcher(model: keras.Model, data: IndexedImageData, split: str, rules: Rules) -> Searcher:
    """Index the images of a split.

    The files of the index are mapped and no longer have a name: they go when the searcher does.

    Raises:
        UserError: the split has no images, or the index cannot be built.
    """
    ids, books = data.split(split).ids, codebooks(model)
    if not ids:
        raise UserError(f"{data.dataset.name}: split {split!r} has no images to search")
    parts = [[axis] for axis in range(len(books))] if rules.late_fusion else [list(range(len(books)))]
    indexes = []
    with tempfile.TemporaryDirectory(prefix="deep_index-") as folder:
        for number, axes in enumerate(parts):
            blocks = _blocks(model, data, split, rules, axes)
            signature = rules.kind if rules.scoring.alpha else None
            own = [books[axis] for axis in axes]
            indexes.append(build_index(Path(folder, str(number)), own, blocks, signature=signature))
        features = _held(model, data, split) if rules.expansion else ()
    return Searcher(tuple(indexes), rules, features)


def _blocks(
    model: keras.Model, data: IndexedImageData, split: str, rules: Rules, axes: Sequence[int]
) -> Iterator[Images]:
    ids = data.split(split).ids
    for rows, features in data.features(split):
        found = prepared(model, features)
        own = [found[axis] for axis in axes]
        signatures = [part[:, rules.whole] for part in own] if rules.scoring.alpha else ()
        yield Images([ids[row] for row in rows.tolist()], own, signatures)


def _held(model: keras.Model, data: IndexedImageData, split: str) -> tuple[np.ndarray, ...]:
    pieces = [prepared(model, features) for _, features in data.features(split)]
    return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
