"""How hard are the drawn scenes? Measured with a closed-form ridge map only, never with the methods.

    python -m benchmarks.scene_difficulty

The map from an image's feature to the mean feature of its captions is fitted on the training split, its strength is
chosen on validation, and it is measured on the test split. The scenes are fit for comparing methods if R@1 lies between
10 and 60 both ways and no figure exceeds 95.
"""

from __future__ import annotations

import dataclasses
import time

import tyro

from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.data.scenes import VERSION
from tfthesis.data.scenes.render import render
from tfthesis.data.scenes.scene import sample_scene
from tfthesis.encoders import open_encoder
from tfthesis.metrics.ridge_retrieval import ridge_retrieval


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    image_encoder: str = "efficientnet_lite0"
    text_encoder: str = "glove_50d"
    text_weights: str | None = None
    seed: int = 0
    images: tuple[int, int, int] = (1000, 200, 500)


def main(options: Options) -> None:
    """Print the speed of drawing, the recalls, and whether they lie where they should."""
    start = time.process_time()
    for index in range(200):
        render(sample_scene((options.seed, 9, index)))
    print(f"drawing: {200 / (time.process_time() - start):.0f} images of 128 pixels in a second of one core")
    scenes = open_image_text("scenes", images=options.images, seed=options.seed)
    data = PairedData(
        scenes, open_encoder(options.image_encoder), open_encoder(options.text_encoder, options.text_weights)
    )
    measured = ridge_retrieval(*(data.arrays(split) for split in ("train", "val", "test")))
    found = measured.scalars
    print(f"scenes version {VERSION}, seed {options.seed}, images {options.images}, strength {measured.strength:.3g}")
    print("  ".join(f"{name} {value:.1f}" for name, value in found.items()))
    fit = all(10 <= found[name] <= 60 for name in ("i2t_r1", "t2i_r1")) and max(found.values()) <= 95
    print("fit for comparing methods" if fit else "NOT fit for comparing methods: too easy or too hard")


if __name__ == "__main__":
    main(tyro.cli(Options))
