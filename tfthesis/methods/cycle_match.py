"""CycleMatch: cycle-consistent embeddings for image-text matching (Liu 2018, chapter 6).

Two mappings of four fully connected layers translate image features into the space of text features and back. A cycle
goes through both; ranking losses compare the translated (dual), the reconstructed and the latent features of matched
and unmatched pairs. An image and a text are compared in the visual, the textual and the latent space, and the scores
are averaged, or weighed for each query by the area below its score curve.

LatentMatch, DualMatch and the partial cycles of Table 6.1 are variants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis import layers, losses, models
from tfthesis.errors import UserError, closest
from tfthesis.lazy import LazyModule, keras
from tfthesis.matching.recipe import PairRecipe
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

DUALS, CYCLES = ("i2t", "t2i"), ("i2t2i", "t2i2t")
SCORES = ("visual", "textual", "latent")
#: Loss part -> the mapped output and the output that it is to match (Eq 6.2, 6.4, 6.5 and their twins).
PAIRS = {
    "dual_i2t": ("i2t", "text_space"),
    "dual_t2i": ("t2i", "image_space"),
    "reconstructed_i2t2i": ("i2t2i", "image_space"),
    "reconstructed_t2i2t": ("t2i2t", "text_space"),
    "latent_i2t2i": ("image_latent", "i2t2i_latent"),
    "latent_t2i2t": ("text_latent", "t2i2t_latent"),
    "latent_direct": ("image_latent", "text_latent"),
}


@dataclasses.dataclass(frozen=True)
class CycleMatchRecipe(PairRecipe):
    """Every number of CycleMatch."""

    text_encoder: str = setting("bilstm_max", "text encoder", source="section 6.4.1")

    widths: tuple[int, int, int] = setting(
        (2048, 512, 512),
        "channels of FC1 to FC3 of both mappings; FC4 is as wide as the space it maps to",
        unit="units",
        source="section 6.4.1",
    )
    dropout: float = setting(0.5, "share of FC1 that is dropped", source="our choice, as in chapter 5")
    duals: tuple[str, ...] = setting(DUALS, "mappings with a dual loss: i2t, t2i", source="Eq 6.2 and Table 6.1")
    cycles: tuple[str, ...] = setting(
        CYCLES, "cycles with a reconstructed loss: i2t2i, t2i2t", source="Eq 6.4 and Table 6.1"
    )
    latent: str = setting(
        "cycle",
        "what the latent loss compares: FC3 of both mappings along a cycle, FC3 of an image with that of its text, "
        "or nothing",
        choices=("cycle", "direct", "none"),
        source="Eq 6.5 and Table 6.1",
    )
    shared_norms: bool = setting(
        False, "normalise the second pass through a mapping with the statistics and scales of the first"
    )
    standardised: bool = setting(
        False, "match in spaces whose features have mean 0 and deviation 1 over the training batches, not as encoded"
    )
    bias_rate: float = setting(2.0, "multiplier of the learning rate of biases", source="our choice, as in chapter 5")
    kernel_stddev: float = setting(0.05, "deviation of the initial kernels", source="our choice, as in chapter 5")

    margin: float = setting(0.1, "m of the ranking losses", unit="cosine", source="section 6.4.1")
    alpha: float = setting(
        2.0, "weight of the hinges with negatives on the mapped side", source="Eq 6.2, section 6.4.1"
    )
    negatives: int = setting(50, "K, hardest violating negatives an anchor", source="section 6.4.1")

    scores: tuple[str, ...] = setting(
        ("visual", "textual"), "scores that compare an image with a text", source="Eq 6.7 and Table 6.3"
    )
    score_fusion: str = setting(
        "adaptive", "how the scores become one", choices=("average", "adaptive"), source="Eq 6.8, 6.11 and Table 6.3"
    )

    batch_size: int = setting(500, "pairs in a global batch", unit="pairs", source="section 6.4.1")
    epochs: tuple[int, ...] = setting(
        (20, 20, 20),
        "stretches of training, after each of which the learning rate falls",
        unit="epochs",
        source="section 6.4.1: 60 in all; where it falls: our choice, as in chapter 5",
    )
    learning_rate: float = setting(0.1, "of the first stretch", source="section 6.4.1")
    rate_factor: float = setting(0.1, "factor of the learning rate after a stretch", source="section 6.4.1")
    patience: int = setting(0, "stop a stretch after so many epochs without a better score; 0 never", unit="epochs")

    def idle(self) -> frozenset[str]:
        """Return the fields of second passes that there are not, and of a fusion of one score."""
        idle = {"shared_norms"} if not self.cycles else set()
        idle |= {"score_fusion"} if len(self.scores) == 1 else set()
        return super().idle() | idle


def data(recipe: CycleMatchRecipe, name: str, directory: Path | None) -> PairedData:
    """Open an image-text dataset with the recipe's encoders; see `tfthesis.matching.data.open_pairs`."""
    return pairs.open_for(recipe, name, directory, drawn={"images": recipe.scene_images})


def build(recipe: CycleMatchRecipe, spec: Spec) -> keras.Model:
    """Return both mappings and the cycles that the recipe trains as one functional model.

    Inputs `image` `[B, Dv]` and `text` `[B, Dt]` are features. Outputs are those that the losses compare (see `PAIRS`)
    and the joined `image_embedding` and `text_embedding`, whose parts are the visual, the textual and the latent score,
    as far as the recipe trains them.

    The weights of a mapping are shared by its two passes. Each pass has normalisations of its own, as the recurrences
    of chapter 5 have: what the second pass sees is translated features, whose statistics are others than those of
    encoded ones, and inference makes the first pass only.

    Raises:
        UserError: the recipe trains nothing, names an unknown part, or compares scores that it does not train.
    """
    _check(recipe)
    inputs, encoded = branches.inputs_and_features(recipe, spec, ("image", "text"))
    spaces = {name: _space(recipe, name, features) for name, features in encoded.items()}
    to_text = _mapping(recipe, "i2t", spaces["text"].shape[-1])
    to_image = _mapping(recipe, "t2i", spaces["image"].shape[-1])
    outputs = {f"{name}_space": space for name, space in spaces.items()}
    outputs["image_latent"], outputs["i2t"] = to_text(spaces["image"], "")
    outputs["text_latent"], outputs["t2i"] = to_image(spaces["text"], "")
    second = "" if recipe.shared_norms else "second_"
    if "i2t2i" in recipe.cycles:
        outputs["i2t2i_latent"], outputs["i2t2i"] = to_image(outputs["i2t"], second)
    if "t2i2t" in recipe.cycles:
        outputs["t2i2t_latent"], outputs["t2i2t"] = to_text(outputs["t2i"], second)
    sides = {
        "image": {"visual": "image_space", "textual": "i2t", "latent": "image_latent"},
        "text": {"visual": "t2i", "textual": "text_space", "latent": "text_latent"},
    }
    embeddings = {}
    for name, side in sides.items():
        joined = layers.JoinedEmbeddings(name=f"{name}_embedding", dtype=recipe.precision)
        embeddings[f"{name}_embedding"] = joined([outputs[side[score]] for score in available_scores(recipe)])
    compared = {output for part in _loss_weights(recipe) for output in PAIRS[part]}
    kept = {name: output for name, output in outputs.items() if name in compared}
    return models.ObjectiveModel(inputs, {**kept, **embeddings}, name="cycle_match")


def available_scores(recipe: CycleMatchRecipe) -> tuple[str, ...]:
    """Return the scores of Eq 6.7 that a recipe's losses train, in the order of the joined embeddings."""
    return SCORES if recipe.duals or recipe.cycles else ("latent",)


def _check(recipe: CycleMatchRecipe) -> None:
    for name, known in (("duals", DUALS), ("cycles", CYCLES), ("scores", available_scores(recipe))):
        chosen = getattr(recipe, name)
        if wrong := [value for value in chosen if value not in known]:
            raise closest(wrong[0], known, f"value of recipe field {name!r}:")
        if len(set(chosen)) < len(chosen):
            raise UserError(f"recipe field {name!r}: {chosen} names a part twice")
    if not recipe.scores:
        raise UserError(f"recipe field 'scores': expected some of {available_scores(recipe)}, got none")
    if recipe.latent == "cycle" and not recipe.cycles:
        raise UserError("recipe field 'latent': 'cycle' needs a cycle; take 'direct' or 'none', or name some in cycles")
    if not _loss_weights(recipe):
        raise UserError("recipe fields 'duals', 'cycles' and 'latent' leave no loss: nothing would train")


def _space(recipe: CycleMatchRecipe, name: str, features: keras.KerasTensor) -> keras.KerasTensor:
    """Return the features of one modality as the space that the other is mapped to."""
    if not recipe.standardised:
        return keras.layers.Identity(name=f"{name}_space", dtype=recipe.precision)(features)
    return branches.norm(recipe, f"{name}_space", center=False, scale=False)(features)


def _mapping(recipe: CycleMatchRecipe, name: str, width: int) -> Callable[[keras.KerasTensor, str], tuple[Any, Any]]:
    """Return a mapping as a function of features and the name of the pass; it gives FC3 and FC4, which is linear."""
    widths = (*recipe.widths, width)
    dense = [branches.dense(recipe, units, f"{name}_fc{number}") for number, units in enumerate(widths, start=1)]
    drop = branches.dropout(recipe, f"{name}_dropout")
    norms: dict[str, keras.layers.Layer] = {}

    def norm(at: str, pass_name: str) -> keras.layers.Layer:
        full = f"{name}_{pass_name}{at}_norm"
        if full not in norms:
            norms[full] = branches.norm(recipe, full)
        return norms[full]

    def mapped(features: keras.KerasTensor, pass_name: str) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        x = norm("input", pass_name)(features)
        x = drop(keras.ops.relu(dense[0](x)))
        for number in (2, 3):
            x = keras.ops.relu(norm(f"fc{number}", pass_name)(dense[number - 1](x)))
        return x, dense[3](x)

    return mapped


def _loss_weights(recipe: CycleMatchRecipe) -> dict[str, float]:
    """Return the losses of Eq 6.6 that the recipe asks for, all with the weight 1."""
    parts = [f"dual_{dual}" for dual in recipe.duals] + [f"reconstructed_{cycle}" for cycle in recipe.cycles]
    if recipe.latent == "cycle":
        parts += [f"latent_{cycle}" for cycle in recipe.cycles]
    elif recipe.latent == "direct":
        parts.append("latent_direct")
    return dict.fromkeys(parts, 1.0)


def stages(recipe: CycleMatchRecipe) -> tuple[Stage, ...]:
    """Return the stretches of training, each with a smaller learning rate."""
    return stretches(recipe, "matching", _loss_weights(recipe))


def compile(model: keras.Model, recipe: CycleMatchRecipe, stage: Stage) -> None:
    """Set Caffe's SGD and the ranking losses of `stage`."""
    objective = losses.PairRanking(
        stage.loss_weights,
        {part: PAIRS[part] for part in stage.loss_weights},
        margin=recipe.margin,
        alphas=(1.0, 0.0, recipe.alpha, 0.0),
        negatives=recipe.negatives,
    )
    model.compile(optimizer=branches.optimizer(recipe, stage.learning_rate), loss=objective)


def _measure(recipe: CycleMatchRecipe, names: tuple[str, ...], adaptive: bool) -> Any:
    available = available_scores(recipe)
    return scores.Measure(tuple(available.index(name) for name in names), adaptive and len(names) > 1)


def _inference(recipe: CycleMatchRecipe) -> Any:
    """Return how the recipe compares an image with a text."""
    return _measure(recipe, recipe.scores, recipe.score_fusion == "adaptive")


def evaluate(model: keras.Model, data: PairedData, recipe: CycleMatchRecipe, split: str) -> Evaluation:
    """Measure R@K both ways on `split`; on the test split by every inference of Table 6.3 too, and Fig 6.7."""
    arrays, further = data.arrays(split), {}
    if split == "test" and len(available_scores(recipe)) > 1:
        further = {name: _measure(recipe, (name,), False) for name in SCORES}
        for count, names in (("two", SCORES[:2]), ("three", SCORES)):
            further |= {f"{count}_average": _measure(recipe, names, False)}
            further |= {f"{count}_adaptive": _measure(recipe, names, True)}
    found = evaluation.evaluate_matching(model, arrays, _inference(recipe), further)
    if further:
        found.scalars |= evaluation.balanced_shares(model, arrays)
    return found


def galleries(model: keras.Model, recipe: CycleMatchRecipe, data: PairedData, split: str) -> dict[str, Gallery]:
    """Return the images and captions of `split` as searchable items, with the parts of the recipe's scores."""
    return served.matching_galleries(model, data.arrays(split), _inference(recipe))


def signatures(
    model: keras.Model, recipe: CycleMatchRecipe, spec: Spec, index: Mapping[str, Any], encoders: Mapping[str, Any]
) -> Served:
    """Return the served functions; see `tfthesis.matching.served.matching_signatures`."""
    return served.matching_signatures(model, spec, index, encoders, _inference(recipe))


def pictures(model: keras.Model, data: Data, recipe: CycleMatchRecipe, folder: Path) -> list[Picture]:
    """Draw retrieved items (Fig 6.8), spaces (6.4), score curves (6.5), similarities (6.6) and weights (6.7)."""
    measure, names, arrays = _inference(recipe), available_scores(recipe), data.arrays("test")
    compared = {part.replace("_", " "): PAIRS[part] for part in _loss_weights(recipe)}
    drawn = drawing.matching_pictures(model, data, "test", folder, measure)
    drawn += [
        score_drawing.similarity_matrix(model, arrays, folder, measure),
        score_drawing.space_maps(model, arrays, folder, compared),
    ]
    if len(names) > 1:
        drawn.append(score_drawing.score_curves(model, arrays, folder, names))
        drawn.append(score_drawing.adaptive_weight_scatter(model, arrays, folder, names))
    return drawn


_THESIS = CycleMatchRecipe(dataset="flickr30k")
_QUICK = CycleMatchRecipe(
    image_encoder="efficientnet_lite0",
    text_encoder="glove_50d",
    widths=(512, 256, 256),
    # Table cycle_choice: both by the validation split.
    standardised=True,
    weight_decay=0.005,
    negatives=20,
    batch_size=128,
    epochs=(15, 10),
)
_FLICKR8K = dataclasses.replace(
    _QUICK,
    dataset="flickr8k",
    widths=(1024, 512, 512),
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
    widths=(32, 16, 16),
    batch_size=24,
    negatives=5,
    epochs=(2, 1),
)

METHOD = Method(
    title="CycleMatch",
    chapter="Liu 2018, chapter 6",
    summary="Image-text matching with cycle-consistent embeddings and late fusion of scores.",
    presets={
        "thesis": _THESIS,
        "thesis_coco": dataclasses.replace(
            _THESIS, dataset="coco", reader=("division=dataset_coco.json", "val_images=1000", "test_images=1000")
        ),
        "flickr8k": _FLICKR8K,
        "quick": _QUICK,
        "tiny": _TINY,
    },
    variants={
        "latent_match": {"duals": (), "cycles": (), "latent": "direct", "scores": ("latent",)},
        "dual_match": {"cycles": (), "latent": "none"},
        "without_latent": {"latent": "none"},
        # Table 6.1 gives each of these the dual mapping that its cycle already has. They are measured with both scores,
        # so the other one is meant, or FC4 of the other mapping would never see an encoded feature.
        "i2t2i": {"cycles": ("i2t2i",)},
        "t2i2t": {"cycles": ("t2i2t",)},
        "as_encoded": {"standardised": False},
        "average": {"score_fusion": "average"},
        "three_scores": {"scores": SCORES},
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
