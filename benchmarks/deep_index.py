"""DeepIndex against FAISS's inverted files: build, memory, query time and recall, up to a million images.

    python -m benchmarks.deep_index [--images 10000 100000 1000000] [--json benchmarks/results/deep_index.json]

Images are 14 patches of 64 numbers. A patch lies around one of 20,000 centres. Some images are planted in groups of
four: views of one scene, of which each keeps the whole image and most of the other patches, moved by noise, the whole
by less. A query is a further view of a group, and recall@4 the share of its four images among the first four answers.

All three indexes share one codebook and the word of every patch. FAISS returns the nearest patches of the lists that it
probes, ours counts all patches of a cell; what a patch then adds to its image is the same, idf^2 of its cell, once with
the ratio of the thesis and once with its logarithm; GIS stands for the signatures, which FAISS has not. All is done by
one thread; times are of one query after another, from features to image numbers, on warm data. "at equal recall" is the
fastest setting of FAISS that reaches at least ours. FAISS is the extra `bench`; without it its rows are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kept import add_json_option, keep
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.codebook import Codebook, fit_codebook
from tfthesis.inverted_index.index import Index, open_index, thesis_bytes
from tfthesis.inverted_index.projection import unit
from tfthesis.inverted_index.pyramid import patches_an_image
from tfthesis.inverted_index.search import IDF, Scoring, best_images, idf, search

try:
    import faiss
except ImportError:
    faiss = None

WIDTH = 64
PATCHES = patches_an_image()
CENTRES = 20_000
GROUP = 4
QUERIES = 200
BLOCK = 10_000
#: Noise of a patch around its centre.
SPREAD = 0.5
#: Noise of a view around its scene: of its parts and of the whole, and the share of the parts that it keeps.
MOVED, MOVED_WHOLE, KEPT = 0.7, 0.35, 0.7
ALPHA = 8.0
OURS = tuple(Scoring(assignments, kind, alpha) for kind in IDF for assignments in (1, 3) for alpha in (0.0, ALPHA))
PROBES, NEIGHBOURS = (1, 3), (16, 64, 256, 1024)
#: Bytes of a patch in IVF-PQ beside its number.
PQ_BYTES = 16


def noise(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Return directions of length about one, float32 `[*shape, WIDTH]`."""
    return generator.standard_normal((*shape, WIDTH), np.float32) / np.float32(np.sqrt(WIDTH))


@dataclasses.dataclass
class Planted:
    """A collection that is drawn block by block, the same for the same seed."""

    images: int
    seed: int = 0

    def __post_init__(self):
        self._centres = noise(np.random.default_rng([self.seed, 0]), CENTRES)
        generator = np.random.default_rng([self.seed, 1])
        self.groups = min(2 * QUERIES, self.images // (5 * GROUP))
        self._scenes = self._random(generator, self.groups)
        self.rows = generator.choice(self.images, (self.groups, GROUP), replace=False)

    def _random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        centres = self._centres[generator.integers(CENTRES, size=(count, PATCHES))]
        return unit(centres + SPREAD * noise(generator, count, PATCHES))

    def _views(self, generator: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """Return a view `[n, PATCHES, WIDTH]` of the scene of each of `groups` `[n]`."""
        moved = np.full((PATCHES, 1), MOVED, np.float32)
        moved[0] = MOVED_WHOLE
        views = unit(self._scenes[groups] + moved * noise(generator, len(groups), PATCHES))
        lost = generator.random((len(groups), PATCHES)) > KEPT
        lost[:, 0] = False
        return np.where(lost[..., None], self._random(generator, len(groups)), views)

    def sample(self, patches: int) -> np.ndarray:
        """Return patches like those of the collection, to train on, `[patches, WIDTH]`."""
        generator = np.random.default_rng([self.seed, 2])
        return self._random(generator, -(-patches // PATCHES)).reshape(-1, WIDTH)[:patches]

    def queries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return queries `[Q, PATCHES, WIDTH]` and the rows of the four images of each, `[Q, GROUP]`."""
        groups = np.arange(min(QUERIES, self.groups))
        return self._views(np.random.default_rng([self.seed, 3]), groups), self.rows[: len(groups)]

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and the patches `[n, PATCHES, WIDTH]` of each block."""
        for start in range(0, self.images, BLOCK):
            generator = np.random.default_rng([self.seed, 4, start])
            count = min(BLOCK, self.images - start)
            features = self._random(generator, count)
            groups, places = np.nonzero((self.rows >= start) & (self.rows < start + count))
            features[self.rows[groups, places] - start] = self._views(generator, groups)
            yield start, features


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


def measured(ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return recall@4 and the time of a query in ms; `ask` takes patches and returns rows.

    "ms" is the median, "ms_p95" what 95% of the queries stay below. "ms_cpu" is the median of the processor's time: on
    a machine that others use too it leaves out the time that they had the processor.
    """
    for query in queries[:10]:
        ask(query)
    times, busy, found = [], [], []
    for query in queries:
        start, start_busy = time.perf_counter(), time.thread_time()
        found.append(ask(query))
        busy.append(1e3 * (time.thread_time() - start_busy))
        times.append(1e3 * (time.perf_counter() - start))
    recall = np.mean([np.isin(theirs, mine[:GROUP]).mean() for mine, theirs in zip(found, true, strict=True)])
    figures = {"ms": np.median(times), "ms_p95": np.percentile(times, 95), "ms_cpu": np.median(busy)}
    return {"recall": round(float(recall), 4), **{name: round(float(value), 3) for name, value in figures.items()}}


def name_of(scoring: Scoring) -> str:
    """Return what a setting is called in tables."""
    return f"{scoring.idf} MA={scoring.assignments} {'GIS' if scoring.alpha else 'no GIS'}"


def ours(index: Index, queries: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float]]:
    """Return figures of each setting of `OURS`."""
    rows = {}
    for scoring in OURS:

        def ask(query: np.ndarray, scoring: Scoring = scoring) -> np.ndarray:
            return search(index, [query[None]], 10, scoring, [query[None, 0]]).rows[0]

        rows[name_of(scoring)] = measured(ask, queries, true)
    return rows


def faiss_index(kind: str, data: Planted, book: RecordedCodebook) -> tuple[Any, float]:
    """Return `IndexIVFFlat` or `IndexIVFPQ` over the patches of `data`, and the seconds beside those to find words."""
    coarse = faiss.IndexFlatL2(WIDTH)
    coarse.add(book.words)
    if kind == "IVF-Flat":
        index = faiss.IndexIVFFlat(coarse, WIDTH, len(book))
    else:
        index = faiss.IndexIVFPQ(coarse, WIDTH, len(book), PQ_BYTES, 8)
    start = time.perf_counter()
    index.train(data.sample(100_000))
    seconds = time.perf_counter() - start
    for first, features in data.blocks():
        flat = features.reshape(-1, WIDTH)
        words = book.recorded[first * PATCHES :][: len(flat)].astype(np.int64)
        numbers = np.arange(first * PATCHES, first * PATCHES + len(flat))
        start = time.perf_counter()
        index.add_core(len(flat), *map(faiss.swig_ptr, (flat, numbers, words)))
        seconds += time.perf_counter() - start
    return index, seconds


def faiss_rows(
    kind: str, data: Planted, book: RecordedCodebook, index: Index, queries: np.ndarray, true: np.ndarray
) -> dict[str, Any]:
    """Return build time, bytes and the figures of FAISS by kind of idf and setting."""
    theirs, seconds = faiss_index(kind, data, book)
    size = PATCHES * (8 + (PQ_BYTES if kind == "IVF-PQ" else 4 * WIDTH))
    row: dict[str, Any] = {"build_seconds": round(seconds + book.seconds, 1), "bytes_an_image": size}
    for name in IDF:
        weights = np.zeros(len(book))
        weights[index.lists.keys] = idf(index.counts, data.images, name) ** 2

        def ask(query: np.ndarray, neighbours: int, weights: np.ndarray = weights) -> np.ndarray:
            patches = theirs.search(query, neighbours)[1].reshape(-1)
            patches = patches[patches >= 0]
            rows, places = np.unique(patches // PATCHES, return_inverse=True)
            return best_images(rows, np.bincount(places, weights[book.recorded[patches]]).astype(np.float32), 10)[0]

        figures = row[name] = {}
        for probes, neighbours in itertools.product(PROBES, NEIGHBOURS):
            theirs.nprobe = probes
            found = measured(lambda query, neighbours=neighbours, ask=ask: ask(query, neighbours), queries, true)
            figures[f"nprobe={probes}, k={neighbours}"] = found
    return row


def at_equal_recall(mine: dict[str, float], settings: dict[str, dict[str, float]]) -> dict[str, Any] | None:
    """Return the fastest setting with at least our recall, or None."""
    enough = {name: row for name, row in settings.items() if row["recall"] >= mine["recall"]}
    name = min(enough, key=lambda name: enough[name]["ms"], default=None)
    return name and {"setting": name, **enough[name]}


def compare(images: int, words: np.ndarray, signature: str, folder: Path) -> dict[str, Any]:
    """Return the figures of all indexes over one collection."""
    data = Planted(images)
    queries, true = data.queries()
    book = RecordedCodebook(words, images * PATCHES)
    blocks = (
        Images([f"{start + row:07d}" for row in range(len(features))], [features], [features[:, 0]])
        for start, features in data.blocks()
    )
    start = time.perf_counter()
    build_index(folder, [book], blocks, signature=signature)
    row: dict[str, Any] = {"images": images, "build_seconds": round(time.perf_counter() - start, 1)}
    start = time.perf_counter()
    index = open_index(folder)
    row |= {"open_seconds": round(time.perf_counter() - start, 2), "assign_seconds": round(book.seconds, 1)}
    row["bytes_an_image"] = {name: round(size, 1) for name, size in index.bytes_an_image().items()}
    row["bytes_an_image"]["in the thesis's layout"] = thesis_bytes([WIDTH])
    row["ours"] = ours(index, queries, true)
    start = time.perf_counter()
    search(index, [queries], 10, OURS[0])
    row["batch_ms_a_query"] = round(1e3 * (time.perf_counter() - start) / len(queries), 3)
    for kind in ("IVF-Flat", "IVF-PQ") if faiss else ():
        row[kind] = faiss_rows(kind, data, book, index, queries, true)
        row[kind]["at_equal_recall"] = {
            name_of(scoring): at_equal_recall(row["ours"][name_of(scoring)], row[kind][scoring.idf]) for scoring in OURS
        }
        gc.collect()
    return row


def table(row: dict[str, Any]) -> str:
    """Return the figures of one collection as aligned text."""
    size = row["bytes_an_image"]["total"]
    built = f"built in {row['build_seconds']} s, {row['assign_seconds']} s of it to find words"
    lines = [f"{row['images']:,} images: {built}; {size:.0f} bytes an image; {row['batch_ms_a_query']} ms in a batch"]
    for name, mine in row["ours"].items():
        line = f"  {name:18} recall {mine['recall']:.3f}  {mine['ms']:7.2f} ms (95%: {mine['ms_p95']:.2f})"
        for kind in ("IVF-Flat", "IVF-PQ"):
            if kind in row:
                other = row[kind]["at_equal_recall"][name]
                line += f" | {kind} " + (
                    f"{other['ms']:7.2f} ms at {other['recall']:.3f}" if other else "never so good"
                )
        lines.append(line)
    for kind in ("IVF-Flat", "IVF-PQ"):
        if kind in row:
            lines.append(
                f"  {kind}: built in {row[kind]['build_seconds']} s, {row[kind]['bytes_an_image']} bytes an image"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure every number of images, print tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--training-patches", type=int, default=200_000)
    parser.add_argument("--signature", default="int8", help="how signatures are kept")
    add_json_option(parser, "deep_index")
    arguments = parser.parse_args()
    if faiss is None:
        print("FAISS is not installed: its rows are LEFT OUT. Install the extra `bench`: pip install -e .[bench]")
    else:
        faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    words = fit_codebook(Planted(1000).sample(arguments.training_patches), arguments.words, iterations=3).words
    seconds = round(time.perf_counter() - start, 1)
    codebook = {"words": arguments.words, "patches": arguments.training_patches, "seconds": seconds}
    print(f"codebook of {arguments.words} words from {arguments.training_patches} patches: {seconds} s", flush=True)
    rows = []
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
            rows.append(compare(images, words, arguments.signature, Path(folder) / "index"))
        print(table(rows[-1]), flush=True)
        keep(arguments.json, {"codebook": codebook, "collections": rows})


if __name__ == "__main__":
    main()
