"""Adaptive late fusion over a large gallery: memory and time, in numpy as evaluated and in the graph as served.

    python -m benchmarks.adaptive [--items 100000 1000] [--json benchmarks/results/adaptive.json]

Each row is a process of its own. `added_mib` is how far its resident memory rose, at the highest, above what it held
with the gallery loaded; `scores_mib` is what the whole score matrices of all parts would take. Recall is not measured:
the vectors are random, and what is asked is whether memory stays bounded.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.kept import add_json_option, keep

WIDTHS = (256, 256)
QUERIES = 1000
BATCH = 32
POLL_SECONDS = 0.002


def joined(count: int, seed: int) -> np.ndarray:
    """Return joined unit parts `[count, sum(WIDTHS)]`."""
    parts = np.random.default_rng(seed).standard_normal((len(WIDTHS), count, WIDTHS[0]), np.float32)
    parts /= np.linalg.norm(parts, axis=2, keepdims=True) * len(WIDTHS) ** 0.5
    return np.concatenate(list(parts), axis=1)


def resident_pages() -> int:
    """Return the pages of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1])


class PeakMemory:
    """How far the resident memory of this process rises while the block runs, in MiB."""

    def __enter__(self) -> PeakMemory:
        self._stop = threading.Event()
        self._start = self._highest = resident_pages()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._highest = max(self._highest, resident_pages())

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()
        self.added = (self._highest - self._start) * os.sysconf("SC_PAGE_SIZE") / 2**20


def evaluated(items: int) -> dict[str, Any]:
    """Measure the ranks of `QUERIES` captions among `items` images, as `evaluate` computes them."""
    from tfthesis.matching.scores import Comparison, Measure
    from tfthesis.metrics.recall import text_to_image_ranks

    compared = Comparison({"image": joined(items, 0), "text": joined(QUERIES, 1)}, WIDTHS)
    measure = Measure((0, 1), adaptive=True)
    owner = np.arange(QUERIES) % items
    start = time.perf_counter()
    with PeakMemory() as memory:
        text_to_image_ranks(compared.queries("text", measure), compared.candidates("image", measure), owner)
    return _row("evaluated", items, QUERIES, time.perf_counter() - start, memory)


def served(items: int) -> dict[str, Any]:
    """Measure an exact index's adaptive search for `BATCH` queries, after the first call."""
    import tensorflow as tf

    from tfthesis.method import Gallery
    from tfthesis.retrieval.adaptive import adaptive_search
    from tfthesis.retrieval.exact import ExactNeighbours

    index = ExactNeighbours(Gallery([str(row) for row in range(items)], joined(items, 0), [""] * items))
    queries = tf.constant(joined(BATCH, 1))
    search = tf.function(lambda rows: adaptive_search(index, rows, WIDTHS, 10))
    search.get_concrete_function(queries)
    with PeakMemory() as memory:
        search(queries)["ids"].numpy()
    start = time.perf_counter()
    search(queries)["ids"].numpy()
    return _row("served", items, BATCH, time.perf_counter() - start, memory)


def _row(what: str, items: int, queries: int, seconds: float, memory: PeakMemory) -> dict[str, Any]:
    whole = 4 * len(WIDTHS) * items * queries / 2**20
    figures = {"seconds": round(seconds, 3), "added_mib": round(memory.added), "scores_mib": round(whole)}
    return {"what": what, "items": items, "queries": queries, **figures}


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 100_000, 400_000])
    add_json_option(parser, "adaptive")
    arguments = parser.parse_args()
    rows = []
    for items in arguments.items:
        for measure in (evaluated, served):
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                rows.append(pool.submit(measure, items).result())
            row = rows[-1]
            print(
                f"{row['what']:10}{items:>8} items, {row['queries']:>5} queries: {row['seconds']:7.3f} s, "
                f"{row['added_mib']:>5} MiB added, whole score matrices {row['scores_mib']} MiB"
            )
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
