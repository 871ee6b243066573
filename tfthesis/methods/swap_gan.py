"""SwapGAN: a person in the clothes of another person's photo (Liu 2018, section 8.2).

Generator I gives the person of a condition image the pose of a reference image, Generator II takes the result back to
the condition's segmentation, and Generator III finds the persons' masks in what both have made. They train on two
images of one person in the same clothes and different poses, against one discriminator of pairs; the image itself is
never compared with the true one, unless the perceptual loss is on. Two persons are swapped by Generator I alone, with
the reference's pose; the head of the reference is pasted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import models
from tfthesis.data.options import reader_options
from tfthesis.errors import UserError, closest
from tfthesis.lazy import LazyModule, keras
from tfthesis.method import Evaluation, Gallery, Method, Picture, Served, Spec, Stage
from tfthesis.recipe import Recipe, setting

if TYPE_CHECKING:
    from tfthesis.swapping.classifier import ClothesClassifier
    from tfthesis.swapping.data import SwapData

adversaries = LazyModule("tfthesis.adversarial.networks")
baselines = LazyModule("tfthesis.swapping.baselines")
classifiers = LazyModule("tfthesis.swapping.classifier")
drawing = LazyModule("tfthesis.swapping.pictures")
evaluation = LazyModule("tfthesis.swapping.evaluation")
networks = LazyModule("tfthesis.swapping.networks")
people = LazyModule("tfthesis.data.person_images")
perceptual = LazyModule("tfthesis.losses.perceptual")
served = LazyModule("tfthesis.swapping.served")
swapping = LazyModule("tfthesis.swapping.data")

_PIX2PIX = "pix2pix; section 8.2.2 leaves it open"
_OURS = "our choice; section 8.2.2 leaves it open"
_OUTLOOK = "outlook of section 8.2.6; the thesis has none"
_STRIDE = 8
# What is left of smaller images is too little for the discriminator's patches.
_SMALLEST = 24


@dataclasses.dataclass(frozen=True)
class SwapGANRecipe(Recipe):
    """Every number of SwapGAN and its ablations."""

    dataset: str = setting("paper_dolls", "dataset to read; `--data` overrides it", source="our choice")
    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    persons: tuple[int, int, int] = setting(
        (300, 50, 100), "drawn persons for training, validation and test, two images each", unit="persons"
    )
    height: int = setting(128, "of the images", unit="pixels", source="section 8.2.3")
    width: int = setting(128, "of the images", unit="pixels", source="section 8.2.3")

    generator_2: bool = setting(True, "take the image back to the condition's segmentation", source="Eq 8.15")
    generator_3: bool = setting(True, "find the masks of the generated images", source="Eq 8.17")
    filters: int = setting(64, "of the first convolution of Generators I and II", source=_OURS)
    blocks: int = setting(6, "residual blocks of Generators I and II", source="section 8.2.2")
    upsampling: str = setting(
        "interpolation",
        "how Generators I and II enlarge maps",
        choices=("interpolation", "deconvolution"),
        source="section 8.2.2, Fig 8.12",
    )
    mask_filters: int = setting(64, "of the first convolution of Generator III", source=_PIX2PIX)
    discriminator_filters: int = setting(64, "of the first convolution of the discriminator", source=_PIX2PIX)
    affine: bool = setting(False, "scale and offset in instance normalisation", source=_OURS)

    mask_weight: float = setting(5.0, "lambda, of the distance of the masks", source="Eq 8.18")
    perceptual_weight: float = setting(
        0.0, "of the squared distance of features, which are of pixels 0..255; 0 leaves it out", source=_OUTLOOK
    )
    perceptual_network: str = setting(
        "vgg16", "whose features these are", choices=("vgg16", "vgg19"), source="Johnson et al., section 3.2"
    )
    perceptual_layers: tuple[str, ...] = setting(
        ("block2_conv2",), "of that network", source="Johnson et al., section 4.2"
    )
    perceptual_weights: str = setting("imagenet", "a file of that network's weights, or imagenet to download them")

    batch_size: int = setting(8, "pairs in a global batch", unit="pairs", source="section 8.2.3")
    epochs: int = setting(100, "passes over the pairs", unit="epochs", source="section 8.2.3")
    decay_epochs: int = setting(
        50, "of the last epochs, over which the learning rate falls to zero", unit="epochs", source="section 8.2.3"
    )
    learning_rate: float = setting(0.0002, "of Adam, for generators and discriminator", source="section 8.2.3")
    beta: float = setting(0.5, "decay of Adam's first moment", source="section 8.2.3")
    epsilon: float = setting(1e-8, "what Adam adds to the root of the second moment", source="our choice")

    conditions: int = setting(25, "in whose clothes each test image is dressed", unit="images", source="section 8.2.4")
    condition_seed: int = setting(0, "of the lot that draws them")
    paste_head: bool = setting(
        True,
        "measure IS-reference with the reference's head pasted on",
        source="section 8.2.1; Fig 8.17 leaves it open",
    )
    inception_parts: int = setting(
        10, "of the images, whose inception scores have a mean and a deviation", source="the inception score's paper"
    )

    classifier: str = setting(
        "inception_v3",
        "of the inception score: Inception-v3, or a small one that learns the classes of the dataset's clothes",
        choices=("inception_v3", "clothes"),
        source="section 8.2.4",
    )
    classifier_weights: str = setting(
        "imagenet", "of Inception-v3: a file, or imagenet to download them", source="section 8.2.4"
    )
    classifier_filters: int = setting(16, "of the first convolution of the small one")
    classifier_epochs: int = setting(40, "passes of the small one over the training images", unit="epochs")
    classifier_batch_size: int = setting(32, "images in a batch of its training", unit="images")
    classifier_learning_rate: float = setting(0.002, "of its training")
    baselines: tuple[str, ...] = setting(
        ("poisson_blending", "tps_warping"), "what is measured on the same swaps", source="Table 8.2"
    )

    def idle(self) -> frozenset[str]:
        """Return the fields that change nothing."""
        idle = set() if self.dataset == "paper_dolls" else {"persons"}
        if not self.perceptual_weight:
            idle |= {"perceptual_network", "perceptual_layers", "perceptual_weights"}
        if not self.generator_3:
            idle |= {"mask_filters", "mask_weight"}
        small = {f"classifier_{name}" for name in ("filters", "epochs", "batch_size", "learning_rate")}
        return frozenset(idle | ({"classifier_weights"} if self.classifier == "clothes" else small))


def data(recipe: SwapGANRecipe, name: str, directory: Path | None) -> SwapData:
    """Open a dataset of persons; see `tfthesis.data.person_images.open_people`.

    Raises:
        UserError: a recipe or a dataset that does not fit, or without the labels that its classifier learns.
    """
    _check(recipe)
    options = reader_options(recipe.reader)
    if name == "paper_dolls":
        if recipe.height != recipe.width:
            raise UserError(f"paper dolls are square: set height and width alike, got {recipe.height} x {recipe.width}")
        twice = sorted({"persons", "size"} & set(options))
        if twice:
            raise UserError(f"recipe field 'reader': {twice[0]} of paper dolls is a field of the recipe, set that one")
        options |= {"persons": recipe.persons, "size": recipe.height}
    dataset = people.open_people(name, directory, **options)
    if recipe.classifier == "clothes" and len(dataset.classes) < 2:
        # It would be missed only when a trained model is measured.
        raise UserError(
            f"recipe field 'classifier': clothes needs labels of two classes or more, {name} has "
            f"{len(dataset.classes)}; set classifier=inception_v3"
        )
    return swapping.SwapData(dataset, recipe.height, recipe.width)


def _check(recipe: SwapGANRecipe) -> None:
    for field in ("height", "width"):
        value = getattr(recipe, field)
        if value % _STRIDE or value < _SMALLEST:
            raise UserError(
                f"recipe field {field!r}: expected a multiple of {_STRIDE} from {_SMALLEST} pixels, got {value}"
            )
    fields = ("filters", "mask_filters", "discriminator_filters", "batch_size", "epochs", "conditions")
    small = ("classifier_filters", "classifier_epochs", "classifier_batch_size")
    for least, names in (
        (1, (*fields, *small, "inception_parts")),
        (0, ("blocks", "mask_weight", "perceptual_weight", "condition_seed")),
    ):
        for field in names:
            if getattr(recipe, field) < least:
                raise UserError(f"recipe field {field!r}: expected {least} or more, got {getattr(recipe, field)}")
    for field in ("learning_rate", "classifier_learning_rate"):
        if not getattr(recipe, field) > 0:
            raise UserError(f"recipe field {field!r}: expected a rate above 0, got {getattr(recipe, field)}")
    if recipe.generator_3 and not recipe.mask_weight:
        raise UserError(
            "recipe field 'mask_weight': Generator III learns by it alone; expected more than 0, or generator_3=false"
        )
    if not 0 <= recipe.decay_epochs <= recipe.epochs:
        raise UserError(f"recipe field 'decay_epochs': expected 0 to epochs={recipe.epochs}, got {recipe.decay_epochs}")
    if recipe.perceptual_weight and not recipe.perceptual_layers:
        raise UserError("recipe field 'perceptual_layers': expected the name of a layer, got none")
    for name in recipe.baselines:
        if name not in baselines.BASELINES:
            raise closest(name, list(baselines.BASELINES), "value of recipe field 'baselines'")


def build(recipe: SwapGANRecipe, spec: Spec) -> keras.Model:
    """Return the composite of generators and discriminator; see `tfthesis.models.SwapGAN`."""
    height, width = spec.inputs["condition"][:2]
    size = {"height": height, "width": width, "affine": recipe.affine, "dtype": recipe.precision}
    shape = {"filters": recipe.filters, "blocks": recipe.blocks, "upsampling": recipe.upsampling}
    segments = spec.inputs["segments"][-1]
    # In this order, so that an ablation starts from the weights of the whole model.
    first = networks.swap_generator(channels=6, name="generator_1", **shape, **size)
    discriminator = adversaries.patch_discriminator(
        channels=6, filters=recipe.discriminator_filters, name="discriminator", **size
    )
    second = third = None
    if recipe.generator_2:
        second = networks.swap_generator(channels=3 + segments, name="generator_2", **shape, **size)
    if recipe.generator_3:
        third = networks.mask_generator(filters=recipe.mask_filters, name="generator_3", **size)
    return models.SwapGAN(first, second, third, discriminator, name="swap_gan")


def stages(recipe: SwapGANRecipe) -> tuple[Stage, ...]:
    """Return the one stage, with the loss parts of Eq 8.18 and 8.19 that the recipe has."""
    weights = {
        "reference": 1.0,
        "condition": 1.0 if recipe.generator_2 else 0.0,
        "mask": recipe.mask_weight if recipe.generator_3 else 0.0,
        "perceptual": recipe.perceptual_weight,
        "discriminator": 1.0,
    }
    stage = Stage(
        "swapping",
        recipe.epochs,
        recipe.batch_size,
        recipe.learning_rate,
        {name: weight for name, weight in weights.items() if weight},
        decay_epochs=recipe.decay_epochs,
        keep_best=False,
    )
    return (stage,)


def compile(model: keras.Model, recipe: SwapGANRecipe, stage: Stage) -> None:
    """Set an Adam for the generators and one for the discriminator, and the loss parts.

    Raises:
        UserError: a file of weights is missing, or those of the perceptual loss cannot be downloaded.
    """
    if recipe.classifier == "inception_v3":
        classifiers.check_weights_file(recipe.classifier_weights)
    generator, discriminator = (
        keras.optimizers.Adam(stage.learning_rate, recipe.beta, epsilon=recipe.epsilon) for _ in range(2)
    )
    distance = None
    if recipe.perceptual_weight:
        distance = perceptual.FeatureDistance(
            recipe.perceptual_network, recipe.perceptual_layers, recipe.perceptual_weights
        )
    model.compile(generator, discriminator, stage.loss_weights, distance)


def evaluate(model: keras.Model, data: SwapData, recipe: SwapGANRecipe, split: str) -> Evaluation:
    """Measure swaps and true pairs of `split` (Fig 8.17).

    The validation split, which is measured after each epoch, has one condition an image and no inception score.
    """
    whole = split != "val"
    protocol = evaluation.SwapProtocol(
        conditions=recipe.conditions if whole else 1,
        seed=recipe.condition_seed,
        head=recipe.paste_head,
        parts=recipe.inception_parts,
        baselines=recipe.baselines if whole else (),
    )
    return evaluation.evaluate_swapping(model, data, split, protocol, _classifier(data, recipe) if whole else None)


def before_training(recipe: SwapGANRecipe, data: SwapData) -> None:
    """Read or download the weights of Inception-v3, which is needed only when the training is over."""
    if recipe.classifier == "inception_v3":
        _classifier(data, recipe)


def _classifier(data: SwapData, recipe: SwapGANRecipe) -> ClothesClassifier:
    """Return the classifier of the inception score, which learns the training images where it is the small one."""
    options = classifiers.ClassifierOptions(
        recipe.classifier,
        recipe.classifier_weights,
        recipe.classifier_filters,
        recipe.classifier_epochs,
        recipe.classifier_batch_size,
        recipe.classifier_learning_rate,
    )
    if recipe.classifier != "clothes":
        return classifiers.open_classifier(options)
    train = data.opened("train")
    return classifiers.open_classifier(options, train.images, train.labels, data.spec.classes)


def galleries(model: keras.Model, recipe: SwapGANRecipe, data: SwapData, split: str) -> dict[str, Gallery]:
    """Return none: nothing is searched."""
    return {}


def signatures(
    model: keras.Model, recipe: SwapGANRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return `swap_clothes`; see `tfthesis.swapping.served.swap_signatures`."""
    return served.swap_signatures(model, spec)


def pictures(model: keras.Model, data: SwapData, recipe: SwapGANRecipe, folder: Path) -> list[Picture]:
    """Draw grids of condition, reference, pose and what the generators make of them, of the test split."""
    return drawing.swap_pictures(model, data, "test", folder)


# DeepFashion's photos, in the layout that a user can make of them.
_THESIS = SwapGANRecipe(dataset="person_folders")
_QUICK = SwapGANRecipe(
    height=64,
    width=64,
    filters=16,
    mask_filters=16,
    discriminator_filters=16,
    batch_size=2,
    epochs=4,
    decay_epochs=2,
    classifier="clothes",
    persons=(300, 30, 60),
)

METHOD = Method(
    title="SwapGAN",
    chapter="Liu 2018, chapter 8",
    summary="Clothes swapped between photos of two persons, by generators shaped by pose, body parts and masks.",
    presets={
        "thesis": _THESIS,
        "quick": _QUICK,
        "tiny": dataclasses.replace(
            _QUICK,
            persons=(12, 4, 4),
            height=32,
            width=32,
            filters=2,
            blocks=1,
            mask_filters=2,
            discriminator_filters=2,
            epochs=2,
            decay_epochs=1,
            learning_rate=0.0001,
            epsilon=0.01,
            conditions=2,
            classifier_filters=4,
            classifier_epochs=2,
        ),
    },
    variants={
        "without_generator_2": {"generator_2": False},
        "without_generator_3": {"generator_3": False},
        "deconvolution": {"upsampling": "deconvolution"},
        "perceptual": {"perceptual_weight": 0.0001},
    },
    data=data,
    build=build,
    stages=stages,
    compile=compile,
    evaluate=evaluate,
    galleries=galleries,
    signatures=signatures,
    pictures=pictures,
    before_training=before_training,
)
