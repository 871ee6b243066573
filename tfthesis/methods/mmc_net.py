"""MMC-Net: joint multi-modal matching and classification (Liu 2018, chapter 7).

Two branches of four fully connected layers embed image and text features; a fusion of the last three
layers of each branch is matched by a bi-directional rank loss, and the compact bilinear pooling of both
fusions is classified. Training has three stages: matching, classification on frozen embeddings, both.

MM-Net (matching alone), MC-Net (classification alone) and the vision-only classifier are variants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import layers, losses, models, optimizers
from tfthesis.errors import UserError
from tfthesis.lazy import LazyModule, keras
from tfthesis.matching.recipe import PairRecipe
from tfthesis.method import Data, Evaluation, Gallery, Method, Picture, Plateau, Served, Spec, Stage
from tfthesis.recipe import setting

if TYPE_CHECKING:
    from tfthesis.data.paired import PairedData

evaluation = LazyModule("tfthesis.matching.evaluation")
served = LazyModule("tfthesis.matching.served")
drawing = LazyModule("tfthesis.matching.pictures")
pairs = LazyModule("tfthesis.matching.data")
branches = LazyModule("tfthesis.matching.branches")


@dataclasses.dataclass(frozen=True)
class MMCNetRecipe(PairRecipe):
    """Every number of MMC-Net."""

    text_encoder: str = setting("word_vectors", "text encoder", source="section 7.2.1")
    scene_labels: str = setting(
        "objects",
        "labels of rendered scenes: the kinds of all objects, or the kind of the largest one",
        choices=("objects", "category"),
    )
    labels: str = setting(
        "given",
        "labels of the dataset, labels from the words of an image's other captions, or none",
        choices=("given", "caption_words", "none"),
        source="section 7.2.3; caption_words: chapter 9",
    )
    caption_words: int = setting(80, "size of the dictionary of caption_words", unit="words")
    word_list: str = setting("", "file with a dictionary of one's own for caption_words, a word a line")

    widths: tuple[int, int, int, int] = setting(
        (2048, 512, 512, 512), "channels of FC1 to FC4 in both branches", unit="units", source="section 7.2.2"
    )
    dropout: float = setting(0.5, "share of FC1 that is dropped", source="section 7.2.2")
    fusion: str = setting(
        "convolution",
        "how FC2 to FC4 become one vector",
        choices=("none", "sum", "multiply", "convolution"),
        source="Eq 7.1, 7.2 and Table 7.6",
    )
    fusion_rate: float = setting(0.1, "multiplier of the learning rate of the fusion filter", source="released code")
    pooling: str = setting(
        "compact",
        "how the two embeddings meet in the classifier",
        choices=("compact", "full", "concatenation"),
        source="Algorithm 2 and Table 7.7",
    )
    pooling_dimension: int = setting(2048, "D of compact bilinear pooling", unit="units", source="Fig 7.10")
    classifier_input: str = setting(
        "both", "what the classifier sees", choices=("both", "image", "text"), source="Table 7.8"
    )
    matching: bool = setting(True, "train the matching component", source="Fig 7.6")
    classification: bool = setting(True, "train the classification component", source="Fig 7.6")

    margin: float = setting(0.1, "m of the matching loss", unit="cosine", source="section 7.4.1")
    alpha: float = setting(2.0, "weight of the text-anchored triplets", source="Eq 7.4 and section 7.4.1")
    negatives: int = setting(20, "K, hardest violating negatives an anchor", source="section 7.4.1")
    beta: float = setting(0.5, "weight of the classification loss in stage three", source="Eq 7.13 and Fig 7.9")
    beta_basis: str = setting(
        "sum",
        "the matching loss that beta weighs against: summed over the K negatives, or their mean as it is computed",
        choices=("sum", "mean"),
        source="Eq 7.4, 7.13 as printed; the released layer of chapter 5 divides by K",
    )

    batch_size: int = setting(128, "pairs in a global batch", unit="pairs", source="section 7.4.1")
    matching_epochs: int = setting(60, "T1, length of stage one", unit="epochs")
    classification_epochs: int = setting(20, "T2, length of stage two", unit="epochs")
    joint_epochs: int = setting(30, "T3, length of stage three", unit="epochs")
    matching_rate: float = setting(0.1, "lambda 1, learning rate of stage one", source="section 7.4.1")
    classification_rate: float = setting(
        0.05, "lambda 2, learning rate of stage two", source="Algorithm 3 (below lambda 1); value: our choice"
    )
    joint_rate: float = setting(
        0.02, "lambda 3, learning rate of stage three", source="Algorithm 3 (below lambda 2); value: our choice"
    )
    classifier_decay: float = setting(0.0005, "L2 decay of the classifier's kernel", source="section 7.4.1")
    plateau_monitor: str = setting(
        "loss", "training loss whose plateau divides the learning rate", source="section 7.4.1 (which loss: our choice)"
    )
    plateau_factor: float = setting(0.1, "factor of the learning rate at a plateau", source="section 7.4.1")
    plateau_delta: float = setting(1e-4, "smallest fall of the monitored loss that counts")
    plateau_patience: int = setting(3, "epochs without a fall that make a plateau", unit="epochs")
    patience: int = setting(0, "stop a stage after so many epochs without a better score; 0 never", unit="epochs")
    kernel_stddev: float = setting(0.01, "deviation of the initial kernels (0.05 in the released code of chapter 5)")

    def idle(self) -> frozenset[str]:
        """Return the fields of the component, and of the stage, that are not trained."""
        idle = set(super().idle())
        if not (self.classification and self.matching):
            idle |= {"classification_epochs", "classification_rate", "beta", "beta_basis"}
        if not self.classification:
            idle |= {"labels", "caption_words", "word_list"}
            idle |= {"pooling", "pooling_dimension", "classifier_input", "classifier_decay"}
        if not self.matching:
            idle |= {"margin", "alpha", "negatives"}
        return frozenset(idle)


def data(recipe: MMCNetRecipe, name: str, directory: Path | None) -> PairedData:
    """Open an image-text dataset with the recipe's encoders; see `tfthesis.matching.data.open_pairs`."""
    drawn = {"images": recipe.scene_images, "labels": recipe.scene_labels}
    return pairs.open_for(
        recipe,
        name,
        directory,
        drawn=drawn,
        labels=recipe.labels if recipe.classification else "none",
        max_words=recipe.caption_words,
        word_list=recipe.word_list if recipe.classification else "",
    )


def build(recipe: MMCNetRecipe, spec: Spec) -> keras.Model:
    """Return the network as one functional model.

    Inputs `image` and `text` are features; outputs are those of `image_embedding`, `text_embedding`
    `[B, widths[3]]` (L2-normalised) and `logits` `[B, C]` that the recipe trains.

    Raises:
        UserError: the recipe trains nothing, classifies without labels, or fuses layers of different widths.
    """
    _check(recipe, spec)
    policy = recipe.precision
    needed = [name for name in ("image", "text") if recipe.matching or recipe.classifier_input in ("both", name)]
    inputs, features = branches.inputs_and_features(recipe, spec, needed)
    fused = {name: _branch(name, features[name], recipe) for name in needed}
    outputs = {}
    if recipe.matching:
        for name in needed:
            unit = keras.layers.UnitNormalization(name=f"{name}_embedding", dtype=policy)
            outputs[f"{name}_embedding"] = unit(fused[name])
    if recipe.classification:
        outputs["logits"] = _classifier(fused, recipe, len(spec.classes))
    return models.ObjectiveModel(inputs, outputs, name="mmc_net")


def _check(recipe: MMCNetRecipe, spec: Spec) -> None:
    if not (recipe.matching or recipe.classification):
        raise UserError("recipe fields 'matching' and 'classification' are both false: nothing would train")
    if recipe.classification and not spec.classes:
        raise UserError(
            "the recipe trains a classifier, but the dataset has no labels: "
            "take --variant mm_net, or --set labels=caption_words for labels from the captions' words"
        )
    if recipe.fusion != "none" and len(set(recipe.widths[1:])) > 1:
        raise UserError(f"fusion {recipe.fusion!r} needs FC2 to FC4 of one width, got widths={recipe.widths}")


def _branch(modality: str, features: keras.KerasTensor, recipe: MMCNetRecipe) -> keras.KerasTensor:
    """Return the fused layers of one modality, before the L2 normalisation."""
    x = branches.norm(recipe, f"{modality}_input_norm")(features)
    x = branches.dense(recipe, recipe.widths[0], f"{modality}_fc1", activation="relu")(x)
    x = branches.dropout(recipe, f"{modality}_dropout")(x)
    hidden = []
    for number, width in enumerate(recipe.widths[1:], start=2):
        x = branches.dense(recipe, width, f"{modality}_fc{number}")(x)
        x = branches.norm(recipe, f"{modality}_fc{number}_norm")(x)
        x = branches.relu(recipe, f"{modality}_fc{number}_relu")(x)
        hidden.append(x)
    if recipe.fusion == "none":
        return x
    x = layers.LayerFusion(recipe.fusion, name=f"{modality}_fusion", dtype=recipe.precision)(hidden)
    # The released network normalises the fused vector as one channel: one mean, variance, scale and
    # shift for all its components. Sum and multiplication get the same, so that they differ from the
    # convolution in its weights only.
    policy = recipe.precision
    x = keras.layers.Reshape((-1, 1), name=f"{modality}_fusion_channel", dtype=policy)(x)
    x = branches.norm(recipe, f"{modality}_fusion_norm")(x)
    return keras.layers.Reshape((recipe.widths[-1],), name=f"{modality}_fused", dtype=policy)(x)


def _classifier(fused: Mapping[str, keras.KerasTensor], recipe: MMCNetRecipe, classes: int) -> keras.KerasTensor:
    """Return the logits of the recipe's pooling of both embeddings, or of one of them."""
    policy = recipe.precision
    if recipe.classifier_input != "both":
        x = fused[recipe.classifier_input]
    elif recipe.pooling == "concatenation":
        x = keras.layers.Concatenate(name="classifier_concatenation", dtype=policy)([fused["image"], fused["text"]])
    else:
        if recipe.pooling == "compact":
            pooling = layers.CompactBilinearPooling(recipe.pooling_dimension, name="classifier_pooling", dtype=policy)
        else:
            pooling = layers.BilinearPooling(name="classifier_pooling", dtype=policy)
        x = pooling([fused["image"], fused["text"]])
        x = layers.SignedSquareRoot(name="classifier_root", dtype=policy)(x)
        x = keras.layers.UnitNormalization(name="classifier_unit", dtype=policy)(x)
    # Eq 7.8 has no bias.
    return branches.dense(recipe, classes, "classifier_logits", use_bias=False)(x)


def stages(recipe: MMCNetRecipe) -> tuple[Stage, ...]:
    """Return the stages of Algorithm 3, or those of the baselines.

    MM-Net and MC-Net train as long as MMC-Net's branches do, stage one and then three, on their one loss.
    """
    plateau = Plateau(
        recipe.plateau_monitor, recipe.plateau_factor, recipe.plateau_patience, min_delta=recipe.plateau_delta
    )

    def stage(name: str, epochs: int, rate: float, trainable: tuple[str, ...], select: str, **weights: float) -> Stage:
        return Stage(
            name,
            epochs,
            recipe.batch_size,
            rate,
            weights,
            trainable,
            plateau=plateau,
            patience=recipe.patience,
            select=select,
        )

    first, third = (recipe.matching_epochs, recipe.matching_rate), (recipe.joint_epochs, recipe.joint_rate)
    everything, branches = ("",), ("image_", "text_")
    if not recipe.classification:
        return (
            stage("matching", *first, everything, "r_sum", matching=1.0),
            stage("matching_fine", *third, everything, "r_sum", matching=1.0),
        )
    if not recipe.matching:
        return (
            stage("classification", *first, everything, "label_score", classification=1.0),
            stage("classification_fine", *third, everything, "label_score", classification=1.0),
        )
    second = (recipe.classification_epochs, recipe.classification_rate)
    # The matching loss is computed as a mean over K, for which the learning rates are; beta shrinks with it.
    beta = recipe.beta / (recipe.negatives if recipe.beta_basis == "sum" else 1)
    return (
        stage("matching", *first, branches, "r_sum", matching=1.0),
        stage("classification", *second, ("classifier",), "label_score", classification=1.0),
        stage("joint", *third, everything, "joint", matching=1.0, classification=beta),
    )


def compile(model: keras.Model, recipe: MMCNetRecipe, stage: Stage) -> None:
    """Set Caffe's SGD and the weighted losses of `stage`."""
    optimizer = optimizers.CaffeSGD(
        stage.learning_rate,
        momentum=recipe.momentum,
        decay=1.0,
        rate_multipliers={"fusion/": recipe.fusion_rate},
        # BatchNorm undoes the scale of the branches' kernels. Nothing rescales the classifier's logits, so that its
        # decay is a number of its own.
        decay_multipliers={"classifier_": recipe.classifier_decay, **branches.decays(recipe)},
    )
    objective = losses.MatchingAndClassification(
        stage.loss_weights, margin=recipe.margin, alpha=recipe.alpha, negatives=recipe.negatives
    )
    model.compile(optimizer=optimizer, loss=objective)


def evaluate(model: keras.Model, data: PairedData, recipe: MMCNetRecipe, split: str) -> Evaluation:
    """Measure R@K both ways and the classification of pairs on `split`."""
    return evaluation.evaluate_pairs(model, data.arrays(split), data.spec.classes, data.spec.multi_label)


def galleries(model: keras.Model, recipe: MMCNetRecipe, data: PairedData, split: str) -> dict[str, Gallery]:
    """Return the images and captions of `split` as searchable items."""
    return served.matching_galleries(model, data.arrays(split))


def signatures(
    model: keras.Model, recipe: MMCNetRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served functions; see `tfthesis.matching.served.matching_signatures`."""
    return served.matching_signatures(model, spec, index, encoders)


def pictures(model: keras.Model, data: Data, recipe: MMCNetRecipe, folder: Path) -> list[Picture]:
    """Draw retrieved items both ways, the embedding map, and the confusion matrix, of the test split."""
    return drawing.matching_pictures(model, data, "test", folder)


_THESIS = MMCNetRecipe(dataset="pascal_sentence")
# With val_per_class=0 the training images would be exactly the thesis's, and nothing would be left to select by.
_FINE_GRAINED = {"beta": 1.2, "pooling_dimension": 4096, "reader": ("split=official", "val_per_class=1")}
_QUICK = MMCNetRecipe(
    image_encoder="efficientnet_lite0",
    text_encoder="glove_50d",
    widths=(512, 256, 256, 256),
    pooling_dimension=1024,
    weight_decay=0.005,
    matching_epochs=15,
    # Table stage_two: with 5 epochs the classifier is not done; longer ones gain little for their time.
    classification_epochs=20,
    joint_epochs=10,
)
_FLICKR8K = dataclasses.replace(
    _QUICK,
    dataset="flickr8k",
    labels="caption_words",
    widths=(1024, 512, 512, 512),
    batch_size=512,
    negatives=50,
    matching_rate=0.2,
    matching_epochs=30,
    classification_epochs=5,
    joint_epochs=15,
    # The folds of table flickr8k_choice show no difference to decay .005 with a plateau of three epochs.
    weight_decay=0.02,
    plateau_patience=30,
)
_TINY = dataclasses.replace(
    _QUICK,
    image_encoder="pixels",
    text_encoder="hashed_words",
    scene_images=(32, 12, 12),
    widths=(32, 16, 16, 16),
    pooling_dimension=64,
    batch_size=24,
    negatives=5,
    matching_epochs=2,
    classification_epochs=1,
    joint_epochs=1,
)

# No pooling bounds what these classifiers see; with several labels they diverge at the rates of the others.
_ONE_MODALITY = {"matching": False, "matching_rate": 0.01, "joint_rate": 0.002}

METHOD = Method(
    title="MMC-Net",
    chapter="Liu 2018, chapter 7",
    summary="Joint multi-modal matching and classification of images and texts.",
    presets={
        "thesis": _THESIS,
        "thesis_coco": dataclasses.replace(
            _THESIS,
            dataset="coco",
            batch_size=1500,
            negatives=50,
            reader=("division=dataset_coco.json", "val_images=1000", "test_images=1000"),
        ),
        "thesis_flowers": dataclasses.replace(_THESIS, dataset="flowers", **_FINE_GRAINED),
        "thesis_cub": dataclasses.replace(_THESIS, dataset="cub", **_FINE_GRAINED),
        "flickr8k": _FLICKR8K,
        "quick": _QUICK,
        "tiny": _TINY,
    },
    variants={
        "mm_net": {"classification": False},
        "mc_net": {"matching": False},
        "vision_only": {"classifier_input": "image", **_ONE_MODALITY},
        "text_only": {"classifier_input": "text", **_ONE_MODALITY},
        "fusion_none": {"fusion": "none"},
        "fusion_sum": {"fusion": "sum"},
        "fusion_multiply": {"fusion": "multiply"},
        "bilinear": {"pooling": "full"},
        "concatenation": {"pooling": "concatenation"},
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
