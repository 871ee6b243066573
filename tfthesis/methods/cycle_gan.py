"""Long and Nest CycleGAN: translation between two domains without pairs (Liu 2018, section 8.1).

Two chains of generators lead from one domain to the other and back. The vanilla CycleGAN has one generator in each,
Long CycleGAN several. Nest CycleGAN also leads the images between two generators back to where they began, through as
many generators of the other chain, and draws the first images of both chains together. The last image of a chain has to
deceive a discriminator. Where the dataset has maps of labels, a segmentation network measures the photos that are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import models
from tfthesis.data.options import reader_options
from tfthesis.errors import UserError
from tfthesis.lazy import LazyModule, keras
from tfthesis.method import Evaluation, Gallery, Method, Picture, Served, Spec, Stage
from tfthesis.recipe import Recipe, setting

if TYPE_CHECKING:
    from tfthesis.adversarial.data import TranslationData
    from tfthesis.adversarial.scorer import ScorerOptions

domains = LazyModule("tfthesis.data.domain_images")
drawing = LazyModule("tfthesis.adversarial.pictures")
evaluation = LazyModule("tfthesis.adversarial.evaluation")
networks = LazyModule("tfthesis.adversarial.networks")
scoring = LazyModule("tfthesis.adversarial.scorer")
served = LazyModule("tfthesis.adversarial.served")
translation = LazyModule("tfthesis.adversarial.data")
vgg = LazyModule("tfthesis.trunks.vgg")

_PAPER = "CycleGAN paper; section 8.1.3 leaves it open"
_STRIDE = 4
# Five poolings of the network of the FCN-score.
_SMALLEST = 32


@dataclasses.dataclass(frozen=True)
class CycleGANRecipe(Recipe):
    """Every number of CycleGAN and its longer chains."""

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    scene_images: tuple[int, int, int] = setting(
        (180, 20, 100), "rendered scenes for training, validation and test", unit="images"
    )
    height: int = setting(256, "of the images", unit="pixels", source="section 8.1.3")
    width: int = setting(256, "of the images", unit="pixels", source="section 8.1.3")
    mirror: bool = setting(False, "flip training images by lot", source="section 8.1.3 names none")
    disjoint: bool = setting(
        False,
        "train on the photos of one half of the pairs and the maps of the other",
        source="section 8.1.3 shuffles the two domains",
    )

    generators: tuple[int, int] = setting(
        (2, 2),
        "steps of the chains from A to B and from B to A; (1, 1) with similarity_weight=0 is vanilla",
        source="section 8.1.2",
    )
    shared: bool = setting(
        False, "pass one generator several times instead of a chain of different ones", source="outlook of chapter 9"
    )
    filters: int = setting(64, "of the first convolution of a generator", source=_PAPER)
    blocks: int = setting(9, "residual blocks of a generator", source=_PAPER)
    discriminator_filters: int = setting(64, "of the first convolution of a discriminator", source=_PAPER)
    discriminator_norm: str = setting(
        "instance",
        "normalisation in a discriminator: of its maps, or of its kernels",
        choices=("instance", "spectral", "none"),
        source=_PAPER,
    )
    affine: bool = setting(
        False,
        "scale and offset in instance normalisation",
        source="CycleGAN's released code; the thesis leaves it open",
    )

    cycle_weight: float = setting(
        10.0, "of the reconstruction, and of each inner cycle; 0 is a plain GAN", source="section 8.1.3"
    )
    inner_cycles: bool = setting(True, "reconstruct from the intermediate images too", source="Eq 8.9")
    similarity_weight: float = setting(
        1.0, "of the distance of the first images of both chains; 0 leaves it out", source="Eq 8.11"
    )
    identity_weight: float = setting(
        0.0, "of the distance of an image from its translation into its own domain", source="the thesis has none"
    )

    batch_size: int = setting(1, "pairs of images in a global batch", unit="images", source="section 8.1.3")
    epochs: int = setting(200, "passes over the larger domain", unit="epochs", source="section 8.1.3")
    decay_epochs: int = setting(
        100, "of the last epochs, over which the learning rate falls to zero", unit="epochs", source=_PAPER
    )
    learning_rate: float = setting(0.0002, "of Adam, for generators and discriminators", source="section 8.1.3")
    beta: float = setting(0.5, "decay of Adam's first moment", source=_PAPER)
    epsilon: float = setting(1e-8, "what Adam adds to the root of the second moment", source="CycleGAN's released code")
    weight_decay: float = setting(
        0.0,
        "what is added to the gradient of a kernel, as a share of it",
        source="our choice; section 8.1.3 has 0.0005 as in CycleGAN, which has none",
    )
    pool: int = setting(50, "generated images that a discriminator is shown again", unit="images", source=_PAPER)

    scorer_epochs: int = setting(
        12, "passes of the network of the FCN-score over the training photos; 0 leaves the score out", unit="epochs"
    )
    scorer_trunk: str = setting(
        "vgg16", "of that network", choices=("vgg16", "narrow", "tiny"), source="section 8.1.4: FCN"
    )
    scorer_weights: str = setting(
        "imagenet", "what it starts from: a file, or imagenet to download them; empty starts by lot"
    )
    scorer_learning_rate: float = setting(0.0001, "of its training")
    scorer_batch_size: int = setting(4, "photos in a batch of its training", unit="images")

    def idle(self) -> frozenset[str]:
        """Return the fields that change nothing."""
        idle = set()
        if max(self.generators) == 1:
            idle |= {"inner_cycles", "shared"}
        if not self.cycle_weight:
            idle |= {"inner_cycles"}
        if not self.scorer_epochs:
            idle |= {"scorer_trunk", "scorer_weights", "scorer_learning_rate", "scorer_batch_size"}
        return frozenset(idle)


def data(recipe: CycleGANRecipe, name: str, directory: Path | None) -> TranslationData:
    """Open a dataset of two domains, or of photos with maps; see `tfthesis.data.domain_images.open_domains`."""
    _check(recipe)
    options = reader_options(recipe.reader)
    if name == "scenes":
        if recipe.height != recipe.width:
            raise UserError(f"scenes are square: set height and width alike, got {recipe.height} x {recipe.width}")
        options |= {"images": recipe.scene_images, "size": recipe.height}
    dataset = domains.open_domains(name, directory, **options)
    return translation.TranslationData(dataset, recipe.height, recipe.width, recipe.mirror, recipe.disjoint)


def _check(recipe: CycleGANRecipe) -> None:
    for field in ("height", "width"):
        value = getattr(recipe, field)
        if value % _STRIDE or value < _SMALLEST:
            raise UserError(
                f"recipe field {field!r}: expected a multiple of {_STRIDE} from {_SMALLEST} pixels, got {value}"
            )
    least = {"generators": min(recipe.generators), "filters": recipe.filters, "batch_size": recipe.batch_size}
    least |= {name: getattr(recipe, name) for name in ("discriminator_filters", "epochs", "scorer_batch_size")}
    for field, value in least.items():
        if value < 1:
            raise UserError(f"recipe field {field!r}: expected 1 or more, got {getattr(recipe, field)}")
    weights = ("cycle_weight", "similarity_weight", "identity_weight", "weight_decay")
    for field in ("blocks", "pool", "scorer_epochs", *weights):
        if getattr(recipe, field) < 0:
            raise UserError(f"recipe field {field!r}: expected 0 or more, got {getattr(recipe, field)}")
    for field in ("learning_rate", "scorer_learning_rate"):
        if not getattr(recipe, field) > 0:
            raise UserError(f"recipe field {field!r}: expected a rate above 0, got {getattr(recipe, field)}")
    if not 0 <= recipe.decay_epochs <= recipe.epochs:
        raise UserError(f"recipe field 'decay_epochs': expected 0 to epochs={recipe.epochs}, got {recipe.decay_epochs}")
    if recipe.scorer_epochs:
        vgg.check_starting_weights(recipe.scorer_trunk, recipe.scorer_weights, "scorer_weights")


def build(recipe: CycleGANRecipe, spec: Spec) -> keras.Model:
    """Return the composite of generators and discriminators; see `tfthesis.models.CycleConsistentGAN`."""
    height, width = spec.inputs["a"][:2]
    size = {"height": height, "width": width, "affine": recipe.affine, "dtype": recipe.precision}

    def chain(target: str, steps: int) -> list[keras.Model]:
        return [
            networks.resnet_generator(
                filters=recipe.filters, blocks=recipe.blocks, name=f"generator_{target}_{number}", **size
            )
            for number in range(1, 2 if recipe.shared else steps + 1)
        ]

    discriminators = [
        networks.patch_discriminator(
            filters=recipe.discriminator_filters,
            normalization=recipe.discriminator_norm,
            name=f"discriminator_{domain}",
            **size,
        )
        for domain in ("a", "b")
    ]
    to_b, to_a = (chain(target, steps) for target, steps in zip("ba", recipe.generators, strict=True))
    return models.CycleConsistentGAN(
        to_b, to_a, *discriminators, steps=recipe.generators, pool=recipe.pool, name="cycle_gan"
    )


def stages(recipe: CycleGANRecipe) -> tuple[Stage, ...]:
    """Return the one stage, with the loss parts of Eq 8.3, 8.6 or 8.10 and 8.11."""
    inner = recipe.inner_cycles and max(recipe.generators) > 1
    weights = {
        "adversarial": 1.0,
        "cycle": recipe.cycle_weight,
        "inner": recipe.cycle_weight if inner else 0.0,
        "similarity": recipe.similarity_weight,
        "identity": recipe.identity_weight,
        "discriminator": 1.0,
    }
    stage = Stage(
        "translation",
        recipe.epochs,
        recipe.batch_size,
        recipe.learning_rate,
        {name: weight for name, weight in weights.items() if weight},
        decay_epochs=recipe.decay_epochs,
        keep_best=False,
    )
    return (stage,)


def compile(model: keras.Model, recipe: CycleGANRecipe, stage: Stage) -> None:
    """Set an Adam for the generators and one for the discriminators, and the loss parts.

    Raises:
        UserError: the file of the scorer's weights is missing.
    """
    if recipe.scorer_epochs:
        vgg.check_weights_file(recipe.scorer_weights)
    generator, discriminator = (
        keras.optimizers.Adam(stage.learning_rate, recipe.beta, epsilon=recipe.epsilon) for _ in range(2)
    )
    model.compile(generator, discriminator, stage.loss_weights, recipe.weight_decay)


def evaluate(model: keras.Model, data: TranslationData, recipe: CycleGANRecipe, split: str) -> Evaluation:
    """Measure the reconstructions of `split` and, of a dataset with labels, the FCN-score of its photos."""
    scorer = scoring.open_scorer(data, _scorer_options(recipe)) if _scored(recipe, data) else None
    remark = f"; trained with an identity loss of weight {recipe.identity_weight:g}" if recipe.identity_weight else ""
    return evaluation.evaluate_translation(model, data, split, scorer, remark)


def before_training(recipe: CycleGANRecipe, data: TranslationData) -> None:
    """Read or download the weights that the scorer starts from, which it needs only when an epoch is over."""
    if _scored(recipe, data):
        scoring.check_scorer_weights(data, _scorer_options(recipe))


def _scored(recipe: CycleGANRecipe, data: TranslationData) -> bool:
    return data.labelled and recipe.scorer_epochs > 0


def _scorer_options(recipe: CycleGANRecipe) -> ScorerOptions:
    return scoring.ScorerOptions(
        recipe.scorer_trunk,
        recipe.scorer_weights,
        recipe.scorer_epochs,
        recipe.scorer_batch_size,
        recipe.scorer_learning_rate,
    )


def galleries(model: keras.Model, recipe: CycleGANRecipe, data: TranslationData, split: str) -> dict[str, Gallery]:
    """Return none: nothing is searched."""
    return {}


def signatures(
    model: keras.Model, recipe: CycleGANRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return a function for each direction; see `tfthesis.adversarial.served.translation_signatures`."""
    return served.translation_signatures(model, spec)


def pictures(model: keras.Model, data: TranslationData, recipe: CycleGANRecipe, folder: Path) -> list[Picture]:
    """Draw grids of input, translation and reconstruction, of the test split."""
    return drawing.translation_pictures(model, data, "test", folder)


_THESIS = CycleGANRecipe(dataset="cmp_facades")
_QUICK = CycleGANRecipe(
    height=64,
    width=64,
    filters=16,
    blocks=6,
    discriminator_filters=16,
    epochs=2,
    decay_epochs=1,
    scorer_trunk="narrow",
    scorer_weights="",
    scorer_epochs=40,
    scorer_learning_rate=0.05,
    scorer_batch_size=8,
)

METHOD = Method(
    title="Long and Nest CycleGAN",
    chapter="Liu 2018, chapter 8",
    summary="Translation between two domains without pairs, by chains of generators and cycles within cycles.",
    presets={
        "thesis": _THESIS,
        "thesis_cityscapes": dataclasses.replace(_THESIS, dataset="cityscapes"),
        "thesis_sbir": dataclasses.replace(_THESIS, dataset="sbir", scorer_epochs=0),
        "facades": dataclasses.replace(_QUICK, dataset="cmp_facades", mirror=True, epochs=4, decay_epochs=2),
        "quick": _QUICK,
        "tiny": dataclasses.replace(
            _QUICK,
            height=32,
            width=32,
            filters=2,
            blocks=1,
            discriminator_filters=2,
            scene_images=(12, 4, 4),
            batch_size=2,
            pool=3,
            epochs=2,
            decay_epochs=1,
            learning_rate=0.0001,
            epsilon=0.01,
            scorer_trunk="tiny",
            scorer_epochs=1,
        ),
    },
    variants={
        "gan": {"generators": (1, 1), "cycle_weight": 0.0, "inner_cycles": False, "similarity_weight": 0.0},
        "vanilla": {"generators": (1, 1), "inner_cycles": False, "similarity_weight": 0.0},
        "long": {"inner_cycles": False, "similarity_weight": 0.0},
        "long_shared": {"inner_cycles": False, "similarity_weight": 0.0, "shared": True},
        "nest_shared": {"shared": True},
        "no_similarity": {"similarity_weight": 0.0},
        "three_generators": {"generators": (3, 3)},
        "identity": {"identity_weight": 5.0},
        "spectral": {"discriminator_norm": "spectral"},
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
