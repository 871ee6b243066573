"""Curves of a run as SVG: losses, validation scores and learning rate over epochs, and the curves of an evaluation."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGE_COLOUR, GRID_COLOUR = "#8a93a5", "#e8ebf0"
COLOURS = ("#2459a8", "#d1495b", "#2e8b57", "#e0a100", "#7a4fa3", "#4aa3b5")
"""Of the lines of one panel, in their order; further lines have them again, dashed."""
PANELS, PANEL_WIDTH, PANEL_HEIGHT = 3, 2.6, 1.8
"""Panels in a row, and the size of each in inches."""

GROUPS = {
    "loss": "Losses on the training split over epochs.",
    "family": "Figures of the model of which there are several, over epochs.",
    "validation": "Figures on the validation split over epochs; selection picks the weights.",
    "rate": "Learning rate over epochs.",
}
HIDDEN = frozenset({"stage", "epoch", "step"})

Line = tuple[Sequence[float], Sequence[float]]


def draw_metrics(rows: Sequence[Mapping[str, str]]) -> list[tuple[bytes, str]]:
    """Return `(SVG, caption)` for each group of columns of `metrics.csv`, a panel a column or family of columns.

    Columns that differ only in a number at their end, such as `fusion_weight_1` and `fusion_weight_2`, are a family:
    the lines of one panel.

    Args:
        rows: a row an epoch, in order, with the column `stage`; a dashed line marks each new stage.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in HIDDEN]
    points = {name: found for name in names if (found := _points(rows, name))}
    panels = _families(points)
    stages = [row["stage"] for row in rows]
    begins = [i + 0.5 for i in range(len(stages)) if i and stages[i] != stages[i - 1]]
    drawn = []
    for group, caption in GROUPS.items():
        own = {name: lines for name, lines in panels.items() if _group(name, lines) == group}
        if own:
            parts = [stage for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
            dashes = f" Dashed lines part the stages: {', '.join(parts)}." if begins else ""
            drawn.append((_draw(own, begins, len(rows)), caption + _lines_text(own) + dashes))
    return drawn


def draw_curves(curves: Mapping[str, Line]) -> list[tuple[bytes, str]]:
    """Return `(SVG, caption)` for the curves of an evaluation, a panel each."""
    panels = {name: {name: line} for name, line in curves.items()}
    return [(_draw(panels), "Curves of the evaluation.")] if panels else []


def _families(points: Mapping[str, Line]) -> dict[str, dict[str, Line]]:
    """Return the lines of each panel: those of a family by their number, or one by its own name."""
    stems = {name: match[1] for name in points if (match := re.fullmatch(r"(.+)_\d+", name))}
    sizes = Counter(stems.values())
    panels: dict[str, dict[str, Line]] = {}
    for name, line in points.items():
        stem = stems.get(name)
        if stem is not None and sizes[stem] > 1 and stem not in points:
            panels.setdefault(stem, {})[name.removeprefix(f"{stem}_")] = line
        else:
            panels[name] = {name: line}
    return panels


def _group(name: str, lines: Mapping[str, Line]) -> str:
    """Return which figure a panel belongs to."""
    if name.startswith("learning_rate"):
        return "rate"
    if name.startswith("val_") or name == "selection":
        return "validation"
    return "family" if len(lines) > 1 else "loss"


def _lines_text(panels: Mapping[str, Mapping[str, Line]]) -> str:
    """Return a sentence on the panels with several lines; none without such a panel."""
    several = [f"{_words(name)} {', '.join(lines)}" for name, lines in panels.items() if len(lines) > 1]
    return f" In one panel each: {'; '.join(several)}." if several else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _points(rows: Sequence[Mapping[str, str]], name: str) -> Line | None:
    """Return epochs, counted from 1, and values where the column holds a finite number; None if nowhere."""
    found = []
    for epoch, row in enumerate(rows, start=1):
        try:
            value = float(row.get(name) or "nan")
        except ValueError:
            continue
        if math.isfinite(value):
            found.append((epoch, value))
    return tuple(map(list, zip(*found, strict=True))) if found else None


def _draw(panels: Mapping[str, Mapping[str, Line]], begins: Sequence[float] = (), epochs: int = 0) -> bytes:
    """Return small plots side by side as SVG; drawn without pyplot, whose state is global.

    Args:
        panels: lines of each plot by its title; several have a legend.
        begins: where a stage begins; lines are not drawn across, as its figures may mean something else.
        epochs: length of the horizontal axis, the same for all; 0 fits each to its lines.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / PANELS)
    figure = Figure(figsize=(PANELS * PANEL_WIDTH, rows * PANEL_HEIGHT), layout="constrained")
    grid = figure.subplots(rows, PANELS, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, lines) in zip(grid, panels.items(), strict=False):
        for number, (label, line) in enumerate(lines.items()):
            _draw_line(axes, line, begins, label, number)
        for begin in begins:
            axes.axvline(begin, color=STAGE_COLOUR, linewidth=0.8, linestyle="--")
        values = np.concatenate([np.asarray(y, float) for _, y in lines.values()])
        if (values > 0).all() and name.startswith("learning_rate") and values.max() >= 10 * values.min():
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        if epochs:
            axes.set_xlim(0.5, epochs + 0.5)
        if len(lines) > 1:
            axes.legend(fontsize=6, ncols=math.ceil(len(lines) / 4), frameon=False, handlelength=1.5)
        axes.locator_params(axis="x", integer=bool(epochs), nbins=5)
        axes.set_title(_words(name), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID_COLOUR, linewidth=0.7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_line(axes: Axes, line: Line, begins: Sequence[float], label: str, number: int) -> None:
    """Add a line that is broken where a stage begins; its `number` in the panel gives its look."""
    x, y = (np.asarray(values, float) for values in line)
    # No figure at the place of a new stage breaks the line there.
    cuts = np.searchsorted(x, begins)
    axes.plot(
        np.insert(x, cuts, begins),
        np.insert(y, cuts, np.nan),
        label=label,
        color=COLOURS[number % len(COLOURS)],
        linestyle="-" if number < len(COLOURS) else "--",
        marker="o" if len(x) < 8 else None,
        markersize=3,
    )
