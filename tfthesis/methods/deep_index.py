"""DeepIndex: image retrieval by deep features in an inverted index (Liu 2018, chapter 4).

Features of the 14 patches of a spatial pyramid are words of a codebook, and an inverted index finds images that share
words with a query. One axis of the index is one layer of a network; with two axes, of one network (intra-CNN) or two
(inter-CNN), patches match where both words agree. Global signatures of whole images weigh the matches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.data.options import reader_options
from tfthesis.errors import UserError
from tfthesis.inverted_index.options import IDF, KINDS, Scoring
from tfthesis.inverted_index.pyramid import LEVELS
from tfthesis.lazy import LazyModule
from tfthesis.method import Evaluation, Method, OwnSearch, Picture, Preparation, Served, Spec, Stage
from tfthesis.recipe import Recipe, setting

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfthesis.deep_index.data import IndexedImageData
    from tfthesis.deep_index.searching import Rules

drawing = LazyModule("tfthesis.deep_index.pictures")
encoders_of = LazyModule("tfthesis.encoders")
evaluation = LazyModule("tfthesis.deep_index.evaluation")
images = LazyModule("tfthesis.deep_index.data")
searched = LazyModule("tfthesis.data.searched_images")
searching = LazyModule("tfthesis.deep_index.searching")
served = LazyModule("tfthesis.deep_index.served")
words_of = LazyModule("tfthesis.deep_index.model")

_SUFFIX = "_patches"
# The least value of each field that counts something; what the words and the features allow is known with the data.
_LEAST = {
    "width": 0,
    "words": 0,
    "iterations": 1,
    "assignments": 1,
    "measured_assignments": 1,
    "candidates": 0,
    "expansion": 0,
    "thumbnail": 0,
}


@dataclasses.dataclass(frozen=True)
class DeepIndexRecipe(Recipe):
    """Every number of DeepIndex."""

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    shares: tuple[float, ...] = setting(
        (),
        "shares of the groups for training, validation and test; empty searches all images, and fits to them without "
        "looking at groups",
    )
    axes: tuple[str, ...] = setting(
        ("alexnet:fc6", "vgg19:fc18"),
        "dimensions of the index, each as network:layer (tfthesis/encoders/patches.py names them)",
        source="section 4.3, Table 4.1",
    )
    taps: tuple[str, ...] = setting(
        ("alexnet:fc6", "alexnet:fc7", "vgg19:fc17", "vgg19:fc18"),
        "layers that are computed and cached beside those of the axes, where their network is among them; recipes with "
        "other axes then share the features",
    )
    weights: tuple[str, ...] = setting((), "weights of networks, each as network=file; others take their own default")
    levels: tuple[int, ...] = setting(LEVELS, "parts along either side in each level of the pyramid", source="Fig 4.1")
    width: int = setting(512, "numbers of a feature after the projection; 0 projects nothing", source="Table 4.2")
    words: int = setting(
        5000, "words of each codebook; 0 takes a quarter of the training patches", source="section 4.4.2, Fig 4.6"
    )
    iterations: int = setting(100, "passes of k-means at most")
    assignments: int = setting(5, "words that a patch of a query is assigned to on each axis", source="Table 4.1")
    measured_assignments: tuple[int, ...] = setting(
        (1, 3, 5), "multiple assignments that an evaluation measures, with and without signatures", source="Table 4.1"
    )
    idf: str = setting(
        "ratio", "inverse document frequency: N / n, its logarithm, or none", choices=IDF, source="Eq 4.2"
    )
    alpha: float = setting(
        8.0, "strength of the global signatures in exp(-alpha d); 0 leaves them out", source="Eq 4.4, Fig 4.6d"
    )
    candidates: int = setting(
        0,
        "images whose signatures are compared, those with the largest sums without them; no others are answered, 0 "
        "compares all",
        unit="images",
        source="our choice; Eq 4.4 weighs all",
    )
    signature: str = setting("float32", "how signatures are kept", choices=KINDS, source="Table 4.4")
    late_fusion: bool = setting(
        False, "an index of its own for each axis, whose scores are added", source="section 4.5, future work"
    )
    expansion: int = setting(
        0, "best images that a query is averaged with and searched again; 0 searches once", source="section 4.5"
    )
    thumbnail: int = setting(160, "longer side of the pictures that an export returns; 0 for none", unit="pixels")

    def idle(self) -> frozenset[str]:
        """Return the fields that change nothing."""
        return frozenset({"signature", "candidates"} if not self.alpha else set())


def data(recipe: DeepIndexRecipe, name: str, directory: Path | None) -> IndexedImageData:
    """Open images to search; see `tfthesis.data.searched_images.open_searched`.

    Raises:
        UserError: a field of the recipe is broken, or what the reader and the encoders raise. Nothing is computed
            before the fields are checked, since features and fits of many images take hours.
    """
    for field, least in _LEAST.items():
        for value in _values(recipe, field):
            if value < least:
                raise UserError(f"recipe field {field!r}: expected a whole number from {least}, got {value}")
    rules(recipe)
    layers = _layers(recipe)
    weights = dict(item.partition("=")[::2] for item in recipe.weights)
    unused = sorted(set(weights) - set(layers))
    if unused:
        raise UserError(f"recipe field 'weights': {unused[0]!r} is no network of the axes {', '.join(layers)}")
    encoders = {
        network: encoders_of.open_encoder(
            f"{network}{_SUFFIX}", weights.get(network), layers=layers[network], levels=recipe.levels
        )
        for network in layers
    }
    axes = []
    for axis in recipe.axes:
        network, _, layer = axis.partition(":")
        place = layers[network].index(layer)
        width = encoders[network].widths[place]
        if recipe.width > width:
            raise UserError(f"recipe field 'width': expected at most the {width} numbers of {axis}, got {recipe.width}")
        axes.append(images.Axis(network, place, width))
    dataset = searched.open_searched(name, directory, **reader_options(recipe.reader))
    opened = images.IndexedImageData(dataset, encoders, axes, words=recipe.words, shares=recipe.shares)
    words = opened.spec.extra["words"]
    for field in ("assignments", "measured_assignments"):
        for count in _values(recipe, field):
            if count > words:
                raise UserError(
                    f"recipe field {field!r}: expected from 1 to the {words} words of a codebook, got {count}"
                )
    return opened


def _values(recipe: DeepIndexRecipe, field: str) -> tuple[int, ...]:
    value = getattr(recipe, field)
    return value if isinstance(value, tuple) else (value,)


def _layers(recipe: DeepIndexRecipe) -> dict[str, list[str]]:
    """Return the layers that are computed, by the networks of the axes."""
    networks = {axis.partition(":")[0] for axis in recipe.axes}
    layers: dict[str, list[str]] = {}
    for field in ("taps", "axes"):
        for tap in getattr(recipe, field):
            network, colon, layer = tap.partition(":")
            if not colon:
                raise UserError(f"recipe field {field!r}: expected network:layer, such as alexnet:fc7, got {tap!r}")
            if network in networks and layer not in layers.setdefault(network, []):
                layers[network].append(layer)
    if not layers:
        raise UserError("recipe field 'axes': expected at least one network:layer, got none")
    return layers


def rules(recipe: DeepIndexRecipe) -> Rules:
    """Return how images are searched."""
    whole = 0
    for level in recipe.levels:
        if level == 1:
            break
        whole += level * level
    scoring = Scoring(recipe.assignments, recipe.idf, recipe.alpha, recipe.candidates)
    return searching.Rules(
        scoring, recipe.late_fusion, recipe.expansion, whole if 1 in recipe.levels else None, recipe.signature
    )


def build(recipe: DeepIndexRecipe, spec: Spec) -> keras.Model:
    """Return the model that prepares features and holds the codebooks; see `tfthesis.deep_index.model.build_words`.

    Raises:
        UserError: a precision or XLA is asked for, of which there is no training step to profit.
    """
    if recipe.precision != "float32" or recipe.xla:
        raise UserError("recipe fields 'precision' and 'xla': deep_index has no training step; leave them as they are")
    return words_of.build_words(spec, recipe.width)


def stages(recipe: DeepIndexRecipe) -> tuple[Preparation, ...]:
    """Return the fits: projections where features are shortened, then codebooks."""
    projections = (Preparation("projections", _fit_projections),) if recipe.width else ()
    return (*projections, Preparation("codebooks", _fit_codebooks))


def _fit_projections(model: keras.Model, data: IndexedImageData, recipe: DeepIndexRecipe) -> dict[str, np.ndarray]:
    return words_of.fit_projections(model, lambda axis: _patches(data, axis))


def _fit_codebooks(model: keras.Model, data: IndexedImageData, recipe: DeepIndexRecipe) -> dict[str, np.ndarray]:
    patches = data.spec.inputs["axis_0"][0]
    rows = data.size("train") * patches
    return words_of.fit_codebooks(model, lambda axis: _patches(data, axis), rows, recipe.iterations)


def _patches(data: IndexedImageData, axis: int) -> Iterator[np.ndarray]:
    for _, features in data.features("train"):
        part = features[axis]
        yield part.reshape(-1, part.shape[2])


def compile(model: keras.Model, recipe: DeepIndexRecipe, stage: Stage) -> None:
    """Nothing of DeepIndex trains by gradients, so that no stage is ever compiled."""
    raise ValueError(f"deep_index has no stage with gradients, got {stage.name!r}")


def evaluate(model: keras.Model, data: IndexedImageData, recipe: DeepIndexRecipe, split: str) -> Evaluation:
    """Measure the search on `split` by the rule of its dataset; see `tfthesis.deep_index.evaluation.evaluate_index`."""
    return evaluation.evaluate_index(model, data, rules(recipe), split, recipe.measured_assignments)


def galleries(model: keras.Model, recipe: DeepIndexRecipe, data: IndexedImageData, split: str) -> dict[str, OwnSearch]:
    """Return the images of `split` in their inverted index."""
    return served.image_gallery(model, data, split, rules(recipe), recipe.thumbnail)


def signatures(
    model: keras.Model,
    recipe: DeepIndexRecipe,
    spec: Spec,
    index: Mapping[str, Any],
    encoders: Mapping[str, Any],
) -> Served:
    """Return the served functions; see `tfthesis.deep_index.served.index_signatures`."""
    return served.index_signatures(model, spec, rules(recipe), index, encoders)


def pictures(model: keras.Model, data: IndexedImageData, recipe: DeepIndexRecipe, folder: Path) -> list[Picture]:
    """Draw what queries of the test split find, and the use of the words."""
    return drawing.index_pictures(model, data, "test", rules(recipe), folder)


# The widened first block of the sixth stage, the last at 14 x 14 places, and the last feature.
_MIDDLE, _LAST = "efficientnet_lite0:block11_expand_bn_relu", "efficientnet_lite0:feature"
_MIDDLE_1, _LAST_1 = "efficientnet_lite1:block15_expand_bn_relu", "efficientnet_lite1:feature"
_THESIS = DeepIndexRecipe(dataset="holidays")
_QUICK = DeepIndexRecipe(
    dataset="scene_views",
    reader=("groups=60", "views=4"),
    shares=(0.4, 0.2, 0.4),
    axes=(_MIDDLE, _LAST),
    taps=(_MIDDLE, _LAST, _MIDDLE_1, _LAST_1),
    width=128,
    words=0,
    assignments=3,
)
_TINY = dataclasses.replace(
    _QUICK,
    reader=("groups=12", "views=3", "size=32"),
    axes=("pixels:projection",),
    taps=(),
    width=16,
    iterations=10,
    thumbnail=32,
)

METHOD = Method(
    title="DeepIndex",
    chapter="Liu 2018, chapter 4",
    summary="Image retrieval by deep features of patches as words of an inverted index, weighed by global signatures.",
    presets={
        "thesis": _THESIS,
        "thesis_paris": dataclasses.replace(
            _THESIS,
            dataset="paris",
            axes=("alexnet:fc7", "vgg19:fc18"),
            assignments=10,
            measured_assignments=(1, 5, 10),
            alpha=4.0,
        ),
        "thesis_ukbench": dataclasses.replace(
            _THESIS,
            dataset="ukbench",
            axes=("alexnet:fc7", "vgg19:fc18"),
            words=10_000,
            measured_assignments=(1, 5, 10),
            alpha=10.0,
        ),
        "scene_views": dataclasses.replace(_QUICK, reader=("groups=150", "views=4")),
        "coil20": dataclasses.replace(_QUICK, dataset="image_groups", reader=("pattern=(obj[0-9]+)__",), shares=()),
        "orl_faces": dataclasses.replace(_QUICK, dataset="image_groups", reader=(), shares=()),
        # Few photographs share cells of two axes; a page should answer with more than the query itself.
        "photos": dataclasses.replace(
            _QUICK, dataset="photos", reader=(), shares=(), axes=(_LAST,), taps=(), assignments=5
        ),
        "quick": _QUICK,
        "tiny": _TINY,
    },
    variants={
        "dpi6": {"axes": ("alexnet:fc6",)},
        "dpi7": {"axes": ("alexnet:fc7",)},
        "dpi17": {"axes": ("vgg19:fc17",)},
        "dpi18": {"axes": ("vgg19:fc18",)},
        "dpi6_7": {"axes": ("alexnet:fc6", "alexnet:fc7")},
        "dpi17_18": {"axes": ("vgg19:fc17", "vgg19:fc18")},
        "dpi7_17": {"axes": ("alexnet:fc7", "vgg19:fc17")},
        "dpi6_17": {"axes": ("alexnet:fc6", "vgg19:fc17")},
        "dpi7_18": {"axes": ("alexnet:fc7", "vgg19:fc18")},
        "dpi6_18": {"axes": ("alexnet:fc6", "vgg19:fc18")},
        "lite0_middle": {"axes": (_MIDDLE,)},
        "lite0_last": {"axes": (_LAST,)},
        "lite1_middle": {"axes": (_MIDDLE_1,)},
        "lite1_last": {"axes": (_LAST_1,)},
        "lite0_intra": {"axes": (_MIDDLE, _LAST)},
        "lite1_intra": {"axes": (_MIDDLE_1, _LAST_1)},
        "inter_last": {"axes": (_LAST, _LAST_1)},
        "inter_middle_last": {"axes": (_MIDDLE, _LAST_1)},
        "three": {"axes": (_MIDDLE, _LAST, _LAST_1)},
        "no_signatures": {"alpha": 0.0},
        "late_fusion": {"late_fusion": True},
        "expanded": {"expansion": 3},
        "log_idf": {"idf": "log"},
        "no_idf": {"idf": "none"},
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
