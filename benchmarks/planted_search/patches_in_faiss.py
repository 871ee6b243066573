"""FAISS's inverted files over the same patches: what they hold, and images ranked by the patches that they find."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import numpy as np

from benchmarks.planted_search.collection import PATCHES, WIDTH, Planted
from benchmarks.planted_search.timing import ASKED, KINDS, SCORINGS, SIGNATURES, figures, name_of, rule_of, timed
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.index import Index
from tfthesis.inverted_index.options import Scoring
from tfthesis.inverted_index.search import idf, summed, weighed
from tfthesis.inverted_index.signatures import rooted

try:
    import faiss
except ImportError:
    faiss = None

PROBES, NEIGHBOURS = (1, 2, 3, 6), (32, 128, 512, 1024, 1536, 2048)
FAISS_KINDS = ("IVF-Flat", "IVF-PQ")
#: Bytes of a patch in IVF-PQ beside its number.
PQ_BYTES = 16


class RecordedCodebook(Codebook):
    """A codebook that keeps the words of the collection, so that the other indexes need not look for them again."""

    def __init__(self, words: np.ndarray, patches: int):
        super().__init__(words)
        self.recorded = np.empty(patches, np.int32)
        self.count, self.seconds = 0, 0.0

    def nearest(self, vectors: np.ndarray, count: int = 1) -> np.ndarray:
        """Return the nearest words, and keep them."""
        start = time.perf_counter()
        found = super().nearest(vectors, count)
        self.seconds += time.perf_counter() - start
        self.recorded[self.count : self.count + len(found)] = found[:, 0]
        self.count += len(found)
        return found


class FaissIndexes:
    """FAISS's indexes over the patches of a collection, filled while it is read for ours."""

    def __init__(self, data: Planted, book: RecordedCodebook):
        self._book = book
        self._coarse = faiss.IndexFlatL2(WIDTH)
        self._coarse.add(book.words)
        self.indexes = {
            "IVF-Flat": faiss.IndexIVFFlat(self._coarse, WIDTH, len(book)),
            "IVF-PQ": faiss.IndexIVFPQ(self._coarse, WIDTH, len(book), PQ_BYTES, 8),
        }
        self.seconds = {}
        sample = data.sample(100_000)
        for kind, index in self.indexes.items():
            start = time.perf_counter()
            index.train(sample)
            self.seconds[kind] = time.perf_counter() - start

    def add(self, first: int, features: np.ndarray) -> None:
        """Add the patches of images from the row `first` on, whose words are recorded."""
        flat = features.reshape(-1, WIDTH)
        numbers = np.arange(first * PATCHES, first * PATCHES + len(flat))
        words = self._book.recorded[numbers].astype(np.int64)
        for kind, index in self.indexes.items():
            start = time.perf_counter()
            index.add_core(len(flat), *map(faiss.swig_ptr, (flat, numbers, words)))
            self.seconds[kind] += time.perf_counter() - start

    def measured(
        self, index: Index, queries: np.ndarray, true: np.ndarray, mine: dict[str, dict[str, float]]
    ) -> dict[str, dict[str, Any]]:
        """Return build, size and figures of each index, by one thread, and the settings that find as much as ours.

        Args:
            index: ours, over the same patches.
            true: rows of the images that each query should find.
            mine: figures of `index`, by setting.
        """
        faiss.omp_set_num_threads(1)
        found = {}
        for kind, theirs in self.indexes.items():
            size = PATCHES * (8 + (PQ_BYTES if kind == "IVF-PQ" else 4 * WIDTH))
            seconds = round(self.seconds[kind] + self._book.seconds, 1)
            row = {"build_seconds": seconds, "bytes_an_image": size}
            row |= faiss_rows(theirs, self._book.recorded, index, queries, true)
            row["at_equal_recall"] = {
                name_of(scoring): at_equal_recall(mine[name_of(scoring)], row[rule_of(scoring)]) for scoring in SCORINGS
            }
            found[kind] = row
        faiss.omp_set_num_threads(os.cpu_count())
        return found


def ranked(
    index: Index, query: np.ndarray, patches: np.ndarray, weights: np.ndarray, words: np.ndarray, scoring: Scoring
) -> np.ndarray:
    """Return the best images of the patches that were found, by the rule of our index.

    Args:
        query: `[1, PATCHES, WIDTH]`.
        patches: numbers of patches, -1 for none.
        weights: of each word.
        words: of each patch.
        scoring: how signatures weigh them.
    """
    patches = patches[patches >= 0]
    asked = np.zeros(len(patches), np.int64)
    best = (scoring.candidates or None) if scoring.alpha else ASKED
    # Each patch of the query may find each patch of an image.
    found = summed(asked, patches // PATCHES, weights[words[patches]], len(index), best, PATCHES**2)
    if scoring.alpha:
        found, ranks = weighed(index, found, [rooted(query[:, 0])], ASKED, scoring)
    else:
        ranks = ranking.ranks(found.sums)
    return found.rows[ranking.best_of_each(found.queries, found.rows, ranks, ASKED)[0]]


def faiss_rows(
    theirs: Any, words: np.ndarray, index: Index, queries: np.ndarray, true: np.ndarray
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of an index of FAISS by how its hits are weighed, and by setting.

    The search for patches is the same however they are weighed: it is done and timed once.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for probes, neighbours in itertools.product(PROBES, NEIGHBOURS):
        theirs.nprobe = probes
        hits, searched = timed(
            lambda query, k: theirs.search(query, k)[1].reshape(-1), ((q, neighbours) for q in queries)
        )
        for kind, (alpha, candidates) in itertools.product(KINDS, SIGNATURES):
            scoring = Scoring(1, kind, alpha, candidates)
            weights = np.zeros(index.sizes[0])
            weights[index.lists.keys] = idf(index.counts, len(index), kind) ** 2

            def rank(query: np.ndarray, patches: np.ndarray, weights=weights, scoring=scoring) -> np.ndarray:
                return ranked(index, query, patches, weights, words, scoring)

            found, times = timed(rank, zip(queries[:, None], hits, strict=True))
            setting = rows.setdefault(rule_of(scoring), {})
            setting[f"nprobe={probes}, k={neighbours}"] = figures(found, true, searched + times)
    return rows


def at_equal_recall(mine: dict[str, float], settings: dict[str, dict[str, float]]) -> dict[str, Any] | None:
    """Return the fastest setting with at least our recall, or None."""
    enough = {name: row for name, row in settings.items() if row["recall"] >= mine["recall"]}
    name = min(enough, key=lambda name: enough[name]["ms"], default=None)
    return name and {"setting": name, **enough[name]}
