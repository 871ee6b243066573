"""RRF-Net: image-text matching with recurrent residual fusion (Liu 2018, chapter 5).

Two branches of four fully connected layers embed image and text features. FC3 stands in a recurrent residual fusion
block, which applies it several times with shared weights and fuses what comes out; a bi-rank loss compares images and
texts across and within the modalities. Networks with different numbers of recurrences form an ensemble.

The plain network without the block, the two losses of Table 5.3 and DSPE are variants.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import layers, losses, models
from tfthesis.errors import UserError
from tfthesis.lazy import LazyModule, keras
from tfthesis.matching.recipe import WORD_ROWS, PairRecipe
from tfthesis.method import Data, Evaluation, Gallery, Method, Picture, Served, Spec, Stage
from tfthesis.recipe import setting
from tfthesis.schedule import stretches

if TYPE_CHECKING:
    from tfthesis.data.paired import PairedData

branches = LazyModule("tfthesis.matching.branches")
drawing = LazyModule("tfthesis.matching.pictures")
evaluation = LazyModule("tfthesis.matching.evaluation")
pairs = LazyModule("tfthesis.matching.data")
score_drawing = LazyModule("tfthesis.matching.score_pictures")
scores = LazyModule("tfthesis.matching.scores")
served = LazyModule("tfthesis.matching.served")

MODALITIES = ("image", "text")


@dataclasses.dataclass(frozen=True)
class RRFNetRecipe(PairRecipe):
    """Every number of RRF-Net."""

    text_encoder: str = setting("hglmm", "text encoder", source="section 5.3.1")

    widths: tuple[int, ...] = setting(
        (2048, 512, 512, 512), "channels of FC1 to the last FC in both branches", unit="units", source="section 5.3.2"
    )
    dropout: float = setting(0.5, "share of FC1 that is dropped", source="section 5.3.2")
    blocks: tuple[int, ...] = setting(
        (3,),
        "numbers of the FC layers that stand in an RRF block; none gives the plain network",
        source="section 5.3.2",
    )
    recurrences: tuple[int, ...] = setting(
        (3,), "T of each network; more than one number makes an ensemble of networks", source="Tables 5.1 and 5.5"
    )
    fusion: str = setting(
        "convolution",
        "how the T + 1 outputs of a block become one",
        choices=("none", "sum", "convolution"),
        source="Eq 5.5, 5.6 and Table 5.2",
    )
    bias_rate: float = setting(2.0, "multiplier of the learning rate of biases", source="released code")
    kernel_stddev: float = setting(0.05, "deviation of the initial kernels and fusion filters", source="released code")

    margin: float = setting(0.1, "m of the ranking loss", unit="cosine", source="section 5.4")
    alphas: tuple[float, float, float, float] = setting(
        (1.0, 0.5, 2.0, 1.0),
        "weights of the hinges image to text, text to text, text to image, image to image",
        source="section 5.4, in the order of the released layer",
    )
    negatives: int = setting(50, "N, hardest violating negatives an anchor", source="section 5.4")
    neighbours: float = setting(
        0.0, "weight of keeping an image's captions together (DSPE)", source="our choice: no term of chapter 5"
    )

    batch_size: int = setting(1500, "pairs in a global batch", unit="pairs", source="section 5.4")
    epochs: tuple[int, ...] = setting(
        (20, 20, 20, 5),
        "stretches of training, after each of which the learning rate falls",
        unit="epochs",
        source="released solver: 6,500 steps, a fall each 2,000",
    )
    learning_rate: float = setting(0.1, "of the first stretch", source="section 5.4")
    rate_factor: float = setting(0.1, "factor of the learning rate after a stretch", source="section 5.4")
    patience: int = setting(0, "stop a stretch after so many epochs without a better score; 0 never", unit="epochs")

    def idle(self) -> frozenset[str]:
        """Return the fusion's field where there is no block."""
        return super().idle() | ({"fusion"} if not self.blocks else set())


def data(recipe: RRFNetRecipe, name: str, directory: Path | None) -> PairedData:
    """Open an image-text dataset with the recipe's encoders; see `tfthesis.matching.data.open_pairs`."""
    return pairs.open_for(recipe, name, directory, drawn={"images": recipe.scene_images})


def build(recipe: RRFNetRecipe, spec: Spec) -> keras.Model:
    """Return the network, or the networks of an ensemble side by side, as one functional model.

    Inputs `image` and `text` are features; outputs `image_embedding` and `text_embedding` are L2-normalised, and for
    an ensemble joined so that their inner product is the average similarity of Eq 5.11. Each member of an ensemble
    also gives `t{T}_image` and `t{T}_text`.

    Raises:
        UserError: a block does not fit its layer, or two members have the same T.
    """
    _check(recipe)
    inputs, features = branches.inputs_and_features(recipe, spec, MODALITIES)
    outputs = {}
    for modality in MODALITIES:
        members = [_branch(modality, features[modality], recipe, t) for t in recipe.recurrences]
        name = f"{modality}_embedding"
        if len(members) == 1:
            outputs[name] = keras.layers.UnitNormalization(name=name, dtype=recipe.precision)(members[0])
            continue
        outputs[name] = layers.JoinedEmbeddings(name=name, dtype=recipe.precision)(members)
        outputs |= {f"t{t}_{modality}": member for t, member in zip(recipe.recurrences, members, strict=True)}
    return models.ObjectiveModel(inputs, outputs, name="rrf_net")


def _check(recipe: RRFNetRecipe) -> None:
    if len(recipe.widths) < 2:
        raise UserError(f"recipe field 'widths': expected two layers or more, got {recipe.widths}")
    if not recipe.recurrences or len(set(recipe.recurrences)) < len(recipe.recurrences) or min(recipe.recurrences) < 0:
        raise UserError(f"recipe field 'recurrences': expected different numbers from 0 on, got {recipe.recurrences}")
    if len(recipe.recurrences) > 1 and recipe.text_encoder == WORD_ROWS:
        raise UserError(
            "recipe field 'recurrences': the members of an ensemble train apart, and 'word_rows' has one sentence "
            "encoder that trains; take one number, or another text_encoder"
        )
    for number in recipe.blocks:
        if not 2 <= number <= len(recipe.widths) - 1:
            raise UserError(
                f"recipe field 'blocks': a block may stand on FC2 to FC{len(recipe.widths) - 1}, got {recipe.blocks}; "
                "FC1 has another width than its input, and the last FC no rectifier"
            )
        before, width = recipe.widths[number - 2 : number]
        if before != width:
            raise UserError(f"recipe field 'blocks': the block on FC{number} needs one width, got {before} and {width}")
    if not recipe.blocks and recipe.recurrences != (RRFNetRecipe.recurrences):
        raise UserError(f"recipe field 'recurrences': {recipe.recurrences} has no effect without blocks")


def _prefix(recipe: RRFNetRecipe, recurrences: int) -> str:
    """Return what the names of a network's layers begin with."""
    return f"t{recurrences}_" if len(recipe.recurrences) > 1 else ""


def _branch(modality: str, features: keras.KerasTensor, recipe: RRFNetRecipe, recurrences: int) -> keras.KerasTensor:
    """Return the last layer of one modality, before the L2 normalisation."""
    name = f"{_prefix(recipe, recurrences)}{modality}"
    x = branches.norm(recipe, f"{name}_input_norm")(features)
    x = branches.dense(recipe, recipe.widths[0], f"{name}_fc1", activation="relu")(x)
    x = branches.dropout(recipe, f"{name}_dropout")(x)
    last = len(recipe.widths)
    for number, width in enumerate(recipe.widths[1:], start=2):
        if number in recipe.blocks:
            x = layers.RecurrentResidualFusion(
                recurrences,
                recipe.fusion,
                kernel_initializer=keras.initializers.RandomNormal(stddev=recipe.kernel_stddev),
                fusion_initializer=keras.initializers.RandomNormal(stddev=recipe.kernel_stddev),
                norm_momentum=recipe.norm_momentum,
                norm_epsilon=recipe.norm_epsilon,
                name=f"{name}_rrf{number}",
                dtype=recipe.precision,
            )(x)
            continue
        x = branches.dense(recipe, width, f"{name}_fc{number}")(x)
        x = branches.norm(recipe, f"{name}_fc{number}_norm")(x)
        if number < last:
            x = branches.relu(recipe, f"{name}_fc{number}_relu")(x)
    return x


def stages(recipe: RRFNetRecipe) -> tuple[Stage, ...]:
    """Return the stretches of training, each with a smaller learning rate; the members of an ensemble in turn."""

    def member(prefix: str) -> tuple[Stage, ...]:
        part, scalar = f"{prefix}matching", f"{prefix.removesuffix('_')}.r_sum" if prefix else "r_sum"
        return stretches(recipe, part, {part: 1.0}, trainable=prefix, select=scalar)

    return tuple(itertools.chain.from_iterable(member(_prefix(recipe, t)) for t in recipe.recurrences))


def compile(model: keras.Model, recipe: RRFNetRecipe, stage: Stage) -> None:
    """Set Caffe's SGD and the bi-rank loss of the network that `stage` trains."""
    (part,) = stage.loss_weights
    member = part.removesuffix("matching")
    outputs = (f"{member}image", f"{member}text") if member else ("image_embedding", "text_embedding")
    objective = losses.PairRanking(
        stage.loss_weights,
        {part: outputs},
        margin=recipe.margin,
        alphas=recipe.alphas,
        negatives=recipe.negatives,
        neighbours={part: recipe.neighbours} if recipe.neighbours else None,
    )
    model.compile(optimizer=branches.optimizer(recipe, stage.learning_rate), loss=objective)


def evaluate(model: keras.Model, data: PairedData, recipe: RRFNetRecipe, split: str) -> Evaluation:
    """Measure R@K both ways on `split`; of an ensemble also of its members, and on the test split of every subset."""
    return evaluation.evaluate_matching(model, data.arrays(split), further=_subsets(recipe, split))


def _subsets(recipe: RRFNetRecipe, split: str) -> dict[str, Any]:
    """Return the parts of an ensemble that are measured beside the whole, named such as `t1_t3` (Table 5.5)."""
    count = len(recipe.recurrences)
    if count == 1:
        return {}
    sizes = range(1, count) if split == "test" else (1,)
    return {
        "_".join(f"t{recipe.recurrences[part]}" for part in parts): scores.Measure(parts)
        for size in sizes
        for parts in itertools.combinations(range(count), size)
    }


def galleries(model: keras.Model, recipe: RRFNetRecipe, data: PairedData, split: str) -> dict[str, Gallery]:
    """Return the images and captions of `split` as searchable items."""
    return served.matching_galleries(model, data.arrays(split))


def signatures(
    model: keras.Model, recipe: RRFNetRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served functions; see `tfthesis.matching.served.matching_signatures`."""
    return served.matching_signatures(model, spec, index, encoders)


def pictures(model: keras.Model, data: Data, recipe: RRFNetRecipe, folder: Path) -> list[Picture]:
    """Draw retrieved items both ways (Fig 5.5), the embedding map and similarities, of the test split."""
    drawn = drawing.matching_pictures(model, data, "test", folder)
    return [*drawn, score_drawing.similarity_matrix(model, data.arrays("test"), folder)]


_THESIS = RRFNetRecipe(dataset="flickr30k")
_QUICK = RRFNetRecipe(
    image_encoder="efficientnet_lite0",
    text_encoder="glove_50d",
    widths=(512, 256, 256, 256),
    weight_decay=0.005,
    negatives=20,
    batch_size=128,
    epochs=(15, 10),
)
_FLICKR8K = dataclasses.replace(
    _QUICK,
    dataset="flickr8k",
    widths=(1024, 512, 512, 512),
    batch_size=512,
    negatives=50,
    epochs=(30, 15),
    weight_decay=0.02,
)
_TINY = dataclasses.replace(
    _QUICK,
    image_encoder="pixels",
    text_encoder="hashed_words",
    scene_images=(32, 12, 12),
    widths=(32, 16, 16, 16),
    batch_size=24,
    negatives=5,
    epochs=(2, 1),
)
_BI_DIRECTIONAL = {"alphas": (1.0, 0.0, 2.0, 0.0)}

METHOD = Method(
    title="RRF-Net",
    chapter="Liu 2018, chapter 5",
    summary="Image-text matching with recurrent residual fusion and a bi-rank loss.",
    presets={
        "thesis": _THESIS,
        "thesis_coco": dataclasses.replace(
            _THESIS,
            dataset="coco",
            epochs=(20, 20, 20),
            reader=("division=dataset_coco.json", "val_images=1000", "test_images=1000"),
        ),
        "flickr8k": _FLICKR8K,
        "quick": _QUICK,
        "tiny": _TINY,
    },
    variants={
        "baseline": {"blocks": ()},
        "residual": {"recurrences": (0,), "fusion": "none"},
        "t1": {"recurrences": (1,)},
        "t2": {"recurrences": (2,)},
        "t4": {"recurrences": (4,)},
        "fusion_none": {"fusion": "none"},
        "fusion_sum": {"fusion": "sum"},
        "bi_directional": _BI_DIRECTIONAL,
        "baseline_bi_directional": {"blocks": (), **_BI_DIRECTIONAL},
        "ensemble": {"recurrences": (1, 2, 3, 4)},
        "dspe": {"blocks": (), "widths": (2048, 512), "neighbours": 0.05, **_BI_DIRECTIONAL},
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
