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
the same code, "GIS of 512" weighs only the 512 largest. Times are of one query after another, from features to image
numbers, on warm data, by one thread; the indexes are built by all. "at equal recall" is the fastest setting of FAISS
that reaches at least ours. FAISS is the extra `bench`; without it its rows are left out. A picture of the growth is
drawn beside the JSON, from it alone; `--draw` does no more than that. The collection, the timing, FAISS's side and the
picture are modules of `benchmarks/planted_search`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kept import add_json_option, keep
from benchmarks.planted_search import patches_in_faiss
from benchmarks.planted_search.collection import GROUP, PATCHES, WIDTH, Planted
from benchmarks.planted_search.patches_in_faiss import FaissIndexes, RecordedCodebook
from benchmarks.planted_search.report import draw, table
from benchmarks.planted_search.timing import ASKED, SCORINGS, figures, name_of, timed
from tfthesis.inverted_index.building import Images, build_index
from tfthesis.inverted_index.codebook import fit_codebook
from tfthesis.inverted_index.index import Index, open_index, thesis_bytes
from tfthesis.inverted_index.options import Scoring
from tfthesis.inverted_index.search import search
from tfthesis.inverted_index.signatures import rooted


def ours(index: Index, queries: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float]]:
    """Return figures of each setting of `SCORINGS`, and the time of a query in a batch."""
    rows = {}
    for scoring in SCORINGS:

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


def compare(images: int, words: np.ndarray, signature: str, folder: Path) -> dict[str, Any]:
    """Return the figures of all indexes over one collection."""
    data = Planted(images)
    queries, true = data.queries()
    book = RecordedCodebook(words, images * PATCHES)
    others = FaissIndexes(data, book) if patches_in_faiss.faiss else None
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
            row |= others.measured(index, queries, true, row["ours"])
    return row


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
    if patches_in_faiss.faiss is None:
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
