"""Sweeps and curves as SVG, with the interval of the mean over seeds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from training.reproduction.comparison import Outcome, RowResult, curve
from training.reproduction.table import Column
from training.statistics import Summary, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2459a8", "#c8553d", "#3b8f5d", "#8a5fb0", "#b8860b", "#4a8fa3", "#a83e6e", "#6b7280")
Line = tuple[str, list[float], list[Summary]]


def draw(outcome: Outcome) -> str | None:
    """Return the drawing of a sweep or a curve; None for a table or without a run."""
    kind = outcome.edition.table.kind
    if kind == "table":
        return None
    find = sweep_lines if kind == "sweep" else curve_lines
    columns = outcome.columns
    lines = {column.scalar: find(outcome, column) for column in columns}
    if not any(lines.values()):
        return None
    return _plot(outcome, columns, lines)


def sweep_lines(outcome: Outcome, column: Column) -> list[Line]:
    """Return for each series of a sweep the values of the parameter and the figures there."""
    series: dict[str, list[RowResult]] = {}
    for result in outcome.rows:
        if result.summary(column.scalar) is not None:
            series.setdefault(result.row.series, []).append(result)
    return [
        (name, [result.row.x for result in found], [result.summary(column.scalar) for result in found])
        for name, found in series.items()
    ]


def curve_lines(outcome: Outcome, column: Column) -> list[Line]:
    """Return for each row the epochs and the validation figures, as far as all its runs go."""
    lines = []
    for result in outcome.rows:
        runs = [points for record in result.records.values() if (points := curve(outcome.edition, column, record))]
        if runs:
            epochs = min(map(len, runs))
            summaries = [summarize([points[i] for points in runs]) for i in range(epochs)]
            lines.append((result.row.label, [float(i + 1) for i in range(epochs)], summaries))
    return lines


def _plot(outcome: Outcome, columns: list[Column], lines: dict[str, list[Line]]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    table = outcome.edition.table
    wide = 4.2 * len(columns)
    # A fixed salt makes equal drawings equal files.
    with matplotlib.rc_context({"svg.hashsalt": outcome.edition.name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(max(wide, 5.0), 3.2), layout="constrained")
        panels = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            _panel(axes, column, lines[column.scalar], table.kind)
            axes.set_xlabel(table.parameter if table.kind == "sweep" else "epoch")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _panel(axes: Axes, column: Column, lines: list[Line], kind: str) -> None:
    for i, (name, x, summaries) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        marker = "o" if kind == "sweep" else None
        axes.plot(x, [s.mean for s in summaries], color=colour, marker=marker, markersize=4, linewidth=1.6, label=name)
        if all(s.low is not None for s in summaries):
            low, high = [s.low for s in summaries], [s.high for s in summaries]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if lines and kind == "sweep" and min(lines[0][1]) > 0 and max(lines[0][1]) > 15 * min(lines[0][1]):
        axes.set_xscale("log")
    axes.set_title(column.label, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8ebf0", linewidth=0.7)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
