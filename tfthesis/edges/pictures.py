"""Pictures of edge detection: maps beside what people drew, side outputs, and labels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfthesis.drawing import save
from tfthesis.edges.data import EdgeData
from tfthesis.edges.detection import EdgeDetector
from tfthesis.edges.evaluation import edge_maps
from tfthesis.edges.recipe import EdgeRecipe
from tfthesis.layers import LocallyConnectedFusion
from tfthesis.losses.edge_detection import SIDES
from tfthesis.method import Picture

_SHOWN = 4


def edge_pictures(model: keras.Model, data: EdgeData, recipe: EdgeRecipe, split: str, folder: Path) -> list[Picture]:
    """Draw what a network did on `split`; the curve of precision and recall stands in every report."""
    drawn = [
        map_picture(model, data, recipe, split, folder),
        side_picture(model, data, split, folder),
        label_picture(data, folder),
    ]
    fusions = [layer for layer in model.layers if isinstance(layer, LocallyConnectedFusion)]
    return [*drawn, *(place_picture(layer, folder) for layer in fusions)]


def map_picture(model: keras.Model, data: EdgeData, recipe: EdgeRecipe, split: str, folder: Path) -> Picture:
    """Draw a few images, the share of annotators at each pixel, and the predicted map (Figs 2.15 and 3.9)."""
    size = data.size(split)
    rows = np.unique(np.linspace(0, size - 1, min(_SHOWN, size)).astype(int))
    maps = list(edge_maps(model, data, recipe, split, rows))
    detector = EdgeDetector(model, recipe.test_scales)
    lines = {
        "image": [data.image(split, row) for row in rows],
        "people": [1 - data.annotators(split, row).mean(axis=0) for row in rows],
        "network": [1 - np.asarray(detector.probabilities(tf.constant(data.image(split, row)))) for row in rows],
        "measured": [1 - found for found in maps],
    }
    text = "Images, the edges that people drew, those of the network, and what is measured of them."
    return save(_grid(lines), folder / "edges.png", text)


def side_picture(model: keras.Model, data: EdgeData, split: str, folder: Path) -> Picture:
    """Draw what each side output says of one image (Fig 3.2)."""
    pixels = np.stack([data.placed(split, row) for row in range(min(2, data.size(split)))])
    outputs = model({"image": pixels}, training=False)
    lines = {"image": list(np.clip(pixels, 0, 255).astype(np.uint8))}
    for name in (*(f"side_{number}" for number in range(1, SIDES + 1)), "fuse"):
        lines[name.replace("_", " ")] = [1 - found for found in np.asarray(tf.sigmoid(outputs[name][..., 0]))]
    return save(
        _grid(lines, turned=True), folder / "sides.png", "Side outputs and their fusion, as training sees them."
    )


def label_picture(data: EdgeData, folder: Path) -> Picture:
    """Draw the labels of one training image: edges black, relaxed labels blue (Fig 3.3)."""
    ((inputs, targets),) = list(data.batches("train", [np.arange(min(2, data.size("train")))], None))
    images = np.clip(np.asarray(inputs["image"]), 0, 255).astype(np.uint8)
    lines = {"image": list(images), "edges": [_coloured(labels) for labels in np.asarray(targets["edges"])]}
    for number in range(SIDES):
        lines[f"side {number + 1}"] = [_coloured(labels) for labels in np.asarray(targets["relaxed"])[..., number]]
    text = "Training images and the labels of the fused and of each side output; relaxed ones are blue."
    return save(_grid(lines, turned=True), folder / "labels.png", text)


def place_picture(layer: LocallyConnectedFusion, folder: Path) -> Picture:
    """Draw what weights a fusion gives its five side outputs at each place."""
    kernel = np.asarray(layer.kernel)[:, :, 0]
    figure = Figure(figsize=(2 * SIDES, 2.4), layout="constrained")
    axes = figure.subplots(1, SIDES)
    for axis, values, number in zip(axes, np.moveaxis(kernel, -1, 0), range(1, SIDES + 1), strict=True):
        drawn = axis.imshow(values, cmap="viridis", vmin=float(kernel.min()), vmax=float(kernel.max()))
        axis.set_title(f"side {number}, mean {values.mean():.3f}", fontsize=8)
        axis.axis("off")
    figure.colorbar(drawn, ax=list(axes))
    return save(
        figure, folder / "fusion_weights.png", "Weights of the side outputs by place; they started at one value."
    )


def _coloured(labels: np.ndarray) -> np.ndarray:
    shown = np.full((*labels.shape, 3), 255, np.uint8)
    shown[labels == 1] = 0
    shown[labels == 2] = (60, 110, 255)
    return shown


def _grid(lines: dict[str, list[np.ndarray]], turned: bool = False) -> Figure:
    """Return pictures in lines with their names; `turned` puts a line's pictures below each other."""
    rows, columns = len(lines), len(next(iter(lines.values())))
    shape = (columns, rows) if turned else (rows, columns)
    figure = Figure(figsize=(2 * shape[1], 1.8 * shape[0]), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    for line, (name, pictures) in enumerate(lines.items()):
        for place, picture in enumerate(pictures):
            axis = axes[(place, line) if turned else (line, place)]
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else None)
            axis.set_xticks([])
            axis.set_yticks([])
            if not place:
                (axis.set_title if turned else axis.set_ylabel)(name, fontsize=9)
    return figure
