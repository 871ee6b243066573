"""ScaNN against the exact search, both exported and asked through a Session as TensorFlow Serving does it.

    python -m benchmarks.neighbours [--items 100000] [--width 512] [--json benchmarks/results/neighbours.json]

Two galleries of unit vectors, each asked with queries that are not in it:

- embeddings: laid out as image-text models lay out their embeddings. Topics of very unequal size (shares
  fall as 1 / rank) lie in a 48-dimensional subspace, items scatter around their topic, and a little noise
  fills all dimensions. A query is the other modality's view of an item: the item moved by noise of its own,
  at a cosine of about .8.
- uniform: spread evenly over the sphere, the hardest case, which no trained model produces.

Leaves are chosen on one half of a sample of queries and recall@10 is measured on others. "kind" is what the
exporter would write.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks.kept import add_json_option, keep
from tfthesis.export.saved_model import write_saved_model
from tfthesis.export.session import open_session
from tfthesis.method import Gallery, Served, Signature
from tfthesis.retrieval.exact import ExactNeighbours
from tfthesis.retrieval.measure import median_seconds, recall
from tfthesis.retrieval.neighbours import Neighbours
from tfthesis.retrieval.scann_neighbours import (
    BATCHES,
    RECALL_AT,
    RECALL_TARGET,
    SAMPLE,
    SPEED_TARGET,
    ScannNeighbours,
)

QUERIES = 1024
TOPICS = 2000
SUBSPACE = 48


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return `vectors` `[N, D]` scaled to length one, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def embeddings(items: int, width: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a gallery like a trained model's, `[items, width]`, and queries `[QUERIES, width]`."""
    shares = 1 / np.arange(1, TOPICS + 1)
    topic = generator.choice(TOPICS, size=items, p=shares / shares.sum())
    centres = generator.normal(size=(TOPICS, SUBSPACE))
    latent = centres[topic] + 0.6 * generator.normal(size=(items, SUBSPACE))
    basis = np.linalg.qr(generator.normal(size=(width, SUBSPACE)))[0].T
    noise = 0.2 * np.sqrt(SUBSPACE / width)
    gallery = unit(latent @ basis + noise * generator.normal(size=(items, width)))
    asked = generator.choice(items, QUERIES, replace=False)
    moved = latent[asked] + 0.8 * generator.normal(size=(QUERIES, SUBSPACE))
    return gallery, unit(moved @ basis + noise * generator.normal(size=(QUERIES, width)))


def uniform(items: int, width: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return directions drawn evenly, `[items, width]`, and queries `[QUERIES, width]`."""
    return tuple(unit(generator.standard_normal((count, width), np.float32)) for count in (items, QUERIES))


def write_search(neighbours: Neighbours, folder: Path, query: np.ndarray) -> Path:
    """Export one `search` signature and return the version's folder."""
    spec = tf.TensorSpec([None, neighbours.dimension], name="queries")
    signature = Signature(
        lambda queries: neighbours.search(queries, RECALL_AT), {"queries": spec}, {"queries": query}, "search"
    )
    return write_saved_model(Served({"search": signature}, [neighbours]), folder / neighbours.kind, metadata={})


def compare(vectors: np.ndarray, queries: np.ndarray, folder: Path) -> dict[str, Any]:
    """Return recall, times and sizes of both kinds over one gallery."""
    gallery = Gallery([str(row) for row in range(len(vectors))], vectors, [""] * len(vectors))
    exact = ExactNeighbours(gallery)
    start = time.perf_counter()
    approximate = ScannNeighbours(gallery)
    seconds = round(time.perf_counter() - start, 1)
    row: dict[str, Any] = {"items": exact.size, "width": exact.dimension, "build_seconds": seconds}
    approximate.tune(exact, [queries[:SAMPLE]])
    row |= {"leaves": approximate.leaves, "leaves_searched": approximate.leaves_to_search}
    paths = [write_search(kind, folder, queries[:1]) for kind in (approximate, exact)]
    held_out = queries[SAMPLE:]
    with contextlib.ExitStack() as stack:
        searches = [stack.enter_context(open_session(path)).callable("search") for path in paths]
        chunks = np.split(held_out, len(held_out) // 64)
        found, true = (np.concatenate([search({"queries": part})["ids"] for part in chunks]) for search in searches)
        row["recall_at_10"] = round(recall(found.astype(int), true.astype(int)), 4)
        for size in BATCHES:
            batch = {"queries": held_out[:size]}
            fast, slow = median_seconds([functools.partial(search, batch) for search in searches], repeats=31)
            figures = {"scann_ms": 1e3 * fast, "exact_ms": 1e3 * slow, "speed_up": slow / fast}
            row[f"batch_{size}"] = {name: round(value, 3) for name, value in figures.items()}
    speed = min(row[f"batch_{size}"]["speed_up"] for size in BATCHES)
    row["kind"] = "scann" if row["recall_at_10"] >= RECALL_TARGET and speed >= SPEED_TARGET else "exact"
    return row


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the figures as aligned text."""
    lines = [f"{'gallery':12}{'leaves':>10}{'recall@10':>11}" + "".join(
        f"{f'exact B={size}, ms':>16}{'scann, ms':>11}{'speed-up':>10}" for size in BATCHES) + "  kind"]  # fmt: skip
    for name, row in rows.items():
        leaves = f"{row['leaves_searched']}/{row['leaves']}"
        line = f"{name:12}{leaves:>10}{row['recall_at_10']:11.3f}"
        for size in BATCHES:
            times = row[f"batch_{size}"]
            line += f"{times['exact_ms']:16.2f}{times['scann_ms']:11.2f}{times['speed_up']:10.1f}"
        lines.append(f"{line}  {row['kind']}")
    return "\n".join(lines)


def main() -> None:
    """Measure both galleries, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    add_json_option(parser, "neighbours")
    arguments = parser.parse_args()
    rows = {}
    for name, draw in (("embeddings", embeddings), ("uniform", uniform)):
        vectors, queries = draw(arguments.items, arguments.width, np.random.default_rng(0))
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = compare(vectors, queries, Path(folder))
    print(f"{arguments.items} items of width {arguments.width}, {os.cpu_count()} cores")
    print(table(rows))
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
