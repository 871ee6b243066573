"""Pictures of translations: input, what each step makes of it, and the way back."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from tfthesis.adversarial.data import DOMAINS, TranslationData, pixel_values
from tfthesis.adversarial.evaluation import translated
from tfthesis.drawing import save
from tfthesis.method import Picture

_SHOWN = 6


def translation_pictures(model: keras.Model, data: TranslationData, split: str, folder: Path) -> list[Picture]:
    """Draw a grid for each direction, a column an image (Fig 8.3-8.6)."""
    return [grid_picture(model, data, split, domain, folder) for domain in DOMAINS]


def grid_picture(model: keras.Model, data: TranslationData, split: str, domain: str, folder: Path) -> Picture:
    """Draw a few images of a domain, each step of their translation, and their reconstruction."""
    first, second = data.names if domain == DOMAINS[0] else data.names[::-1]
    count = len(data.opened(split).ids[DOMAINS.index(domain)])
    rows = np.unique(np.linspace(0, count - 1, min(_SHOWN, count)).astype(int))
    parts = list(translated(model, data, split, domain, rows))
    given, back = (np.concatenate([part[place] for part in parts]) for place in (0, 2))
    steps = [np.concatenate(images) for images in zip(*(part[1] for part in parts), strict=True)]
    lines = {f"{first} (real)": given}
    for number, images in enumerate(steps, start=1):
        lines[second if number == len(steps) else f"generator {number} of {len(steps)}"] = images
    lines[f"{first} again"] = back
    figure = Figure(figsize=(1.6 * len(rows) + 0.6, 1.7 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), len(rows), squeeze=False)
    for line, (name, images) in zip(axes, lines.items(), strict=True):
        for axis, image in zip(line, np.asarray(pixel_values(images)), strict=True):
            axis.imshow(image)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=8)
    text = f"{first} to {second}: test images, what each generator of the chain makes of them, and the way back."
    return save(figure, folder / f"{first}_to_{second}.png", text)
