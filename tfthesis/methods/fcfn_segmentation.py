"""FCFN for segmentation: FCN-8s with locally-connected fusion (Liu 2018, sections 2.3.1 and 2.4.4).

Scores of all classes are predicted from three depths of VGG-16. The deepest map is enlarged twofold and fused with
that of pool4, the result likewise with that of pool3, and the last one is enlarged to the image. FCN-8s adds; FCFN has
weights of its own for every class and place, so that its images have one size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import losses, models, optimizers
from tfthesis.data.options import reader_options
from tfthesis.errors import UserError
from tfthesis.lazy import LazyModule
from tfthesis.method import Evaluation, Gallery, Method, Picture, Preparation, Served, Spec, Stage
from tfthesis.recipe import Recipe, setting
from tfthesis.schedule import stretches

if TYPE_CHECKING:
    import keras

    from tfthesis.segmentation.data import SegmentationData

drawing = LazyModule("tfthesis.segmentation.pictures")
evaluation = LazyModule("tfthesis.segmentation.evaluation")
fields = LazyModule("tfthesis.segmentation.fields")
networks = LazyModule("tfthesis.segmentation.networks")
pixels = LazyModule("tfthesis.segmentation.data")
segmented = LazyModule("tfthesis.data.segmented_images")
served = LazyModule("tfthesis.segmentation.served")
vgg = LazyModule("tfthesis.trunks.vgg")

_FCN = "released FCN-8s, trained at once"
# Five poolings of a smaller image leave nothing to predict from.
_SMALLEST = 32


@dataclasses.dataclass(frozen=True)
class FCFNRecipe(Recipe):
    """Every number of FCFN."""

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    scene_images: tuple[int, int, int] = setting(
        (400, 100, 200), "rendered scenes for training, validation and test", unit="images"
    )
    height: int = setting(
        500, "of the network's input", unit="pixels", source="Eq 2.7 needs one size; VOC's longest side"
    )
    width: int = setting(
        500, "of the network's input", unit="pixels", source="Eq 2.7 needs one size; VOC's longest side"
    )
    trunk: str = setting(
        "vgg16",
        "VGG-16, or the same five stages with fewer and smaller convolutions",
        choices=("vgg16", "narrow", "tiny"),
        source="section 2.3.1",
    )
    weights: str = setting(
        "", "weights of VGG-16 to start from: a file, or imagenet to download them; empty starts by lot", source=_FCN
    )
    fusion: str = setting(
        "local",
        "how two predictions are fused; sum is FCN-8s",
        choices=("sum", "convolution", "local"),
        source="Eq 2.7, 2.8",
    )
    fusion_start: float = setting(
        0.5,
        "first weight of each branch of local fusion; FCN-8s's sum is 1",
        source="our choice, as section 2.4.1's 1/S",
    )
    fusion_activation: str = setting(
        "linear",
        "of local fusion; relu would cut scores off below zero",
        choices=("linear", "relu"),
        source="our choice; Eq 2.7 leaves it open",
    )
    skip_scales: tuple[float, float] = setting(
        (0.01, 0.0001), "factors of pool4 and pool3 before their predictions", source=_FCN
    )
    train_upsampling: bool = setting(False, "train the bilinear kernels", source=_FCN)
    dropout: float = setting(0.5, "share of fc6 and fc7 that is dropped", source=_FCN)
    mirror: bool = setting(False, "flip training images by lot", source="section 2.4.4 names none")

    batch_size: int = setting(1, "images in a global batch", unit="images", source="section 2.4.4")
    epochs: tuple[int, ...] = setting(
        (12,),
        "stretches of training, after each of which the learning rate falls",
        unit="epochs",
        source="section 2.4.4: 100,000 steps of one of some 8,700 images",
    )
    learning_rate: float = setting(0.0001, "of the first stretch", source="section 2.4.4")
    rate_factor: float = setting(
        0.1, "factor of the learning rate after a stretch", source="section 2.4.4 has one rate"
    )
    momentum: float = setting(0.9, "of SGD", source="section 2.4.4")
    weight_decay: float = setting(
        0.0001, "L2 decay of kernels; biases do not decay", source="section 2.4.4; what decays: our choice"
    )
    bias_rate: float = setting(2.0, "multiplier of the learning rate of biases", source=_FCN)
    fusion_rate: float = setting(
        1.0,
        "multiplier of the learning rate of local fusion's weights, each of which sees one place of every image",
        source="section 2.4.4 names none",
    )
    loss_reduction: str = setting(
        "mean",
        "of an image's pixels",
        choices=("mean", "sum"),
        source="our choice; Eq 2.9's sum needs rates near 1e-10",
    )
    patience: int = setting(0, "stop a stretch after so many epochs without a better score; 0 never", unit="epochs")

    def idle(self) -> frozenset[str]:
        """Return the fields of what the network does not have."""
        local = frozenset({"fusion_start", "fusion_activation", "fusion_rate"})
        return frozenset() if self.fusion == "local" else local


def data(recipe: FCFNRecipe, name: str, directory: Path | None) -> SegmentationData:
    """Open a segmentation dataset; see `tfthesis.data.segmented_images.open_segmented`."""
    options = reader_options(recipe.reader)
    if min(recipe.height, recipe.width) < _SMALLEST:
        raise UserError(
            f"recipe fields 'height' and 'width': expected {_SMALLEST} pixels or more, got {recipe.height} x "
            f"{recipe.width}"
        )
    if name == "scenes":
        if recipe.height != recipe.width:
            raise UserError(f"scenes are square: set height and width alike, got {recipe.height} x {recipe.width}")
        options |= {"images": recipe.scene_images, "size": recipe.height}
    field = fields.Field(recipe.height, recipe.width)
    return pixels.SegmentationData(segmented.open_segmented(name, directory, **options), field, recipe.mirror)


def build(recipe: FCFNRecipe, spec: Spec) -> keras.Model:
    """Return the network; see `tfthesis.segmentation.networks.build_network` for its inputs and outputs."""
    vgg.check_starting_weights(recipe.trunk, recipe.weights)
    names = [field.name for field in dataclasses.fields(networks.Options)]
    options = networks.Options(**{name: getattr(recipe, name) for name in names})
    inputs, outputs = networks.build_network(options, spec)
    return models.FusionModel(inputs, outputs, name="fcfn_segmentation")


def stages(recipe: FCFNRecipe) -> tuple[Stage | Preparation, ...]:
    """Return the loading of VGG-16's weights, where they are asked for, and the stretches of training."""
    first = (vgg.starting_weights(recipe.weights),) if recipe.weights else ()
    return (*first, *stretches(recipe, "segmentation", {"pixels": 1.0}, select="mean_iou"))


def compile(model: keras.Model, recipe: FCFNRecipe, stage: Stage) -> None:
    """Set Caffe's SGD with the released FCN's multipliers, and the softmax loss of every pixel."""
    fusion_rate = recipe.fusion_rate if recipe.fusion == "local" else 1.0
    rates = {
        **{f"fusion{number}/kernel": fusion_rate for number in (1, 2)},
        **{f"fusion{number}/bias": fusion_rate * recipe.bias_rate for number in (1, 2)},
        "bias": recipe.bias_rate,
    }
    optimizer = optimizers.CaffeSGD(
        stage.learning_rate,
        momentum=recipe.momentum,
        decay=1.0,
        rate_multipliers=rates,
        decay_multipliers={"kernel": recipe.weight_decay, "": 0.0},
    )
    loss = losses.PixelClassification(stage.loss_weights, recipe.loss_reduction)
    model.compile(optimizer=optimizer, loss=loss)


def evaluate(model: keras.Model, data: SegmentationData, recipe: FCFNRecipe, split: str) -> Evaluation:
    """Measure IoU (Eq 2.14) on `split`."""
    return evaluation.evaluate_segmentation(model, data, split)


def galleries(model: keras.Model, recipe: FCFNRecipe, data: SegmentationData, split: str) -> dict[str, Gallery]:
    """Return none: nothing is searched."""
    return {}


def signatures(
    model: keras.Model, recipe: FCFNRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served function; see `tfthesis.segmentation.served.segment_signatures`."""
    return served.segment_signatures(model, spec)


def pictures(model: keras.Model, data: SegmentationData, recipe: FCFNRecipe, folder: Path) -> list[Picture]:
    """Draw overlays, the confusion matrix and the fusion's weights, of the test split."""
    return drawing.segmentation_pictures(model, data, "test", folder)


_THESIS = FCFNRecipe(dataset="voc_segmentation", weights="imagenet")
_QUICK = FCFNRecipe(
    height=64,
    width=64,
    trunk="narrow",
    skip_scales=(1.0, 1.0),
    dropout=0.0,
    batch_size=8,
    epochs=(40, 8),
    learning_rate=0.05,
)

METHOD = Method(
    title="FCFN for segmentation",
    chapter="Liu 2018, chapter 2",
    summary="Semantic segmentation with a two-stage, locally-connected fusion of predictions.",
    presets={
        "thesis": _THESIS,
        "camvid": dataclasses.replace(
            _QUICK, dataset="camvid", height=180, width=240, mirror=True, batch_size=4, epochs=(60, 10)
        ),
        "quick": _QUICK,
        "tiny": dataclasses.replace(
            _QUICK, height=32, width=32, trunk="tiny", scene_images=(24, 8, 8), dropout=0.5, batch_size=6, epochs=(1, 1)
        ),
    },
    variants={
        "fcn8s": {"fusion": "sum"},
        "convolution": {"fusion": "convolution"},
        "start_one": {"fusion_start": 1.0},
        "rectified": {"fusion_activation": "relu"},
        "trained_upsampling": {"train_upsampling": True},
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
