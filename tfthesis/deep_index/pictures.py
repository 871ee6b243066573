"""Pictures of an index: what queries find, and how its words are used."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfthesis.data.images import ImageSource, decode, read_image
from tfthesis.deep_index.data import IndexedImageData
from tfthesis.deep_index.evaluation import SHOWN, best_answers
from tfthesis.deep_index.searching import Rules, Searcher, build_searcher
from tfthesis.drawing import save
from tfthesis.method import Picture

_QUERIES = 6


def index_pictures(model: keras.Model, data: IndexedImageData, split: str, rules: Rules, folder: Path) -> list[Picture]:
    """Draw the best answers to some queries of `split`, and the words' use."""
    searcher = build_searcher(model, data, split, rules)
    drawn = [use_picture(searcher, folder)]
    if data.split(split).queries:
        drawn.insert(0, answers_picture(model, data, split, searcher, folder))
    return drawn


def answers_picture(
    model: keras.Model, data: IndexedImageData, split: str, searcher: Searcher, folder: Path
) -> Picture:
    """Draw queries with what they find, as Fig 4.7 does; relevant images have green frames."""
    dataset = data.split(split)
    numbers = np.unique(np.linspace(0, len(dataset.queries) - 1, _QUERIES).astype(int)).tolist()
    found = best_answers(model, data, searcher, split, numbers, SHOWN)
    figure = Figure(figsize=(1.5 * (SHOWN + 1), 1.55 * len(numbers)), layout="constrained")
    axes = figure.subplots(len(numbers), SHOWN + 1, squeeze=False)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    for line, number in enumerate(numbers):
        query = dataset.queries[number]
        axes[line, 0].imshow(_pixels(dataset.images[query.row] if query.row >= 0 else query.image))
        axes[line, 0].set_title("query", fontsize=8)
        for place, row in enumerate(found.rows[line].tolist()):
            axis = axes[line, 1 + place]
            if row < 0:
                axis.axis("off")
                continue
            axis.imshow(_pixels(dataset.images[row]))
            axis.set_title(f"{found.scores[line, place]:.3g}", fontsize=8)
            right = row in query.relevant
            for spine in axis.spines.values():
                spine.set(color="green" if right else "firebrick", linewidth=3)
    text = f"Queries of {dataset.name} and the {SHOWN} best answers with their scores; green frames: what they ask for."
    return save(figure, folder / "answers.png", text)


def use_picture(searcher: Searcher, folder: Path) -> Picture:
    """Draw how many cells hold how many images; long lists cost time and tell little."""
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    for number, index in enumerate(searcher.indexes):
        counts = np.sort(np.asarray(index.counts))[::-1]
        words = " x ".join(map(str, index.sizes))
        label = f"{words} words, {len(counts):,} cells in use"
        axes.plot(np.arange(1, len(counts) + 1), counts, label=label, color=f"C{number}")
    axes.set(xscale="log", yscale="log", xlabel="cell, the fullest first", ylabel="images in it")
    axes.legend(fontsize=8)
    text = f"Images in each cell of the index of {len(searcher):,} images."
    return save(figure, folder / "cells.png", text)


def _pixels(image: ImageSource) -> np.ndarray:
    with tf.device("CPU"):
        return decode(tf.constant(read_image(image))).numpy()
