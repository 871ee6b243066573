"""Swapped clothes measured: inception scores, similarity to the condition, and what true pairs tell (Fig 8.17)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfthesis.adversarial.data import pixel_values
from tfthesis.errors import UserError
from tfthesis.method import Evaluation
from tfthesis.metrics.inception_score import inception_score
from tfthesis.metrics.structural_similarity import structural_similarity
from tfthesis.swapping.baselines import BASELINES, Person
from tfthesis.swapping.data import Opened, SwapData, network_inputs, persons
from tfthesis.swapping.protocol import conditions
from tfthesis.swapping.representations import paste_head

if TYPE_CHECKING:
    from tfthesis.swapping.classifier import ClothesClassifier

_PIXELS = 250_000


@dataclasses.dataclass(frozen=True)
class SwapProtocol:
    """How swaps are measured.

    Attributes:
        conditions: images whose clothes each image is dressed in, drawn by lot; 25 in the thesis.
        seed: of the lot.
        head: whether the reference's head is pasted on before an inception score is computed.
        parts: of the images, whose scores have a mean and a deviation; fewer where there are fewer images.
        baselines: names in `tfthesis.swapping.baselines.BASELINES` that are measured on the same swaps.
    """

    conditions: int = 25
    seed: int = 0
    head: bool = True
    parts: int = 10
    baselines: tuple[str, ...] = ()


def swapped(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield what a `tfthesis.models.SwapGAN` makes of (reference, condition), rows `[n, 2]` of a split, a few at once.

    Yields:
        "generated", "restored" float32 `[n, H, W, 3]` in -1..1 and their masks `[n, H, W, 1]`, those that there are.
    """
    opened, count = data.opened(split), _at_once(data)
    for start in range(0, len(pairs), count):
        reference, condition = pairs[start : start + count].T
        outputs = model(network_inputs(*persons(opened, reference, condition)))
        yield {name: np.asarray(values) for name, values in outputs.items()}


def evaluate_swapping(
    model: keras.Model, data: SwapData, split: str, protocol: SwapProtocol, classifier: ClothesClassifier | None
) -> Evaluation:
    """Dress every image of `split` in the clothes of others, and measure what comes out.

    Returns:
        Scalars: with a classifier `is_reference` and, with Generator II, `is_condition` (Eq 8.20) of the images of
        Generators I and II, each with its `_deviation` over the parts; with Generator II `ssim` of its images with the
        condition; with Generator III `mask_l1`, the mean distance of the mask in the image of Generator I from the
        reference's; `checkerboard` of Generator I. Of pairs in the same clothes, where the true image is known, its
        `pair_ssim` with the image of Generator I, without a pasted head, and `pair_l1` (pixels 0..1). Names that begin
        with "photos." are of the condition images as they came, and `photos.classifier_accuracy` is the share of the
        split's photos, in percent, that the classifier names rightly, where it learnt the dataset's labels: a score of
        one that does not know them means nothing. With the name of a baseline before it, `is_reference`
        is of what that makes; pairs tell nothing of a baseline, which pastes onto the true image itself.

        Selection is `pair_ssim`, without pairs `ssim`, without Generator II the negative `mask_l1`. Samples: `ssim` of
        each swap and `pair_ssim` of each pair.

    Args:
        model: a `tfthesis.models.SwapGAN`.
        data: where the images are.
        split: of which.
        protocol: of the swaps.
        classifier: whose probabilities make an inception score; None leaves the scores out.

    Raises:
        UserError: nothing that selects can be measured.
    """
    opened = data.opened(split)
    swaps = conditions(len(opened.ids), protocol.conditions, protocol.seed)
    rows = _swap_rows(model, data, split, swaps, protocol, classifier)
    rows["photos.checkerboard"] = [checkerboard(opened.images)]
    if classifier is not None:
        # As many as there are swaps: scores depend on the number of images.
        if classifier.classes and opened.labels is not None:
            named = classifier.probabilities(opened.images).argmax(axis=1)
            rows["photos.classifier_accuracy"] = [100.0 * (named == opened.labels)]
        rows["photos.is_reference"] = [classifier.probabilities(opened.images)[swaps[:, 1]]]
        for name in protocol.baselines:
            rows[f"{name}.is_reference"] = [
                classifier.probabilities(pasted(name, opened, swaps[start : start + _at_once(data)]))
                for start in range(0, len(swaps), _at_once(data))
            ]
    if len(opened.pairs):
        reference, condition = opened.pairs.T
        made = {"": _generated(model, data, split, opened.pairs), "photos.": opened.images[condition]}
        for prefix, images in made.items():
            true = opened.images[reference]
            rows[f"{prefix}pair_ssim"] = [structural_similarity(images, true)]
            rows[f"{prefix}pair_l1"] = [np.abs(images.astype(np.float32) - true).mean(axis=(1, 2, 3)) / 255]
    found = {name: np.concatenate(values) for name, values in rows.items()}
    scalars: dict[str, float] = {}
    for name, values in found.items():
        if values.ndim == 1:
            scalars[name] = float(values.mean())
        else:
            scalars |= _inception(name, values, protocol.parts)
    samples = {name: found[name] for name in ("ssim", "pair_ssim") if name in found}
    return Evaluation(_described(data, swaps, protocol, classifier), scalars, _selection(scalars), samples=samples)


def checkerboard(images: np.ndarray) -> np.ndarray:
    """Return how much of each image `[n]` alternates from pixel to pixel in rows and columns alike, in pixels 0..1.

    Of each 2 x 2 block it is a quarter of the sum of one diagonal less the other, and the mean of its size.

    Args:
        images: uint8 `[n, H, W, C]`; an odd last row or column is left out.
    """
    height, width = (side - side % 2 for side in images.shape[1:3])
    x = images[:, :height, :width].astype(np.float32) / 255
    blocks = (x[:, ::2, ::2] + x[:, 1::2, 1::2] - x[:, ::2, 1::2] - x[:, 1::2, ::2]) / 4
    return np.abs(blocks).mean(axis=(1, 2, 3))


def _swap_rows(
    model: keras.Model,
    data: SwapData,
    split: str,
    swaps: np.ndarray,
    protocol: SwapProtocol,
    classifier: ClothesClassifier | None,
) -> dict[str, list[np.ndarray]]:
    """Return, in parts, what is measured of each swap of the networks; of inception scores the probabilities."""
    opened, rows, start = data.opened(split), collections.defaultdict(list), 0
    for outputs in swapped(model, data, split, swaps):
        reference, condition = swaps[start : start + len(outputs["generated"])].T
        start += len(reference)
        generated = np.asarray(pixel_values(outputs["generated"]))
        rows["checkerboard"].append(checkerboard(generated))
        if "generated_mask" in outputs:
            mask = opened.masks[reference][..., None]
            rows["mask_l1"].append(np.abs(outputs["generated_mask"] - mask).mean(axis=(1, 2, 3)))
        if classifier is not None:
            rows["is_reference"].append(
                classifier.probabilities(with_head(opened, generated, reference) if protocol.head else generated)
            )
        if "restored" in outputs:
            restored = np.asarray(pixel_values(outputs["restored"]))
            rows["ssim"].append(structural_similarity(restored, opened.images[condition]))
            if classifier is not None:
                rows["is_condition"].append(classifier.probabilities(restored))
    return rows


def with_head(opened: Opened, images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return images uint8 `[n, H, W, 3]` with the heads of `reference`, rows `[n]`, pasted on."""
    return paste_head(images, opened.images[reference], opened.heads[reference])


def _generated(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray) -> np.ndarray:
    """Return the images of Generator I, uint8, of (reference, condition)."""
    return np.concatenate(
        [np.asarray(pixel_values(outputs["generated"])) for outputs in swapped(model, data, split, pairs)]
    )


def pasted(name: str, opened: Opened, pairs: np.ndarray) -> np.ndarray:
    """Return what a baseline makes of (reference, condition), uint8 `[n, H, W, 3]`."""

    def person(row: int) -> Person:
        return Person(*(getattr(opened, field)[row] for field in ("images", "joints", "segments", "masks", "heads")))

    return np.stack([BASELINES[name](person(condition), person(reference)) for reference, condition in pairs.tolist()])


def _at_once(data: SwapData) -> int:
    return max(1, _PIXELS // (data.height * data.width))


def _inception(name: str, probabilities: np.ndarray, parts: int) -> dict[str, float]:
    mean, deviation = inception_score(probabilities, min(parts, len(probabilities)))
    return {name: mean, f"{name}_deviation": deviation}


def _selection(scalars: Mapping[str, float]) -> float:
    for name, sign in (("pair_ssim", 1), ("ssim", 1), ("mask_l1", -1), ("is_reference", 1)):
        if name in scalars:
            return sign * scalars[name]
    raise UserError("a split without pairs, measured without an inception score, needs Generator II or III")


def _described(data: SwapData, swaps: np.ndarray, protocol: SwapProtocol, classifier: ClothesClassifier | None) -> str:
    each = len(swaps) // max(len(np.unique(swaps[:, 0])), 1)
    text = f"{len(swaps)} swaps, {each} conditions an image, at {data.height} x {data.width}"
    if classifier is None:
        return text
    head = "with" if protocol.head else "without"
    parts = min(protocol.parts, len(swaps))
    return f"{text}; inception score of {classifier.name}, {parts} parts, IS-reference {head} a pasted head"
