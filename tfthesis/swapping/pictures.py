"""Pictures of swapped clothes: condition, reference, pose, and what each generator makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from tfthesis.adversarial.data import pixel_values
from tfthesis.drawing import save
from tfthesis.method import Picture
from tfthesis.swapping.baselines import BASELINES
from tfthesis.swapping.data import SwapData
from tfthesis.swapping.evaluation import pasted, swapped, with_head

_SHOWN, _ROWS, _COLUMNS = 7, 5, 5


def swap_pictures(model: keras.Model, data: SwapData, split: str, folder: Path) -> list[Picture]:
    """Draw the stages of a few swaps (Fig 8.9), of a few true pairs where there are some, and a table (Fig 8.14)."""
    count = len(data.opened(split).ids)
    references = _spread(count, _SHOWN)
    # The next of those shown: another person where a person's images lie side by side.
    pairs = np.stack([references, np.roll(references, 1)], axis=1)
    drawn = [_stages(model, data, split, pairs, folder / "swaps.png", "of different persons")]
    true = data.opened(split).pairs
    if len(true):
        what = "of one person in the same clothes"
        drawn.append(_stages(model, data, split, true[_spread(len(true), _SHOWN)], folder / "pairs.png", what))
    drawn.append(_beside_baselines(model, data, split, pairs, folder / "baselines.png"))
    return [*drawn, _table(model, data, split, folder / "table.png")]


def _beside_baselines(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray, path: Path) -> Picture:
    """Draw the same swaps by pasting, by warping and by the model (Fig 8.15)."""
    opened = data.opened(split)
    reference, condition = pairs.T
    lines = {"condition": opened.images[condition], "reference": opened.images[reference]}
    lines |= {name.replace("_", " "): pasted(name, opened, pairs) for name in BASELINES}
    lines["SwapGAN"] = with_head(opened, _made(model, data, split, pairs)["generated"], reference)
    return save(_grid(lines), path, "The same swaps of test images by methods that learn nothing, and by the model.")


def _stages(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray, path: Path, what: str) -> Picture:
    opened = data.opened(split)
    reference, condition = pairs.T
    made = _made(model, data, split, pairs)
    lines = {
        "condition": opened.images[condition],
        "reference": opened.images[reference],
        "pose": opened.poses[reference],
        "Generator I": made["generated"],
        "with the head": with_head(opened, made["generated"], reference),
    }
    further = {
        "restored": "Generator II",
        "generated_mask": "mask of I",
        "restored_mask": "mask of II",
    }
    lines |= {label: made[name] for name, label in further.items() if name in made}
    text = (
        f"Test images {what}: Generator I gives the condition the reference's pose, the reference's head is pasted "
        "onto it, and Generator II takes it back to the condition."
    )
    return save(_grid(lines), path, text if "restored" in made else text.rpartition(",")[0] + ".")


def _grid(lines: Mapping[str, np.ndarray]) -> Figure:
    """Return a figure with a line for each name, of as many images each."""
    columns = len(next(iter(lines.values())))
    figure = Figure(figsize=(1.2 * columns + 0.5, 1.25 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False)
    for line, (name, images) in zip(axes, lines.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            _show(axis, image)
        line[0].set_ylabel(name, fontsize=7)
    return figure


def _table(model: keras.Model, data: SwapData, split: str, path: Path) -> Picture:
    opened = data.opened(split)
    chosen = _spread(len(opened.ids), _ROWS + _COLUMNS)
    references, conditions = chosen[::2], chosen[1::2]
    pairs = np.array([(reference, condition) for condition in conditions for reference in references])
    images = with_head(opened, _made(model, data, split, pairs)["generated"], pairs[:, 0])
    figure = Figure(figsize=(1.2 * (len(references) + 1), 1.25 * (len(conditions) + 1)), layout="constrained")
    axes = figure.subplots(len(conditions) + 1, len(references) + 1, squeeze=False)
    axes[0, 0].axis("off")
    for axis, row in zip(axes[0, 1:], references, strict=True):
        _show(axis, opened.images[row])
    for axis, row in zip(axes[1:, 0], conditions, strict=True):
        _show(axis, opened.images[row])
    for axis, image in zip(axes[1:, 1:].flat, images, strict=True):
        _show(axis, image)
    return save(figure, path, "Each reference person of the first line in the clothes of each condition at the left.")


def _made(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray) -> dict[str, np.ndarray]:
    parts = list(swapped(model, data, split, pairs))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # Masks are 0..1.
    return {
        name: np.asarray(pixel_values(2 * values - 1 if name.endswith("mask") else values))
        for name, values in found.items()
    }


def _spread(count: int, shown: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(shown, count)).astype(int))


def _show(axis: object, image: np.ndarray) -> None:
    axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
