"""DeepIndex against FAISS's inverted files: build, memory, query time and recall, up to a million images.

    python -m benchmarks.deep_index [--images 10000 100000 1000000] [--json benchmarks/results/deep_index.json]
    python -m benchmarks.deep_index --draw

Images are 14 patches of 64 numbers. A patch lies around one of 20,000 centres. Some images are planted in groups of
four: views of one scene, of which each keeps the whole image and most of the other patches, moved by noise. A query is
a further view of a group, and recall@4 the share of its four images among the first four answers. The signature is the
whole image's patch; what it finds alone, without an index, stands beside.

All three indexes share one codebook and the word of every patch. FAISS returns the nearest patches of the lists that it
probes, ours counts all patches of a cell; what a patch then adds to its image is the same, idf^2 of its cell, once with
the ratio of the thesis and once with its logarithm. GIS: the sums of all three are weighed by the same signatures with
the same code. Times are of one query after another, from features to image numbers, on warm data, by one thread; the
indexes are built by all. "at equal recall" is the fastest setting of FAISS that reaches at least ours. FAISS is the
extra `bench`; without it its rows are left out. A picture of the growth is drawn beside the JSON, from it alone;
`--draw` does no more than that.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.kept import add_json_option, keep
from tfthesis.drawing import save
from tfthesis.inverted_index import ranking
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.codebook import Codebook, fit_codebook
from tfthesis.inverted_index.index import Index, open_index, thesis_bytes
from tfthesis.inverted_index.options import IDF, Scoring
from tfthesis.inverted_index.projection import unit
from tfthesis.inverted_index.pyramid import patches_an_image
from tfthesis.inverted_index.search import idf, search, summed, weighed
from tfthesis.inverted_index.signatures import rooted

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
#: Noise of a view around its scene, and the share of the parts that it keeps.
MOVED, KEPT = 0.7, 0.7
ALPHA = 8.0
#: Images that are asked for.
ASKED = 10
OURS = tuple(Scoring(assignments, kind, alpha) for kind in IDF for assignments in (1, 3) for alpha in (0.0, ALPHA))
PROBES, NEIGHBOURS = (1, 3, 6), (32, 128, 512, 2048)
FAISS_KINDS = ("IVF-Flat", "IVF-PQ")
RULES = tuple(f"{kind} {gis}" for kind in IDF for gis in ("no GIS", "GIS"))
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
        views = unit(self._scenes[groups] + MOVED * noise(generator, len(groups), PATCHES))
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


def timed(ask: Callable[..., Any], queries: Iterable[tuple]) -> tuple[list[Any], np.ndarray]:
    """Return the answer to each query, and the milliseconds that it took by the clock and of the processor, `[Q, 2]`.

    On a machine that others use too, the processor's time leaves out the time that they had the processor.
    """
    queries = list(queries)
    for query in queries[:10]:
        ask(*query)
    answers, times = [], np.empty((len(queries), 2))
    for number, query in enumerate(queries):
        start, start_busy = time.perf_counter(), time.thread_time()
        answers.append(ask(*query))
        times[number] = time.perf_counter() - start, time.thread_time() - start_busy
    return answers, 1e3 * times


def figures(found: Iterable[np.ndarray], true: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """Return recall@4 of rows, best first, and the time of a query: the median and what 95% of them stay below."""
    recall = np.mean([np.isin(theirs, mine[:GROUP]).mean() for mine, theirs in zip(found, true, strict=True)])
    ms, ms_cpu = np.median(times, axis=0)
    values = {"ms": ms, "ms_p95": np.percentile(times[:, 0], 95), "ms_cpu": ms_cpu}
    return {"recall": round(float(recall), 4), **{name: round(float(value), 3) for name, value in values.items()}}


def rule_of(kind: str, alpha: float) -> str:
    """Return what a way to weigh matches is called in tables."""
    return f"{kind} {'GIS' if alpha else 'no GIS'}"


def name_of(scoring: Scoring) -> str:
    """Return what a setting is called in tables."""
    return f"{scoring.idf} MA={scoring.assignments} {'GIS' if scoring.alpha else 'no GIS'}"


def ours(index: Index, queries: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float]]:
    """Return figures of each setting of `OURS`, and the time of a query in a batch."""
    rows = {}
    for scoring in OURS:

        def ask(query: np.ndarray, scoring: Scoring = scoring) -> np.ndarray:
            return search(index, [query], ASKED, scoring, [query[:, 0]]).rows

        found, times = timed(ask, ((query[None],) for query in queries))
        start, start_busy = time.perf_counter(), time.thread_time()
        ask(queries)
        batch = (time.perf_counter() - start, time.thread_time() - start_busy)
        ms, ms_cpu = (round(1e3 * seconds / len(queries), 3) for seconds in batch)
        row = figures([part[0] for part in found], true, times)
        rows[name_of(scoring)] = {**row, "batch_ms": ms, "batch_ms_cpu": ms_cpu}
    return rows


def signatures_alone(index: Index, queries: np.ndarray, true: np.ndarray) -> float:
    """Return recall@4 of a scan of all signatures."""
    roots = [rooted(queries[:, 0])]
    rows = np.arange(len(index))
    found = []
    for query in range(len(queries)):
        distances = index.signatures.distances(np.full(len(rows), query), rows, roots, np.float32)
        found.append(np.argpartition(distances, GROUP)[:GROUP])
    return figures(found, true, np.zeros((1, 2)))["recall"]


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


def ranked(
    index: Index, query: np.ndarray, patches: np.ndarray, weights: np.ndarray, words: np.ndarray, alpha: float
) -> np.ndarray:
    """Return the best images of the patches that were found, by the rule of our index.

    Args:
        query: `[1, PATCHES, WIDTH]`.
        patches: numbers of patches, -1 for none.
        weights: of each word.
        words: of each patch.
    """
    patches = patches[patches >= 0]
    asked = np.zeros(len(patches), np.int64)
    # Each patch of the query may find each patch of an image.
    count = None if alpha else ASKED * PATCHES**2
    found = summed(asked, patches // PATCHES, weights[words[patches]], len(index), count)
    if alpha:
        found, ranks = weighed(index, found, [rooted(query[:, 0])], ASKED, alpha)
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
        for kind, alpha in itertools.product(IDF, (0.0, ALPHA)):
            weights = np.zeros(index.sizes[0])
            weights[index.lists.keys] = idf(index.counts, len(index), kind) ** 2

            def rank(query: np.ndarray, patches: np.ndarray, weights=weights, alpha=alpha) -> np.ndarray:
                return ranked(index, query, patches, weights, words, alpha)

            found, times = timed(rank, zip(queries[:, None], hits, strict=True))
            setting = rows.setdefault(rule_of(kind, alpha), {})
            setting[f"nprobe={probes}, k={neighbours}"] = figures(found, true, searched + times)
    return rows


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
    others = FaissIndexes(data, book) if faiss else None
    beside = 0.0

    def blocks() -> Iterator[Images]:
        nonlocal beside
        start = time.perf_counter()
        for first, features in data.blocks():
            beside += time.perf_counter() - start
            yield Images([f"{first + row:07d}" for row in range(len(features))], [features], [features[:, 0]])
            start = time.perf_counter()
            if others:
                others.add(first, features)
        beside += time.perf_counter() - start

    start = time.perf_counter()
    build_index(folder, [book], blocks(), signature=signature)
    # Drawing the collection and filling FAISS's indexes is no part of it.
    seconds = time.perf_counter() - start - beside
    row: dict[str, Any] = {"images": images, "build_seconds": round(seconds, 1)}
    start = time.perf_counter()
    index = open_index(folder)
    row |= {"open_seconds": round(time.perf_counter() - start, 2), "assign_seconds": round(book.seconds, 1)}
    row["bytes_an_image"] = {name: round(size, 1) for name, size in index.bytes_an_image().items()}
    row["bytes_an_image"]["in the thesis's layout"] = thesis_bytes([WIDTH])
    with threadpool_limits(1):
        row["ours"] = ours(index, queries, true)
        row["signatures alone"] = {"recall": signatures_alone(index, queries, true)}
        if others:
            faiss.omp_set_num_threads(1)
            for kind, theirs in others.indexes.items():
                size = PATCHES * (8 + (PQ_BYTES if kind == "IVF-PQ" else 4 * WIDTH))
                row[kind] = {"build_seconds": round(others.seconds[kind] + book.seconds, 1), "bytes_an_image": size}
                row[kind] |= faiss_rows(theirs, book.recorded, index, queries, true)
                row[kind]["at_equal_recall"] = {
                    name_of(scoring): at_equal_recall(
                        row["ours"][name_of(scoring)], row[kind][rule_of(scoring.idf, scoring.alpha)]
                    )
                    for scoring in OURS
                }
            faiss.omp_set_num_threads(os.cpu_count())
    return row


def table(row: dict[str, Any]) -> str:
    """Return the figures of one collection as aligned text."""
    size = row["bytes_an_image"]["total"]
    built = f"built in {row['build_seconds']} s, {row['assign_seconds']} s of it to find words"
    lines = [
        f"{row['images']:,} images: {built}; {size:.0f} bytes an image; opened in {row['open_seconds']} s;"
        f" signatures alone: recall {row['signatures alone']['recall']:.3f}"
    ]
    for name, mine in row["ours"].items():
        line = f"  {name:18} recall {mine['recall']:.3f}  {mine['ms']:7.2f} ms (95%: {mine['ms_p95']:.2f}, "
        line += f"processor: {mine['ms_cpu']:.2f}, in a batch: {mine['batch_ms_cpu']:.2f})"
        for kind in FAISS_KINDS:
            if kind in row:
                other = row[kind]["at_equal_recall"][name]
                line += f" | {kind} " + (
                    f"{other['ms']:.2f} ms (processor: {other['ms_cpu']:.2f}) at {other['recall']:.3f}, "
                    f"{other['setting']}"
                    if other
                    else "never so good"
                )
        lines.append(line)
    for kind in FAISS_KINDS:
        if kind in row:
            best = {rule: max(setting["recall"] for setting in row[kind][rule].values()) for rule in RULES}
            lines.append(
                f"  {kind}: built in {row[kind]['build_seconds']} s, {row[kind]['bytes_an_image']} bytes an image; "
                f"best recall of any setting: {', '.join(f'{rule} {recall:.3f}' for rule, recall in best.items())}"
            )
    return "\n".join(lines)


def draw(figures_file: Path) -> Path:
    """Draw how build, memory and query time grow, from the JSON of the benchmark; return the path of the picture."""
    collections = json.loads(figures_file.read_text())["rows"]["collections"]
    images = [row["images"] for row in collections]
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    time_axes, build_axes, size_axes = figure.subplots(1, 3)
    for number, name in enumerate(collections[0]["ours"]):
        if not name.startswith("log"):
            continue
        colour = f"C{number % 4}"
        time_axes.plot(images, [row["ours"][name]["ms"] for row in collections], "o-", color=colour, label=name)
        for kind, style in zip(FAISS_KINDS, ("s--", "^:"), strict=True):
            found = [(row["images"], row[kind]["at_equal_recall"][name]) for row in collections if kind in row]
            found = [(count, other["ms"]) for count, other in found if other]
            if found:
                time_axes.plot(*np.transpose(found), style, color=colour, label=f"{kind}, no worse recall", alpha=0.6)
    for style, kind in zip(("o-", "s--", "^:"), ("DeepIndex", *FAISS_KINDS), strict=True):
        rows = [row if kind == "DeepIndex" else row.get(kind) for row in collections]
        if None in rows:
            continue
        build_axes.plot(images, [row["build_seconds"] for row in rows], style, label=kind)
        sizes = [row["bytes_an_image"] for row in rows]
        sizes = [size["total"] if isinstance(size, dict) else size for size in sizes]
        size_axes.plot(images, sizes, style, label=kind)
    for axes, title in (
        (time_axes, "Time of a query, ms (idf with logarithm)"),
        (build_axes, "Build, s"),
        (size_axes, "Bytes an image"),
    ):
        axes.set(xscale="log", yscale="log", xlabel="images", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    path = figures_file.with_suffix(".png")
    save(figure, path, "Growth of the inverted index.")
    return path


def main() -> None:
    """Measure every number of images, print tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--training-patches", type=int, default=200_000)
    parser.add_argument("--signature", default="int8", help="how signatures are kept")
    parser.add_argument("--draw", action="store_true", help="draw the figures of the JSON again, measure nothing")
    add_json_option(parser, "deep_index")
    arguments = parser.parse_args()
    if arguments.draw:
        print(draw(arguments.json))
        return
    if faiss is None:
        print("FAISS is not installed: its rows are LEFT OUT. Install the extra `bench`: pip install -e .[bench]")
    start = time.perf_counter()
    words = fit_codebook(Planted(1000).sample(arguments.training_patches), arguments.words, iterations=3).words
    seconds = round(time.perf_counter() - start, 1)
    codebook = {"words": arguments.words, "patches": arguments.training_patches, "seconds": seconds}
    print(f"codebook of {arguments.words} words from {arguments.training_patches} patches: {seconds} s", flush=True)
    rows = []
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(images, words, arguments.signature, Path(folder) / "index"))
        print(table(rows[-1]), flush=True)
        keep(arguments.json, {"codebook": codebook, "collections": rows})
    print(f"growth drawn in {draw(arguments.json)}; {time.perf_counter() - start:.0f} s for all")


if __name__ == "__main__":
    main()
