"""RDS: edge detection with relaxed deep supervision (Liu 2018, chapter 3).

The side outputs of HED's network are supervised by labels that leave out what a simple detector finds beside the edges
that people drew, more of it for the lower ones: these points are left to the higher ones, and to the fused output.
Edges of segmentations (CEA) can train the fused output first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.edges.recipe import EdgeRecipe
from tfthesis.lazy import LazyModule
from tfthesis.method import Evaluation, Gallery, Method, Picture, Preparation, Served, Spec, Stage

if TYPE_CHECKING:
    import keras

    from tfthesis.edges.data import EdgeData

drawing = LazyModule("tfthesis.edges.pictures")
evaluation = LazyModule("tfthesis.edges.evaluation")
served = LazyModule("tfthesis.edges.served")
training = LazyModule("tfthesis.edges.training")


def data(recipe: EdgeRecipe, name: str, directory: Path | None) -> EdgeData:
    """Open an edge dataset; see `tfthesis.edges.training.edge_data`."""
    return training.edge_data(recipe, name, directory)


def build(recipe: EdgeRecipe, spec: Spec) -> keras.Model:
    """Return the network; see `tfthesis.edges.training.edge_model`."""
    return training.edge_model(recipe, spec, "rds")


def stages(recipe: EdgeRecipe) -> Sequence[Stage | Preparation]:
    """Return the stages; see `tfthesis.edges.training.edge_stages`."""
    return training.edge_stages(recipe)


def compile(model: keras.Model, recipe: EdgeRecipe, stage: Stage) -> None:
    """Set optimizer and loss; see `tfthesis.edges.training.compile_edges`."""
    training.compile_edges(model, recipe, stage)


def evaluate(model: keras.Model, data: EdgeData, recipe: EdgeRecipe, split: str) -> Evaluation:
    """Measure ODS, OIS and AP on `split`."""
    return evaluation.evaluate_edges(model, data, recipe, split)


def galleries(model: keras.Model, recipe: EdgeRecipe, data: EdgeData, split: str) -> dict[str, Gallery]:
    """Return none: nothing is searched."""
    return {}


def signatures(
    model: keras.Model, recipe: EdgeRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served functions; see `tfthesis.edges.served.edge_signatures`."""
    return served.edge_signatures(model, recipe)


def pictures(model: keras.Model, data: EdgeData, recipe: EdgeRecipe, folder: Path) -> list[Picture]:
    """Draw edge maps, side outputs and labels, of the test split."""
    return drawing.edge_pictures(model, data, recipe, "test", folder)


_THESIS = EdgeRecipe(dataset="bsds500", weights="imagenet")
_QUICK = EdgeRecipe(
    height=96,
    width=96,
    trunk="narrow",
    mirror=True,
    loss_reduction="mean",
    # Beside a loss that is summed over pixels the thesis's decay is next to none; beside their mean it would be strong.
    weight_decay=0.0,
    learning_rate=0.02,
    epochs=(25, 5),
    top_rate=1.0,
    side_rate=1.0,
    fusion_rate=0.1,
    upsampling_rate=0.1,
    thresholds=33,
)
_SUPERVISION = {
    "baseline1": {"supervised": (), "relaxed": "none"},
    "baseline2": {"relaxed": "none"},
    "early": {"supervised": (1, 2, 3)},
    "late": {"supervised": (4, 5)},
}

METHOD = Method(
    title="RDS",
    chapter="Liu 2018, chapter 3",
    summary="Edge detection with relaxed labels for the side outputs.",
    presets={
        "thesis": _THESIS,
        "thesis_nyud": dataclasses.replace(_THESIS, test_dataset="nyud", max_dist=0.011),
        "bsds500": dataclasses.replace(
            _QUICK, dataset="bsds500", placement="crop", height=160, width=160, epochs=(40, 8), test_images=50
        ),
        "quick": _QUICK,
        "tiny": dataclasses.replace(
            _QUICK,
            trunk="tiny",
            height=48,
            width=48,
            scene_size=48,
            scene_images=(12, 4, 4),
            batch_size=3,
            epochs=(1, 1),
            thresholds=5,
            val_images=2,
            val_thresholds=3,
        ),
    },
    variants={
        **_SUPERVISION,
        "undilated": {"dilate": False},
        "cea": {"coarse_dataset": "scenes", "coarse_reader": ("images=[400, 1, 1]", "size=96", "seed=1")},
        "cea_only": {
            "coarse_dataset": "scenes",
            "coarse_reader": ("images=[400, 1, 1]", "size=96", "seed=1"),
            "epochs": (0,),
        },
        "multi_scale": {"test_scales": (0.75, 1.0, 1.5)},
    },
    data=data,
    build=build,
    stages=stages,
    compile=compile,
    evaluate=evaluate,
    galleries=galleries,
    signatures=signatures,
    pictures=pictures,
)
