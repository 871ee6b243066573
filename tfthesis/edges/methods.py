"""The methods for edges: one set of functions, whose recipes differ in network, supervision and loss.

The last convolution of each of VGG-16's five stages predicts an edge map; enlarged to the image, these five side
outputs are fused into the map that is measured. The fusion and the side outputs each have a loss, a weighted
cross-entropy.
"""

from __future__ import annotations

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


def edge_method(
    title: str, chapter: str, summary: str, presets: Mapping[str, EdgeRecipe], variants: Mapping[str, Mapping[str, Any]]
) -> Method:
    """Return a method of these recipes; see `tfthesis.method.Method`.

    Method files name their recipes and hand them over here. Nothing in this file imports TensorFlow before it is used.
    """
    return Method(
        title=title,
        chapter=chapter,
        summary=summary,
        presets=presets,
        variants=variants,
        data=data,
        build=build,
        stages=stages,
        compile=compile,
        evaluate=evaluate,
        galleries=galleries,
        signatures=signatures,
        pictures=pictures,
    )


def data(recipe: EdgeRecipe, name: str, directory: Path | None) -> EdgeData:
    """Open an edge dataset; see `tfthesis.edges.training.edge_data`."""
    return training.edge_data(recipe, name, directory)


def build(recipe: EdgeRecipe, spec: Spec) -> keras.Model:
    """Return the network; see `tfthesis.edges.training.edge_model`."""
    return training.edge_model(recipe, spec)


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
