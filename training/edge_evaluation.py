"""Evaluate soft edge maps by the Berkeley benchmark: `python -m training.edge_evaluation --maps DIR --out DIR ...`.

The published maps of gPb-OWT-UCM, and their official results, as a check of the whole:

    python -m training.edge_evaluation --maps BSDS500/ucm_png/test --data-dir BSDS500/data \
      --compare BSDS500/ucm2/test_eval --out runs/ucm

The folder of results appears whole or not at all. An evaluation that was stopped goes on where it was: the counts of an
image are kept under a hash of its map, its edges and the protocol.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.edge_images import SOFT_MAP_ENDINGS, LazyEdges, edge_names, open_edges, read_soft_map
from tfthesis.data.options import reader_options
from tfthesis.edges.counting import VERSION, EdgeCounts, count_edges, even_thresholds
from tfthesis.edges.matching import MATCHINGS, MAX_DIST
from tfthesis.edges.official import OfficialResults
from tfthesis.edges.scores import EdgeScores, score_edges
from tfthesis.edges.thinning import suppress_non_maxima
from tfthesis.errors import UserError
from tfthesis.method import SPLITS
from tfthesis.processes import map_in_processes
from training.command_line import Parser, at_least_one
from training.environment import describe_machine
from training.files import replacing, sync_folder
from training.progress import Progress, make_progress

RESULTS, IMAGES, CURVE, COUNTS = "evaluation.json", "images.csv", "curve.png", "counts"
USER_ERROR, INTERRUPTED, TERMINATED = 2, 130, 143


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How maps are measured.

    Attributes:
        thresholds: ascending, within 0 to 1.
        max_dist: see `tfthesis.edges.matching.EdgePairs`.
        matching: "cardinality" or "cost"; see there.
        nms: whether maps pass non-maximum suppression first.
    """

    thresholds: tuple[float, ...] = tuple(even_thresholds().tolist())
    max_dist: float = MAX_DIST
    matching: str = MATCHINGS[0]
    nms: bool = False

    def identity(self) -> dict[str, Any]:
        """Return all that counts depend on beside map and edges."""
        return {"version": VERSION, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Job:
    """One image: its name, the file of its map, the annotators' edges, and where its counts are kept."""

    name: str
    map: Path
    edges: LazyEdges | np.ndarray
    protocol: Protocol
    kept: Path


def count_image(job: Job) -> tuple[EdgeCounts, bool]:
    """Return the counts of one image, kept ones if neither files nor protocol changed since, and whether they are new.

    Raises:
        UserError: a file cannot be read, or map and edges differ in size; the message names the file.
    """
    edges = job.edges if isinstance(job.edges, np.ndarray) else job.edges.read()
    soft = read_soft_map(job.map)
    if soft.shape != edges.shape[1:]:
        height, width = edges.shape[1:]
        raise UserError(f"{job.map}: expected a map of {height} x {width}, got {soft.shape[0]} x {soft.shape[1]}")
    digest = hashlib.sha256(json.dumps([job.protocol.identity(), edges.shape], sort_keys=True).encode())
    for array in (soft, np.packbits(edges)):
        digest.update(np.ascontiguousarray(array))
    key = digest.hexdigest()
    counts = _kept(job.kept, key)
    new = counts is None
    if counts is None:
        protocol = job.protocol
        if protocol.nms:
            soft = suppress_non_maxima(soft)
        counts = count_edges(soft, edges, protocol.thresholds, max_dist=protocol.max_dist, matching=protocol.matching)
        values = {name: array.tolist() for name, array in dataclasses.asdict(counts).items()}
        with replacing(job.kept) as file:
            file.write(json.dumps({"key": key, **values}).encode())
    return counts, new


def _kept(path: Path, key: str) -> EdgeCounts | None:
    """Return the counts of a file if it has the key; a damaged file counts as none."""
    try:
        found = json.loads(path.read_bytes())
        if found.pop("key") != key:
            return None
        return EdgeCounts(**{name: np.array(values, np.int64) for name, values in found.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def count_images(jobs: Sequence[Job], processes: int, progress: Progress) -> tuple[list[EdgeCounts], int]:
    """Return the counts of all images in their order, made by so many processes, and how many of them are new.

    Raises:
        UserError: what `count_image` raises; the counts of images that were done are kept.
    """
    done: list[EdgeCounts] = []
    fresh = 0
    calls = ((job,) for job in jobs)
    for counts, new in map_in_processes(count_image, calls, processes, "with fewer --jobs they need less memory"):
        done.append(counts)
        fresh += new
        progress.count("images", len(done), len(jobs))
    return done, fresh


def find_maps(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the map of each image: a file of its name, without folders, that ends in `.png` or `.npy`.

    Raises:
        UserError: some are missing; the message says how many and names the first ones.
    """
    if not folder.is_dir():
        raise UserError(f"--maps: no folder {folder}")
    found = {name: [folder / f"{Path(name).name}{ending}" for ending in SOFT_MAP_ENDINGS] for name in names}
    maps = {name: next((path for path in paths if path.is_file()), None) for name, paths in found.items()}
    missing = [name for name, path in maps.items() if path is None]
    if missing:
        raise UserError(
            f"{folder}: expected a map for each of {len(names)} images, {len(missing)} are missing, such as "
            f"{Path(missing[0]).name}.png or .npy"
        )
    return [path for path in maps.values() if path is not None]


def draw_curve(scores: EdgeScores, title: str) -> bytes:
    """Return precision over recall as PNG, with lines of equal F and the best point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for f in np.arange(1, 10) / 10:
        recall = np.linspace(f / (2 - f), 1, 100)
        axes.plot(recall, f * recall / (2 * recall - f), color="#c8d8c8", linewidth=0.7)
    axes.plot(scores.recall, scores.precision, color="#2459a8")
    axes.plot(scores.ods.recall, scores.ods.precision, "o", color="#2459a8", markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title(
        f"{title}: ODS {scores.ods.f:.4f}, OIS {scores.ois.f:.4f}, AP {scores.average_precision:.4f}", fontsize=9
    )
    axes.grid(color="#e8ebf0", linewidth=0.7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def contents(
    scores: EdgeScores, names: Sequence[str], asked: Mapping[str, Any], compared: Mapping[str, float]
) -> dict[str, bytes]:
    """Return every file of results by its name.

    Args:
        scores: of the images.
        names: of the images.
        asked: what was evaluated and how.
        compared: differences from other results, empty without any.
    """
    summary = {
        "ods": dataclasses.asdict(scores.ods),
        "ois": {name: value for name, value in dataclasses.asdict(scores.ois).items() if name != "threshold"},
        "ap": scores.average_precision,
    }
    curve = {name: getattr(scores, name).tolist() for name in ("thresholds", "recall", "precision", "f")}
    values = {**asked, "images": len(names), **summary, "curve": curve}
    if compared:
        values["differences"] = dict(compared)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "threshold", "recall", "precision", "f"])
    writer.writerows([name, *dataclasses.astuple(one)] for name, one in zip(names, scores.images, strict=True))
    return {
        RESULTS: (json.dumps(values, indent=1) + "\n").encode(),
        IMAGES: table.getvalue().encode(),
        CURVE: draw_curve(scores, f"{asked['dataset']} {asked['split']}"),
        **{name: text.encode() for name, text in OfficialResults.of(scores).texts().items()},
    }


class Output:
    """The folder of results, which appears whole or not at all; the counts of images wait beside it until then.

    Attributes:
        folder: of the results.
        partial: hidden sibling that becomes the folder.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare the hidden sibling, with the counts that an earlier evaluation left.

        Raises:
            UserError: the folder holds something else than an evaluation, or cannot be made.
        """
        self.folder = folder.resolve()
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        if self.folder.is_file() or (
            self.folder.exists() and not (self.folder / RESULTS).is_file() and any(self.folder.iterdir())
        ):
            raise UserError(f"--out {folder}: expected no such folder, an empty one or an evaluation")
        try:
            (self.partial / COUNTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {folder}: {error}") from error
        for path in (self.folder / COUNTS).glob("*.json"):
            if not (self.partial / COUNTS / path.name).exists():
                shutil.copy2(path, self.partial / COUNTS)

    def counts_of(self, name: str) -> Path:
        """Return the file that keeps the counts of an image."""
        return self.partial / COUNTS / f"{Path(name).name}.json"

    def finish(self, files: Mapping[str, bytes], kept: Sequence[Path]) -> None:
        """Write the results, leave only the counts in `kept`, and put the folder in the place of the one before."""
        for path in set((self.partial / COUNTS).iterdir()).difference(kept):
            path.unlink()
        for name, content in files.items():
            with replacing(self.partial / name) as file:
                file.write(content)
        before = self.folder.with_name(f".{self.folder.name}.before")
        # An evaluation that was killed here has left its predecessor.
        shutil.rmtree(before, ignore_errors=True)
        if self.folder.exists():
            os.replace(self.folder, before)
        os.replace(self.partial, self.folder)
        sync_folder(self.folder.parent)
        shutil.rmtree(before, ignore_errors=True)


def parser() -> Parser:
    """Return the options of the command."""
    options = Parser(prog="python -m training.edge_evaluation", description="Evaluate soft edge maps as BSDS500 does.")
    options.add_argument("--maps", type=Path, required=True, metavar="DIR", help="a map an image: NAME.png or NAME.npy")
    options.add_argument("--dataset", default="bsds500", metavar="NAME", help=f"{', '.join(edge_names())} (bsds500)")
    options.add_argument("--data-dir", type=Path, metavar="DIR", help="folder that holds the dataset")
    options.add_argument(
        "--reader", action="append", default=[], metavar="NAME=VALUE", help="option of the dataset; may be repeated"
    )
    options.add_choice("--split", SPLITS, default="test", help="whose images are measured (test)")
    options.add_argument(
        "--max-dist",
        type=float,
        default=MAX_DIST,
        metavar="SHARE",
        help="reach of a match in shares of the diagonal (.0075; NYUD also .011)",
    )
    options.add_choice("--matching", MATCHINGS, default=MATCHINGS[0], help=f"how pixels are paired ({MATCHINGS[0]})")
    options.add_argument(
        "--nms",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="suppress what is no maximum across the edge, as networks need (no)",
    )
    options.add_argument(
        "--thresholds", type=_thresholds, default=even_thresholds(), metavar="N|T,T,...", help="number or values (99)"
    )
    options.add_argument("--compare", type=Path, metavar="DIR", help="folder of official text files to compare with")
    options.add_argument(
        "--jobs", type=at_least_one, default=os.cpu_count() or 1, metavar="N", help="processes (one a core)"
    )
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    options.add_argument("--quiet", action="store_true", help="print only results and errors")
    return options


def _thresholds(text: str) -> np.ndarray:
    """Return thresholds `[T]` from a number of them or from values with commas."""
    if text.isdecimal():
        return even_thresholds(at_least_one(text))
    values = np.array([float(part) for part in text.split(",")])
    if (np.diff(values) <= 0).any() or not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("expected ascending values from 0 to 1")
    return values


def evaluate(options: argparse.Namespace) -> EdgeScores:
    """Do what the parsed options say; see `parser`.

    Raises:
        UserError: data or maps are missing or do not fit.
    """
    if not options.max_dist > 0:
        raise UserError(f"--max-dist: expected a share above 0, got {options.max_dist}")
    start = time.perf_counter()
    reference = OfficialResults.read(options.compare) if options.compare else None
    data = open_edges(options.dataset, options.data_dir, **reader_options(options.reader))
    split = data.split(options.split)
    if reference:
        reference.expect(len(split), options.thresholds)
    maps = find_maps(options.maps, split.ids)
    protocol = Protocol(tuple(options.thresholds.tolist()), options.max_dist, options.matching, options.nms)
    output = Output(options.out)
    jobs = [
        Job(name, path, edges, protocol, output.counts_of(name))
        for name, path, edges in zip(split.ids, maps, split.edges, strict=True)
    ]
    processes = min(options.jobs, len(jobs))
    with make_progress(options.quiet) as progress:
        counts, fresh = count_images(jobs, processes, progress)
    scores = score_edges(counts, protocol.thresholds)
    compared = OfficialResults.of(scores).differences(reference) if reference else {}
    how = {name: value for name, value in protocol.identity().items() if name != "thresholds"}
    asked = {"dataset": data.name, "split": options.split, "source": data.source, "protocol": how}
    # What was counted before costs no time now, so the number of images that were says what the seconds are of.
    seconds = round(time.perf_counter() - start, 1)
    asked["effort"] = {"seconds": seconds, "counted_images": fresh, "processes": processes}
    asked["machine"] = describe_machine()
    output.finish(contents(scores, split.ids, asked, compared), [job.kept for job in jobs])
    for name, value in compared.items():
        print(f"difference of {name}: {value:.6f}")
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options = parser().parse(sys.argv[1:] if argv is None else argv)
        signal.signal(signal.SIGTERM, _terminate)
        scores = evaluate(options)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    ods, ois = scores.ods, scores.ois
    print(f"ODS {ods.f:.4f} (threshold {ods.threshold:.3f}, recall {ods.recall:.4f}, precision {ods.precision:.4f})")
    print(f"OIS {ois.f:.4f} (recall {ois.recall:.4f}, precision {ois.precision:.4f})")
    print(f"AP {scores.average_precision:.4f}, {len(scores.images)} images, {options.out}")
    return 0


def _terminate(*_: Any) -> None:
    # Ends the processes too, which would otherwise wait for work for ever.
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
