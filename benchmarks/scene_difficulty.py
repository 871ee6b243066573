"""How hard are the drawn scenes? Measured with a closed-form ridge map only, never with the methods.

    python -m benchmarks.scene_difficulty [--seeds 0 1 2]

The map from an image's feature to the mean feature of its captions is fitted on the training split, its strength is
chosen on validation, and it is measured on the test split. The scenes are fit for comparing methods if R@1 lies between
10 and 60 both ways and no figure exceeds 95.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.kept import add_json_option, keep
from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.render import render
from tfthesis.data.scenes.scene import sample_scene
from tfthesis.encoders import open_encoder
from tfthesis.metrics.ridge_retrieval import ridge_retrieval

IMAGES = (1000, 200, 500)


def drawn_a_second(count: int = 200) -> float:
    """Return how many scenes of 128 pixels one core draws in a second."""
    start = time.process_time()
    for index in range(count):
        render(sample_scene((0, 9, index)))
    return count / (time.process_time() - start)


def difficulty(seed: int, image_encoder: str, text_encoder: str, text_weights: str | None) -> dict[str, Any]:
    """Return the recalls of the ridge map on the scenes of `seed`, in percent, and whether they lie in bounds."""
    scenes = open_image_text("scenes", images=IMAGES, seed=seed)
    data = PairedData(scenes, open_encoder(image_encoder), open_encoder(text_encoder, text_weights))
    measured = ridge_retrieval(*(data.arrays(split) for split in ("train", "val", "test")))
    found = measured.scalars
    fit = all(10 <= found[name] <= 60 for name in ("i2t_r1", "t2i_r1")) and max(found.values()) <= 95
    row = {"version": VERSION, "seed": seed, "images": IMAGES, "encoders": [image_encoder, text_encoder]}
    return {**row, "strength": measured.strength, **found, "fit": fit}


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-encoder", default="efficientnet_lite0")
    parser.add_argument("--text-encoder", default="glove_50d")
    parser.add_argument("--text-weights")
    add_json_option(parser, "scene_difficulty")
    options = parser.parse_args()
    speed = drawn_a_second()
    print(f"drawing: {speed:.0f} images of 128 pixels in a second of one core")
    rows = []
    for seed in options.seeds:
        rows.append(difficulty(seed, options.image_encoder, options.text_encoder, options.text_weights))
        figures = "  ".join(f"{name} {value:.1f}" for name, value in rows[-1].items() if "_r" in name)
        verdict = "fit for comparing methods" if rows[-1]["fit"] else "NOT fit for comparing methods"
        print(f"scenes version {VERSION}, seed {seed}: {figures}  {verdict}")
    keep(options.json, {"drawn_a_second": round(speed, 1), "ridge": rows})


if __name__ == "__main__":
    main()
