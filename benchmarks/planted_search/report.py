"""The figures of the comparison as text and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.planted_search.patches_in_faiss import FAISS_KINDS
from benchmarks.planted_search.timing import KINDS, SIGNATURES, rule_of
from tfthesis.drawing import save
from tfthesis.inverted_index.options import Scoring

RULES = tuple(rule_of(Scoring(1, kind, *signatures)) for kind in KINDS for signatures in SIGNATURES)


def table(row: dict[str, Any]) -> str:
    """Return the figures of one collection as aligned text."""
    size = row["bytes_an_image"]["total"]
    built = f"built in {row['build_seconds']} s, {row['assign_seconds']} s of it to find words"
    lines = [
        f"{row['images']:,} images: {built}; {size:.0f} bytes an image; opened in {row['open_seconds']} s;"
        f" signatures alone: recall {row['signatures alone']['recall']:.3f}"
    ]
    for name, mine in row["ours"].items():
        line = f"  {name:22} recall {mine['recall']:.3f}  {mine['ms']:7.2f} ms (95%: {mine['ms_p95']:.2f}, "
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
        colour = f"C{number % 6}"
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
