"""Pictures of image-text models: retrieved items, the embedding map, the confusion matrix."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.manifold import TSNE

from tfthesis.drawing import confusion_picture, save
from tfthesis.matching.embedding import MODALITIES, embed, has_branch
from tfthesis.matching.evaluation import pair_logits
from tfthesis.matching.scores import Comparison, Measure
from tfthesis.method import Picture
from tfthesis.metrics.classification import confusion_matrix

_QUERIES = 4
_SHOWN = 5


def matching_pictures(
    model: keras.Model, data: Any, split: str, folder: Path, measure: Measure | None = None
) -> list[Picture]:
    """Draw what a matching or classifying model did on a split; `measure` is how it compares."""
    drawn = []
    if all(has_branch(model, modality) for modality in MODALITIES):
        for draw in (text_to_image_picture, image_to_text_picture):
            drawn.append(draw(model, data, split, folder, measure))
        drawn.append(embedding_map(model, data, split, folder))
    if "logits" in model.output and not data.spec.multi_label:
        arrays = data.arrays(split)
        predicted = pair_logits(model, arrays).argmax(axis=1)
        matrix = confusion_matrix(arrays.label, predicted, len(data.spec.classes))
        drawn.append(confusion_picture(matrix, data.spec.classes, folder))
    return drawn


def text_to_image_picture(
    model: keras.Model, data: Any, split: str, folder: Path, measure: Measure | None = None
) -> Picture:
    """Draw the best images for some captions, the right one framed in green (Fig 5.5, 6.8, 7.7b)."""
    arrays = data.arrays(split)
    captions = spread(np.arange(len(arrays.captions)))
    scores = Comparison.of(model, arrays).scores("text", captions, measure)
    figure = Figure(figsize=(2 * _SHOWN + 2.6, 2.2 * len(captions)), layout="constrained")
    axes = figure.subplots(len(captions), _SHOWN + 1, squeeze=False)
    for row, caption in enumerate(captions):
        _write(axes[row, 0], arrays.captions[caption])
        for column, image in enumerate(np.argsort(-scores[row], kind="stable")[:_SHOWN], start=1):
            right = image == arrays.owner[caption]
            _show(axes[row, column], data.image_bytes(split, int(image)), arrays.image_ids[image], right)
    return save(figure, folder / "text_to_image.png", "Captions and the images found for them, the right one framed.")


def image_to_text_picture(
    model: keras.Model, data: Any, split: str, folder: Path, measure: Measure | None = None
) -> Picture:
    """Draw the best captions for some images, the right ones in green (Fig 5.5, 6.8, 7.7a)."""
    arrays = data.arrays(split)
    images = spread(np.arange(len(arrays.image_ids)))
    scores = Comparison.of(model, arrays).scores("image", images, measure)
    figure = Figure(figsize=(10, 2.2 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 4))
    for row, image in enumerate(images):
        _show(axes[row, 0], data.image_bytes(split, int(image)), arrays.image_ids[image], False)
        axes[row, 1].axis("off")
        for line, caption in enumerate(np.argsort(-scores[row], kind="stable")[:_SHOWN]):
            colour = "green" if arrays.owner[caption] == image else "black"
            text = f"{line + 1}. {textwrap.shorten(arrays.captions[caption], 110)}"
            axes[row, 1].text(0, 0.9 - 0.2 * line, text, color=colour, va="top", parse_math=False)
    return save(figure, folder / "image_to_text.png", "Images and the captions found for them; right ones are green.")


def embedding_map(model: keras.Model, data: Any, split: str, folder: Path, limit: int = 200) -> Picture:
    """Draw images and captions of a split in the plane by t-SNE of their embeddings (Fig 7.3)."""
    arrays = data.arrays(split)
    images = min(limit, len(arrays.image_ids))
    captions = np.flatnonzero(arrays.owner < images)
    vectors = np.concatenate(
        [embed(model, "image", arrays.image[:images]), embed(model, "text", arrays.text[captions])]
    )
    perplexity = max(2, min(30, len(vectors) // 4))
    points = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(vectors)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points[images:].T, s=4, c="tab:green", label="caption")
    axes.scatter(*points[:images].T, s=14, c="tab:red", label="image")
    axes.legend()
    axes.set_axis_off()
    return save(figure, folder / "embedding_map.png", "Embeddings of images (red) and captions (green) by t-SNE.")


def spread(rows: np.ndarray) -> np.ndarray:
    """Return a few rows, evenly spread, always the same ones."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, _QUERIES).astype(int))]


def _show(axes: Any, data: bytes | None, name: str, right: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="green" if right else "lightgrey", linewidth=4 if right else 1)
    if data is None:
        axes.text(0.5, 0.5, name, ha="center", va="center", parse_math=False)
        return
    with Image.open(io.BytesIO(data)) as image:
        axes.imshow(np.asarray(image.convert("RGB")))


def _write(axes: Any, text: str) -> None:
    axes.axis("off")
    axes.text(0, 0.5, textwrap.fill(text, 24), va="center", parse_math=False)
