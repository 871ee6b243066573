"""CFN: image classification with convolutional fusion networks (Liu 2018, chapter 2).

Side branches start behind the poolings of a plain network; like its main branch they end in a 1 x 1 convolution and
global average pooling. A locally-connected layer fuses the vectors of all branches with weights of its own for every
element, and one fully connected layer predicts from the fused vector.

The plain networks CNN-A, -B, -11 and -19, sum and convolution fusion, early prediction, DSN and ResNet are variants.
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
from tfthesis.method import Evaluation, Gallery, Method, Picture, Served, Spec, Stage
from tfthesis.recipe import Recipe, setting
from tfthesis.schedule import stretches

if TYPE_CHECKING:
    import keras

    from tfthesis.classification.data import ImageClassData

classes = LazyModule("tfthesis.classification.data")
drawing = LazyModule("tfthesis.classification.pictures")
evaluation = LazyModule("tfthesis.classification.evaluation")
labelled = LazyModule("tfthesis.data.labelled_images")
networks = LazyModule("tfthesis.classification.networks")
served = LazyModule("tfthesis.classification.served")

_CODE = "released networks"


@dataclasses.dataclass(frozen=True)
class CFNRecipe(Recipe):
    """Every number of CFN."""

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    scene_images: tuple[int, int, int] = setting(
        (2500, 300, 500), "rendered scenes for training, validation and test", unit="images"
    )
    architecture: str = setting(
        "b",
        "plain network: CNN-A, CNN-B, CNN-B with 192 first channels (for CIFAR-100), CNN-11, CNN-19",
        choices=("a", "b", "b_wide", "11", "19", "tiny"),
        source="Table 2.1, section 2.4.2",
    )
    fusion: str = setting(
        "local",
        "how the branches are fused; none is the plain network",
        choices=("none", "sum", "convolution", "local"),
        source="section 2.2.1, Table 2.2",
    )
    late_prediction: bool = setting(
        True, "fuse, then predict (EFLP); otherwise predict from each branch and fuse (EPLF)", source="Eq 2.2, Fig 2.4"
    )
    side_kernel: int = setting(1, "width of the side branches' last convolution", unit="pixels", source="section 2.2.1")
    fusion_kernel: int = setting(
        1, "positions that a locally-connected weight looks at", choices=(1, 2, 3), source="section 2.2.1; 2, 3: 2.5"
    )
    conditioned: bool = setting(False, "let the fusion's weights depend on the input", source="section 2.5")
    deep_supervision: bool = setting(False, "a classifier and a loss on each side branch (DSN-11)", source="Fig 2.10")
    shortcuts: bool = setting(
        False,
        "shortcuts over the convolutions of a stage (ResNet-11)",
        source="Fig 2.11; that they are added behind the last rectifier: our choice",
    )

    crop: bool = setting(
        False, "crop training images at random places; otherwise in the middle", source="Table 2.3, section 2.4.2"
    )
    pad: int = setting(
        0,
        "black pixels on every side before a random crop",
        unit="pixels",
        source="Table 2.3; their number: our choice",
    )
    mirror: bool = setting(False, "flip training images by lot", source="Table 2.3, section 2.4.2")
    dropout: float = setting(0.5, "share that is dropped behind poolings and from the last vector", source="Table 2.1")
    norm_momentum: float = setting(0.9, "decay of the BatchNorm statistics, a step")
    norm_epsilon: float = setting(1e-5, "added to BatchNorm's variance", source="Caffe's default")

    batch_size: int = setting(100, "images in a global batch", unit="images", source="section 2.4.1")
    epochs: tuple[int, ...] = setting(
        (200, 40),
        "stretches of training, after each of which the learning rate falls",
        unit="epochs",
        source="section 2.4.1: 100,000 and 20,000 steps of 500 an epoch; of the images held out for validation fewer",
    )
    learning_rate: float = setting(0.1, "of the first stretch", source="section 2.4.1")
    rate_factor: float = setting(0.1, "factor of the learning rate after a stretch", source="section 2.4.1")
    momentum: float = setting(0.9, "of SGD", source="section 2.4.1")
    weight_decay: float = setting(
        0.0001,
        "L2 decay of kernels; biases and BatchNorm do not decay",
        source="section 2.4.1; what decays: our choice",
    )
    bias_rate: float = setting(2.0, "multiplier of the learning rate of biases", source=_CODE)
    fusion_rate: float = setting(
        0.1, "multiplier of the learning rate of the fusion's weights", source="released networks, local fusion only"
    )
    main_rate: float = setting(
        1.0, "multiplier of the learning rate of the main branch's last convolution", source=_CODE
    )
    patience: int = setting(0, "stop a stretch after so many epochs without a better score; 0 never", unit="epochs")

    def idle(self) -> frozenset[str]:
        """Return the fields of what the network does not have."""
        own = {"dropout"} if self.architecture in ("11", "19") else {"norm_momentum", "norm_epsilon"}
        if self.fusion != "local":
            own |= {"fusion_kernel", "conditioned"}
        if self.fusion in ("none", "sum"):
            own.add("fusion_rate")
        if self.fusion == "none":
            own.add("late_prediction")
            if not self.deep_supervision:
                own.add("side_kernel")
        return frozenset(own)


def data(recipe: CFNRecipe, name: str, directory: Path | None) -> ImageClassData:
    """Open a dataset of labelled images; see `tfthesis.data.labelled_images.open_labelled`."""
    options = reader_options(recipe.reader)
    if name == "scenes":
        options |= {"images": recipe.scene_images}
    size = networks.ARCHITECTURES[recipe.architecture].side
    # Files are stretched to the side of Caffe's ImageNet images; what is in memory has the network's side already.
    resize = 256 if size > 32 else size
    if recipe.pad and not recipe.crop:
        raise UserError(f"recipe field 'pad': {recipe.pad} has no effect without crop=true")
    if recipe.crop and resize + 2 * recipe.pad == size:
        raise UserError(f"recipe field 'crop': images of {resize} pixels leave no room for crops of {size}; set pad")
    crops = classes.Crops(size, resize, recipe.pad, random=recipe.crop, mirror=recipe.mirror)
    return classes.ImageClassData(labelled.open_labelled(name, directory, **options), crops)


def build(recipe: CFNRecipe, spec: Spec) -> keras.Model:
    """Return the network; see `tfthesis.classification.networks.build_network` for its inputs and outputs.

    Raises:
        UserError: fields contradict each other.
    """
    if recipe.conditioned and recipe.fusion_kernel > 1:
        raise UserError("recipe field 'conditioned': weights that depend on the input need fusion_kernel=1")
    if recipe.deep_supervision and recipe.fusion != "none":
        raise UserError("recipe field 'deep_supervision': side branches have losses or are fused, set fusion to 'none'")
    names = [field.name for field in dataclasses.fields(networks.Options)]
    options = networks.Options(**{name: getattr(recipe, name) for name in names})
    inputs, outputs = networks.build_network(options, spec)
    return models.FusionModel(inputs, outputs, name="cfn")


def stages(recipe: CFNRecipe) -> tuple[Stage, ...]:
    """Return the stretches of training, each with a smaller learning rate."""
    weights = {"classification": 1.0}
    if recipe.deep_supervision:
        count = len(networks.ARCHITECTURES[recipe.architecture].sides)
        weights |= {f"side_{number + 1}": 1.0 for number in range(count)}
    return stretches(recipe, "classification", weights, select="accuracy")


def compile(model: keras.Model, recipe: CFNRecipe, stage: Stage) -> None:
    """Set Caffe's SGD with the released networks' multipliers, and the softmax loss."""
    rates = {
        "fusion/kernel": recipe.fusion_rate,
        "fusion/dynamic_kernel": recipe.fusion_rate,
        "fusion/bias": recipe.fusion_rate * recipe.bias_rate,
        "main_conv/bias": recipe.main_rate * recipe.bias_rate,
        "main_conv/": recipe.main_rate,
        "bias": recipe.bias_rate,
    }
    optimizer = optimizers.CaffeSGD(
        stage.learning_rate,
        momentum=recipe.momentum,
        decay=1.0,
        rate_multipliers=rates,
        decay_multipliers={"kernel": recipe.weight_decay, "": 0.0},
    )
    model.compile(optimizer=optimizer, loss=losses.SoftmaxClassification(stage.loss_weights))


def evaluate(model: keras.Model, data: ImageClassData, recipe: CFNRecipe, split: str) -> Evaluation:
    """Measure the error rates on `split`."""
    return evaluation.evaluate_classes(model, data, split)


def galleries(model: keras.Model, recipe: CFNRecipe, data: ImageClassData, split: str) -> dict[str, Gallery]:
    """Return the images of `split` by their fused features (section 2.4.3)."""
    return served.class_gallery(model, data, split)


def signatures(
    model: keras.Model, recipe: CFNRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served functions; see `tfthesis.classification.served.class_signatures`."""
    return served.class_signatures(model, spec, index)


def pictures(model: keras.Model, data: ImageClassData, recipe: CFNRecipe, folder: Path) -> list[Picture]:
    """Draw answers, the confusion matrix, maps of each branch and the fusion's weights, of the test split."""
    return drawing.class_pictures(model, data, "test", folder)


_THESIS = CFNRecipe(dataset="cifar10")
_IMAGENET = dataclasses.replace(
    _THESIS,
    dataset="image_folders",
    architecture="11",
    crop=True,
    mirror=True,
    batch_size=64,
    # The nearest whole epochs to 100,000, 50,000 and 50,000 steps of 64 of some 1,270,000 images: 99,310, 59,586 and
    # 39,724 steps.
    epochs=(5, 3, 2),
    reader=("val_per_class=10",),
    learning_rate=0.01,
    fusion_rate=1.0,
    main_rate=10.0,
)
_QUICK = CFNRecipe(architecture="a", batch_size=25, epochs=(12, 3), learning_rate=0.03)
_TINY = dataclasses.replace(_QUICK, architecture="tiny", scene_images=(96, 24, 24), batch_size=24, epochs=(1, 1))

METHOD = Method(
    title="CFN",
    chapter="Liu 2018, chapter 2",
    summary="Image classification with a locally-connected fusion of intermediate layers.",
    presets={
        "thesis": _THESIS,
        "thesis_released": dataclasses.replace(_THESIS, epochs=(80, 80, 80)),
        "thesis_cifar100": dataclasses.replace(
            _THESIS, dataset="cifar100", architecture="b_wide", reader=("val_per_class=25",)
        ),
        "thesis_augmented": dataclasses.replace(_THESIS, crop=True, pad=4, mirror=True),
        "thesis_imagenet": _IMAGENET,
        "cifar10": dataclasses.replace(
            _THESIS,
            architecture="a",
            batch_size=25,
            epochs=(8, 2),
            learning_rate=0.03,
            reader=("train_per_class=1000", "val_per_class=100", "test_per_class=500"),
        ),
        # Few images, and steps enough that every fusion leaves the plateau on which training begins.
        "scenes": dataclasses.replace(_QUICK, scene_images=(1000, 300, 1000), epochs=(100, 20)),
        "quick": _QUICK,
        "tiny": _TINY,
    },
    variants={
        "plain": {"fusion": "none"},
        "sum": {"fusion": "sum"},
        "convolution": {"fusion": "convolution"},
        "early_prediction": {"late_prediction": False},
        "kernel2": {"fusion_kernel": 2},
        "kernel3": {"fusion_kernel": 3},
        "conditioned": {"conditioned": True},
        "dsn": {"fusion": "none", "deep_supervision": True},
        "resnet": {"fusion": "none", "shortcuts": True},
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
