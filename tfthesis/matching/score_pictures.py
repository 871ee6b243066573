"""Pictures of what a model with several scores compares: similarities, score curves, adaptive weights, spaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from tfthesis.drawing import save
from tfthesis.matching.embedding import MODALITIES, in_chunks
from tfthesis.matching.pictures import spread
from tfthesis.matching.scores import Comparison, Measure
from tfthesis.method import Picture

_PAIRS = 100
_POINTS = 60
_COLOURS = ("tab:red", "tab:blue", "tab:green")


def similarity_matrix(
    model: keras.Model, arrays: Any, folder: Path, measure: Measure | None = None, pairs: int = _PAIRS
) -> Picture:
    """Draw the scores of some images and a caption of each; on a bright diagonal matches score high (Fig 6.6)."""
    owners, captions = np.unique(arrays.owner, return_index=True)
    owners, captions = owners[:pairs], captions[:pairs]
    scores = Comparison.of(model, arrays).scores("image", owners, measure)[:, captions]
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow((scores + 1) / 2, vmin=0, vmax=1, cmap="viridis"))
    axes.set_xlabel("text")
    axes.set_ylabel("image")
    return save(figure, folder / "similarities.png", f"Scores of {len(owners)} images and texts, scaled to 0 to 1.")


def score_curves(model: keras.Model, arrays: Any, folder: Path, names: Sequence[str]) -> Picture:
    """Draw the sorted scores of one image and one text to all candidates, with the adaptive weights (Fig 6.5)."""
    compared = Comparison.of(model, arrays)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, modality in zip(figure.subplots(1, 2), MODALITIES, strict=True):
        row = spread(np.arange(len(compared.sides[modality])))[:2][-1:]
        weights = compared.weights(modality, dataclasses.replace(compared.whole, adaptive=True), row)[0]
        for part, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
            curve = np.sort(compared.scores(modality, row, Measure((part,)))[0])[::-1]
            axes.plot(curve, color=colour, label=f"{name}, weight {weights[part]:.3f}")
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.set_title(f"{modality} query")
        axes.set_xlabel("candidates, best first")
        axes.set_ylabel("cosine")
        axes.legend()
    caption = "Sorted scores of a query in each space; a smaller area above zero gives a larger weight."
    return save(figure, folder / "score_curves.png", caption)


def adaptive_weight_scatter(model: keras.Model, arrays: Any, folder: Path, names: Sequence[str]) -> Picture:
    """Draw the weights of the first two scores for every query of a split (Fig 6.7)."""
    compared = Comparison.of(model, arrays)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, modality in zip(figure.subplots(1, 2), MODALITIES, strict=True):
        weights = compared.weights(modality, Measure((0, 1), adaptive=True))
        for column, name in enumerate(names[:2]):
            axes.scatter(np.arange(len(weights)), weights[:, column], s=3, color=_COLOURS[column], label=name)
        axes.set_title(f"{len(weights)} {modality} queries")
        axes.set_ylim(0, 1)
        axes.set_ylabel("weight")
        axes.legend()
    return save(figure, folder / "adaptive_weights.png", "Adaptive weights of two scores, a dot a query and score.")


def space_maps(model: keras.Model, arrays: Any, folder: Path, pairs: Mapping[str, tuple[str, str]]) -> Picture:
    """Draw by t-SNE the outputs that each loss compares, matched ones in one colour (Fig 6.4).

    Args:
        pairs: title -> names of the two outputs.
    """
    owners, captions = np.unique(arrays.owner, return_index=True)
    rows = {"image": arrays.image[owners[:_POINTS]], "text": arrays.text[captions[:_POINTS]]}
    columns = max(1, -(-len(pairs) // 2))
    figure = Figure(figsize=(3.2 * columns, 6.4), layout="constrained")
    all_axes = figure.subplots(2, columns, squeeze=False).ravel()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, (title, names) in zip(all_axes, pairs.items(), strict=False):
        vectors = [
            in_chunks(lambda *parts, name=name: model(dict(zip(rows, parts, strict=True)))[name], *rows.values())
            for name in names
        ]
        unit = np.concatenate([v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in vectors])
        perplexity = max(2, min(20, len(unit) // 4))
        points = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(unit)
        count = len(vectors[0])
        for part, marker in ((points[:count], "o"), (points[count:], "*")):
            axes.scatter(*part.T, c=np.arange(count), cmap="hsv", marker=marker, s=18)
        axes.set_title(title, fontsize=9)
    caption = "What each loss compares, by t-SNE: mapped (dots) and target (stars), a colour a pair."
    return save(figure, folder / "spaces.png", caption)
