"""Trains the toy on 1, 2 and 4 logical CPUs, in a process of its own, and prints the greatest differences as JSON.

A collective that fails spoils its process, and logical devices are split before TensorFlow starts.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import toy

from training.strategy import make_strategy

ROWS = {"train": 35, "val": 18}
"""In batches of 16 the last ones have 3 and 2 rows: fewer than four devices."""


def numbers(folder: Path) -> np.ndarray:
    """Return the figures of metrics.csv."""
    with open(folder / "metrics.csv", newline="") as file:
        return np.array([[float(value) for value in list(row.values())[1:]] for row in csv.DictReader(file)])


def main(folder: Path) -> None:
    make_strategy("mirrored", 4)
    recipe = toy.recipe_of(optimizer="sgd", epochs=2)

    found = {}
    for devices in (1, 2, 4):
        strategy = tf.distribute.get_strategy() if devices == 1 else make_strategy("mirrored", devices)
        options = {"rows": ROWS, "strategy": strategy, "checkpoint_every": 2}
        if devices == 2:  # stopped in its second epoch, and resumed
            with contextlib.suppress(toy.AbortError):
                toy.run_toy(folder / "2", recipe, progress=toy.Watcher({5: toy.abort}), **options)
        model = toy.run_toy(folder / str(devices), recipe, **options)
        found[devices] = [variable.numpy().astype("f8") for variable in model.variables], numbers(folder / str(devices))
    weights, figures = found[1]
    report = {
        devices: [
            max(float(np.max(np.abs(a - b) / (np.abs(b) + 1e-2))) for a, b in zip(other[0], weights, strict=True)),
            float(np.max(np.abs(other[1] - figures) / np.abs(figures))),
        ]
        for devices, other in found.items()
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
