"""What the methods for edges share between recipe and network: data, stages, optimizer and loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras

from tfthesis import losses, models, optimizers
from tfthesis.data.edge_images import EdgeImages, edge_names, open_edges
from tfthesis.data.options import reader_options
from tfthesis.data.segmented_images import SegmentedImages, open_segmented, segmented_names
from tfthesis.edges.data import COARSE, EdgeData, Supervision, Window
from tfthesis.edges.networks import Options, build_network
from tfthesis.edges.recipe import EdgeRecipe
from tfthesis.errors import UserError, closest
from tfthesis.losses.edge_detection import SIDES
from tfthesis.method import Preparation, Spec, Stage
from tfthesis.schedule import stretches
from tfthesis.trunks.vgg import check_starting_weights, starting_weights

#: Scenes whose outlines are coarse edges: other ones than those that a default run is measured on.
COARSE_SCENES = {"images": (400, 1, 1), "size": 160, "seed": 1}


def edge_data(recipe: EdgeRecipe, name: str, directory: Path | None) -> EdgeData:
    """Open an edge dataset, and that of the coarse edges where the recipe names one.

    Raises:
        UserError: unknown names or options, missing files, or fields that contradict each other.
    """
    _check(recipe)
    options = reader_options(recipe.reader)
    if name == "scenes":
        options |= {"images": recipe.scene_images, "size": recipe.scene_size}
    if (recipe.relaxed == "maps") != bool(recipe.relaxed_maps):
        raise UserError("recipe fields 'relaxed' and 'relaxed_maps': relaxed=maps needs a folder, and only that does")
    if recipe.fusion == "local" and recipe.test_size == "own":
        raise UserError("recipe field 'test_size': local fusion has weights for every place, set it to 'training'")
    maps = Path(recipe.relaxed_maps) if recipe.relaxed_maps else None
    if maps is not None and not maps.is_dir():
        raise UserError(f"recipe field 'relaxed_maps': no folder {maps}")
    if recipe.test_dataset not in ("", "scenes") and not recipe.test_folder:
        raise UserError(f"recipe field 'test_folder': name the folder of {recipe.test_dataset}")
    if recipe.coarse_dataset not in ("", "scenes") and not recipe.coarse_folder:
        raise UserError(f"recipe field 'coarse_folder': name the folder of {recipe.coarse_dataset}")
    coarse = _coarse(recipe) if recipe.coarse_dataset else None
    window = Window(recipe.height, recipe.width, recipe.placement == "crop", recipe.mirror)
    supervision = Supervision(recipe.agreeing, recipe.dilate, recipe.relaxed, maps)
    test = open_edges(recipe.test_dataset, recipe.test_folder or None) if recipe.test_dataset else None
    dataset = open_edges(name, directory, **options)
    return EdgeData(dataset, window, supervision, coarse, test, any_size=recipe.test_size == "own")


def _coarse(recipe: EdgeRecipe) -> SegmentedImages | EdgeImages:
    """Open the dataset of the coarse edges: segmentations, or edges where there are none of that name."""
    name, folder = recipe.coarse_dataset, recipe.coarse_folder or None
    options = reader_options(recipe.coarse_reader, "coarse_reader")
    if name == "scenes":
        options = COARSE_SCENES | options
    known = segmented_names()
    if name in known:
        return open_segmented(name, folder, **options)
    if name not in edge_names():
        raise closest(name, sorted({*known, *edge_names()}), "dataset of coarse edges")
    return open_edges(name, folder, **options)


_LEAST = {
    "agreeing": 1,
    "height": 1,
    "width": 1,
    "positive": 0,
    "thresholds": 1,
    "val_thresholds": 1,
    "val_images": 1,
    "test_images": 0,
}


def _check(recipe: EdgeRecipe) -> None:
    for name, least in _LEAST.items():
        if getattr(recipe, name) < least:
            raise UserError(f"recipe field {name!r}: expected {least} or more, got {getattr(recipe, name)}")
    if not recipe.max_dist > 0:
        raise UserError(f"recipe field 'max_dist': expected a share of the diagonal above 0, got {recipe.max_dist}")
    if recipe.further_reaches and not min(recipe.further_reaches) > 0:
        raise UserError(
            f"recipe field 'further_reaches': expected shares of the diagonal above 0, got {recipe.further_reaches}"
        )
    if not recipe.tuning_rate > 0:
        raise UserError(f"recipe field 'tuning_rate': expected a multiplier above 0, got {recipe.tuning_rate}")
    if not recipe.test_scales or min(recipe.test_scales) <= 0:
        raise UserError(f"recipe field 'test_scales': expected sizes above 0, got {recipe.test_scales}")
    if recipe.test_size == "training" and recipe.test_scales != (1.0,):
        raise UserError("recipe field 'test_scales': test_size=training takes one scale, 1.0")


def edge_model(recipe: EdgeRecipe, spec: Spec) -> keras.Model:
    """Return the network; see `tfthesis.edges.networks.build_network` for its inputs and outputs."""
    check_starting_weights(recipe.trunk, recipe.weights)
    names = [field.name for field in dataclasses.fields(Options)]
    inputs, outputs = build_network(Options(**{field: getattr(recipe, field) for field in names}), spec)
    return models.FusionModel(inputs, outputs, name="edges")


def edge_stages(recipe: EdgeRecipe) -> Sequence[Stage | Preparation]:
    """Return what a run does: load VGG-16's weights, train on coarse edges (Eq 3.6), and on the annotators' (Eq 3.3).

    The first two only where the recipe asks for them.

    Raises:
        UserError: a side output that is none, or nothing to train.
    """
    outside = [number for number in recipe.supervised if not 1 <= number <= SIDES]
    if outside or len(set(recipe.supervised)) < len(recipe.supervised):
        raise UserError(
            f"recipe field 'supervised': expected different numbers of 1 to {SIDES}, got {recipe.supervised}"
        )
    weights = {"fuse": 1.0} | {f"side_{number}": 1.0 for number in sorted(recipe.supervised)}
    tuned = recipe.learning_rate * (recipe.tuning_rate if recipe.coarse_dataset else 1.0)
    tuned = dataclasses.replace(recipe, learning_rate=tuned)
    stages = [stage for stage in stretches(tuned, "edges", weights, select="ods") if stage.epochs]
    if recipe.coarse_dataset:
        first = Stage(
            "coarse_edges",
            recipe.coarse_epochs,
            recipe.batch_size,
            recipe.learning_rate,
            {"fuse": 1.0},
            split=COARSE,
            select="ods",
        )
        stages = [first, *stages]
    if not stages:
        raise UserError("recipe field 'epochs': 0 trains on coarse edges alone, which need coarse_dataset")
    return [starting_weights(recipe.weights), *stages] if recipe.weights else stages


def compile_edges(model: keras.Model, recipe: EdgeRecipe, stage: Stage) -> None:
    """Set Caffe's SGD with the released networks' multipliers, and the loss."""
    groups = {
        "conv5": recipe.top_rate,
        "side": recipe.side_rate,
        "upsampling": recipe.upsampling_rate,
        "fusion/": recipe.fusion_rate * (recipe.place_rate if recipe.fusion == "local" else 1.0),
    }
    rates = {}
    for name, rate in groups.items():
        own = [variable.path for variable in model.trainable_variables if variable.path.startswith(name)]
        rates |= {path: rate * (recipe.bias_rate if path.endswith("bias") else 1.0) for path in own}
    optimizer = optimizers.CaffeSGD(
        stage.learning_rate,
        momentum=recipe.momentum,
        decay=1.0,
        rate_multipliers=rates | {"bias": recipe.bias_rate},
        decay_multipliers={"kernel": recipe.weight_decay, "": 0.0},
    )
    loss = losses.EdgeDetection(stage.loss_weights, recipe.positive or None, reduction=recipe.loss_reduction)
    model.compile(optimizer=optimizer, loss=loss)
