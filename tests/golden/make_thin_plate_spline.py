"""Makes thin_plate_spline.npz: what tensorflow-addons' splines and warps give for random points and an image.

Run as `python tests/golden/make_thin_plate_spline.py` where TensorFlow 2.15.1 and tensorflow-addons 0.23.0 are
installed. The tests do without them.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

# By name, because this project does not ask for it.
addons = importlib.import_module("tensorflow_addons")


def main() -> None:
    """Write points `[6, 2]` (row, column), where they go, five places and where those go, and a warped image."""
    generator = np.random.default_rng(0)
    start = generator.uniform(1, 8, (6, 2)).astype(np.float32)
    end = start + generator.normal(0, 1, (6, 2)).astype(np.float32)
    places = generator.uniform(0, 9, (5, 2)).astype(np.float32)
    image = generator.uniform(0, 1, (10, 12, 3)).astype(np.float32)
    moved = addons.image.interpolate_spline(start[None], end[None], places[None], order=2)
    warped, _ = addons.image.sparse_image_warp(image[None], start[None], end[None], interpolation_order=2)
    arrays = {"start": start, "end": end, "places": places, "image": image}
    arrays |= {"moved": np.asarray(moved)[0], "warped": np.asarray(warped)[0], "addons": np.array(addons.__version__)}
    np.savez_compressed(Path(__file__).with_name("thin_plate_spline.npz"), **arrays)


if __name__ == "__main__":
    main()
