"""Curves of a run as SVG: losses, validation scores and learning rate over epochs, and the curves of an evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLOUR, STAGE_COLOUR, GRID_COLOUR = "#2459a8", "#8a93a5", "#e8ebf0"
PANELS, PANEL_WIDTH, PANEL_HEIGHT = 3, 2.6, 1.8
"""Panels in a row, and the size of each in inches."""

GROUPS = {
    "loss": "Losses on the training split over epochs.",
    "validation": "Figures on the validation split over epochs; selection picks the weights.",
    "rate": "Learning rate over epochs.",
}
HIDDEN = frozenset({"stage", "epoch", "step"})


def draw_metrics(rows: Sequence[Mapping[str, str]]) -> list[tuple[bytes, str]]:
    """Return `(SVG, caption)` for each group of columns of `metrics.csv`, a panel a column.

    Args:
        rows: a row an epoch, in order, with the column `stage`; a dashed line marks each new stage.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in HIDDEN]
    points = {name: found for name in names if (found := _points(rows, name))}
    stages = [row["stage"] for row in rows]
    begins = [i + 0.5 for i in range(len(stages)) if i and stages[i] != stages[i - 1]]
    drawn = []
    for group, caption in GROUPS.items():
        panels = {name: xy for name, xy in points.items() if _group(name) == group}
        if panels:
            parts = [stage for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
            dashes = f" Dashed lines part the stages: {', '.join(parts)}." if begins else ""
            drawn.append((_draw(panels, begins, len(rows)), caption + dashes))
    return drawn


def draw_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[tuple[bytes, str]]:
    """Return `(SVG, caption)` for the curves of an evaluation, a panel each."""
    return [(_draw(curves), "Curves of the evaluation.")] if curves else []


def _group(name: str) -> str:
    """Return which figure a column belongs to."""
    if name.startswith("learning_rate"):
        return "rate"
    return "validation" if name.startswith("val_") or name == "selection" else "loss"


def _points(rows: Sequence[Mapping[str, str]], name: str) -> tuple[list[int], list[float]] | None:
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


def _draw(panels: Mapping[str, tuple[Any, Any]], begins: Sequence[float] = (), epochs: int = 0) -> bytes:
    """Return small plots side by side as SVG; drawn without pyplot, whose state is global.

    Args:
        panels: x and y of each plot by its title.
        begins: where a stage begins; lines are not drawn across, as its figures may mean something else.
        epochs: length of the horizontal axis, the same for all; 0 fits each to its line.
    """
    from matplotlib.figure import Figure

    lines = math.ceil(len(panels) / PANELS)
    figure = Figure(figsize=(PANELS * PANEL_WIDTH, lines * PANEL_HEIGHT), layout="constrained")
    grid = figure.subplots(lines, PANELS, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, (x, y)) in zip(grid, panels.items(), strict=False):
        x, y = np.asarray(x, float), np.asarray(y, float)
        # No figure at the place of a new stage breaks the line there.
        cuts = np.searchsorted(x, begins)
        marker = "o" if len(x) < 8 else None
        axes.plot(np.insert(x, cuts, begins), np.insert(y, cuts, np.nan), color=COLOUR, marker=marker, markersize=3)
        for begin in begins:
            axes.axvline(begin, color=STAGE_COLOUR, linewidth=0.8, linestyle="--")
        if (y > 0).all() and name.startswith("learning_rate") and y.max() >= 10 * y.min():
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        if epochs:
            axes.set_xlim(0.5, epochs + 0.5)
        axes.locator_params(axis="x", integer=bool(epochs), nbins=5)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID_COLOUR, linewidth=0.7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
