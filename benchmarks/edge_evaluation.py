"""Edge evaluation beside a straightforward version in SciPy: processor seconds an image, their ratio, and memory.

    python -m benchmarks.edge_evaluation [--images 3] [--thresholds 9] [--maps ucm_png/test --data-dir DIR]

Scenes of 160 pixels are drawn, and their maps are what the annotators agree on, blurred, with noise. With folders the
first images of BSDS500's test split follow, in the order of their names. Both versions count the same pixels, which is
checked: the numbers of matched true pixels have to be equal. SciPy's bipartite matching needs ten seconds and more for
some maps (the first photograph is one), which is why the library asks for a maximum flow. Each count has a process of
its own, so that its peak of memory is its own: what is kept is by how much it is above that before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist
from skimage.morphology import thin

from benchmarks.kept import add_json_option, keep
from tfthesis.data.edge_images import open_edges, read_soft_map
from tfthesis.edges.counting import EdgeCounts, count_edges, even_thresholds
from tfthesis.edges.matching import MATCHINGS, MAX_DIST
from tfthesis.edges.thinning import triangle_blur
from training.edge_evaluation import find_maps

SIDE = 160


def count_plainly(edges: np.ndarray, annotators: np.ndarray, thresholds: np.ndarray) -> EdgeCounts:
    """Return the counts of `tfthesis.edges.counting.count_edges`, threshold by threshold and annotator by annotator."""
    reach = MAX_DIST * np.hypot(*edges.shape)
    counts = np.zeros((4, len(thresholds)), np.int64)
    for column, threshold in enumerate(thresholds):
        predicted = np.argwhere(thin(edges >= threshold))
        matched = np.zeros(len(predicted), bool)
        for annotator in annotators:
            truth = np.argwhere(annotator)
            counts[1, column] += len(truth)
            if len(predicted) and len(truth):
                near = scipy.sparse.csr_array(cdist(predicted, truth) <= reach)
                partner = maximum_bipartite_matching(near, perm_type="column")
                matched |= partner >= 0
                counts[0, column] += (partner >= 0).sum()
        counts[2:, column] = matched.sum(), len(predicted)
    return EdgeCounts(*counts)


def drawn(images: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, soft map and annotators' edges of drawn scenes."""
    split = open_edges("scenes", images=(1, 1, images), size=SIDE).split("test")
    for name, annotators in zip(split.ids, split.edges, strict=True):
        noise = np.random.default_rng(len(name)).uniform(size=(SIDE, SIDE))
        soft = triangle_blur(annotators.mean(axis=0), 2) + 0.2 * triangle_blur(noise, 1)
        yield name, soft / soft.max(), annotators


def of_files(maps: Path, directory: Path, images: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, soft map and annotators' edges of BSDS500's first test images."""
    split = open_edges("bsds500", directory).split("test").take(np.arange(images))
    for name, path, edges in zip(split.ids, find_maps(maps, split.ids), split.edges, strict=True):
        yield name, read_soft_map(path), edges.read()


def measured(count: Callable[..., EdgeCounts], *given: np.ndarray, **options: str) -> tuple[float, float, EdgeCounts]:
    """Return seconds of the processor, whatever else it does, MiB and the result of a call in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (count, given, options))


def _measure(
    count: Callable[..., EdgeCounts], given: Sequence[np.ndarray], options: dict[str, str]
) -> tuple[float, float, EdgeCounts]:
    before, start = _peak_mib(), time.process_time()
    found = count(*given, **options)
    return time.process_time() - start, _peak_mib() - before, found


def _peak_mib() -> float:
    """Return the peak of this process; that of `resource` starts at what its parent had."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge_evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--thresholds", type=int, default=9)
    parser.add_argument("--maps", type=Path, metavar="DIR", help="maps of BSDS500's test split")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder data of BSDS500")
    add_json_option(parser, "edge_evaluation")
    options = parser.parse_args(argv)
    if (options.maps is None) != (options.data_dir is None):
        parser.error("give both --maps and --data-dir, or none")
    photographs = of_files(options.maps, options.data_dir, options.images) if options.maps else ()
    thresholds, rows = even_thresholds(options.thresholds), []
    for name, soft, annotators in (*drawn(options.images), *photographs):
        row = {"image": name, "size": list(soft.shape), "annotators": len(annotators), "thresholds": len(thresholds)}
        row["plain_s"], row["plain_mib"], plain = measured(count_plainly, soft, annotators, thresholds)
        for matching in MATCHINGS:
            row[f"{matching}_s"], row[f"{matching}_mib"], counts = measured(
                count_edges, soft, annotators, thresholds, matching=matching
            )
            if not np.array_equal(counts.matched_truth, plain.matched_truth):
                raise SystemExit(f"{name}: matching {matching!r} finds other numbers of pixels than the plain version")
            row[f"{matching}_ratio"] = row["plain_s"] / row[f"{matching}_s"]
        rows.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    keep(options.json, rows)


if __name__ == "__main__":
    main()
