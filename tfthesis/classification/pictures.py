"""Pictures of classifiers: what they say of images, the confusion matrix, fusion weights, and maps of each branch."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from tfthesis.classification.data import ImageClassData
from tfthesis.classification.evaluation import predict
from tfthesis.drawing import confusion_picture, save
from tfthesis.layers import LocallyConnectedFusion
from tfthesis.method import Picture
from tfthesis.metrics.classification import confusion_matrix

_SHOWN = 12
_MAPS = 4


def class_pictures(model: keras.Model, data: ImageClassData, split: str, folder: Path) -> list[Picture]:
    """Draw what a classifier did on `split`."""
    found, classes = predict(model, data, split), data.spec.classes
    predicted = found.logits.argmax(axis=1)
    drawn = [
        answers_picture(data, split, found.rows, predicted, folder),
        confusion_picture(confusion_matrix(found.labels, predicted, len(classes)), classes, folder),
        map_picture(model, data, split, found.rows, folder),
    ]
    fusions = [layer for layer in model.layers if isinstance(layer, LocallyConnectedFusion)]
    return [*drawn, *(weight_picture(layer, folder) for layer in fusions)]


def answers_picture(data: ImageClassData, split: str, rows: np.ndarray, predicted: np.ndarray, folder: Path) -> Picture:
    """Draw some of the images `rows` with their true and, where it is another, their class in `predicted`."""
    places = np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)
    images, labels = _images(data, split, rows[places])
    lines = -(-len(places) // 6)
    figure = Figure(figsize=(9, 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, 6, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image, label, guess in zip(axes, images, labels, predicted[places], strict=False):
        axis.imshow(image)
        right = label == guess
        true = data.spec.classes[label]
        title = true if right else f"{data.spec.classes[guess]}\n(it is {true})"
        axis.set_title(title, fontsize=8, color="green" if right else "firebrick", parse_math=False)
    return save(figure, folder / "answers.png", "Images and the classes they are given; wrong ones in red.")


def weight_picture(layer: LocallyConnectedFusion, folder: Path) -> Picture:
    """Draw the mean weight of each branch and its deviation over positions (Fig 2.8, at the end of training)."""
    kernel = np.asarray(layer.kernel)
    by_branch = (kernel.sum(axis=-2) if layer.kernel_size > 1 else kernel).reshape(-1, kernel.shape[-1])
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"side {number + 1}" for number in range(by_branch.shape[1] - 1)] + ["main"]
    axes.bar(names, by_branch.mean(axis=0), yerr=by_branch.std(axis=0), capsize=4)
    axes.axhline(1 / by_branch.shape[1], color="grey", linestyle="--", linewidth=1)
    axes.set_ylabel("weight")
    text = "Weights of the branches in the locally-connected fusion, with their deviation; dashed: where they started."
    return save(figure, folder / f"{layer.name}_weights.png", text)


def map_picture(model: keras.Model, data: ImageClassData, split: str, rows: np.ndarray, folder: Path) -> Picture:
    """Draw the strongest maps of the last convolution of every branch, for a few of `rows` (Figs 2.1 and 2.12)."""
    images, _ = _images(data, split, rows[np.linspace(0, len(rows) - 1, min(4, len(rows))).astype(int)])
    names = [layer.name for layer in model.layers if layer.name.endswith("_conv_relu")]
    taps = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    maps = taps({"image": images.astype(np.float32)}, training=False)
    columns = 1 + _MAPS * len(names)
    figure = Figure(figsize=(0.9 * columns, len(images)), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for line, image in enumerate(images):
        axes[line, 0].imshow(image)
        for branch, name in enumerate(names):
            own = np.asarray(maps[name][line], np.float32)
            for place, channel in enumerate(np.argsort(-own.mean(axis=(0, 1)), kind="stable")[:_MAPS]):
                axis = axes[line, 1 + branch * _MAPS + place]
                axis.imshow(own[:, :, channel], cmap="magma")
                if not line and not place:
                    axis.set_title(name.removesuffix("_conv_relu"), fontsize=8, loc="left")
    text = f"Images and the {_MAPS} strongest maps of the last convolution of each branch."
    return save(figure, folder / "branch_maps.png", text)


def _images(data: ImageClassData, split: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 and labels of `rows`."""
    inputs, targets = next(iter(data.batches(split, [rows], None)))
    return np.clip(inputs["image"].numpy(), 0, 255).astype(np.uint8), targets["label"].numpy()
