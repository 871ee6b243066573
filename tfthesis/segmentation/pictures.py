"""Pictures of segmentations: overlays beside the truth, the confusion matrix, and the fusion's weights by place."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tfthesis.drawing import confusion_picture, save
from tfthesis.layers import LocallyConnectedFusion
from tfthesis.method import Picture, Spec
from tfthesis.metrics.segmentation import pixel_confusion
from tfthesis.segmentation.data import SegmentationData
from tfthesis.segmentation.evaluation import predictions

_SHOWN, _COUNTED = 6, 100


def segmentation_pictures(model: keras.Model, data: SegmentationData, split: str, folder: Path) -> list[Picture]:
    """Draw what a network did on `split`; the confusion matrix of its first images."""
    classes = data.spec.classes
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for found in predictions(model, data, split, np.arange(min(_COUNTED, data.size(split)))):
        matrix += pixel_confusion(found.labels, found.predicted, len(classes))
    drawn = [overlay_picture(model, data, split, folder), confusion_picture(matrix, classes, folder)]
    fusions = [layer for layer in model.layers if isinstance(layer, LocallyConnectedFusion)]
    return [*drawn, *(place_picture(layer, folder) for layer in fusions)]


def overlay_picture(model: keras.Model, data: SegmentationData, split: str, folder: Path) -> Picture:
    """Draw a few images of `split` with their true and their predicted classes (Fig 2.14)."""
    size = data.size(split)
    rows = np.unique(np.linspace(0, size - 1, min(_SHOWN, size)).astype(int))
    images, labels, predicted = [], [], []
    for found in predictions(model, data, split, rows):
        images += list(found.images)
        labels += list(found.labels)
        predicted += list(found.predicted)
    figure = Figure(figsize=(2.2 * len(images), 7), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    for column, (image, true, guess) in enumerate(zip(images, labels, predicted, strict=True)):
        shown = np.clip(image, 0, 255).astype(np.uint8)
        axes[0, column].imshow(shown)
        axes[1, column].imshow(overlay(shown, true, data.spec))
        axes[2, column].imshow(overlay(shown, guess, data.spec))
    for line, name in enumerate(("image", "truth", "prediction")):
        axes[line, 0].set_ylabel(name)
    present = np.unique(np.concatenate([np.ravel(maps) for maps in (*labels, *predicted)]))
    patches = [
        Patch(color=np.array(data.spec.extra["colours"][label]) / 255, label=data.spec.classes[label])
        for label in present
        if label < len(data.spec.classes)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=8)
    text = "Images, their true classes and those that the network gives them; pixels without a class stay as they are."
    return save(figure, folder / "overlays.png", text)


def overlay(image: np.ndarray, labels: np.ndarray, spec: Spec) -> np.ndarray:
    """Return an image uint8 `[H, W, 3]` half in the colours of its labels `[H, W]`; ignored pixels are unchanged."""
    known = labels < len(spec.classes)
    colours = np.array(spec.extra["colours"], np.float32)[np.where(known, labels, 0)]
    mixed = np.where(known[..., None], (image + colours) / 2, image)
    return np.round(mixed).astype(np.uint8)


def place_picture(layer: LocallyConnectedFusion, folder: Path) -> Picture:
    """Draw what weights a fusion gives its two branches at each place, the mean over classes."""
    kernel = np.asarray(layer.kernel).mean(axis=2)
    limits = dict(vmin=float(kernel.min()), vmax=float(kernel.max()))
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots(1, kernel.shape[-1])
    for axis, values, name in zip(axes, np.moveaxis(kernel, -1, 0), ("skip", "deeper"), strict=True):
        drawn = axis.imshow(values, cmap="viridis", **limits)
        axis.set_title(f"{name} branch, mean {values.mean():.3f}", fontsize=9)
        axis.axis("off")
    figure.colorbar(drawn, ax=list(axes))
    text = f"Weights of {layer.name}'s two branches by place, the mean over classes; they started at one value."
    return save(figure, folder / f"{layer.name}_weights.png", text)
