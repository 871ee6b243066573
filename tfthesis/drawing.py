"""Pictures that several kinds of methods draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfthesis.method import Picture


def confusion_picture(matrix: np.ndarray, classes: tuple[str, ...], folder: Path) -> Picture:
    """Draw a confusion matrix `[C, C]`, each row as shares of its class (Fig 7.11c)."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(share, vmin=0, vmax=1, cmap="viridis"))
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return save(figure, folder / "confusion.png", "Confusion matrix: share of each true class by predicted class.")


def save(figure: Figure, path: Path, caption: str) -> Picture:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure).print_png(str(path))
    return Picture(path, caption)
