"""Swapped clothes measured: inception scores, similarity to the condition, and what true pairs tell (Fig 8.17)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfthesis.adversarial.data import pixel_values
from tfthesis.errors import UserError
from tfthesis.method import Evaluation
from tfthesis.metrics.inception_score import inception_score
from tfthesis.metrics.structural_similarity import structural_similarity
from tfthesis.swapping.baselines import BASELINES
from tfthesis.swapping.classifier import ClothesClassifier
from tfthesis.swapping.data import Opened, SwapData, network_inputs, persons
from tfthesis.swapping.protocol import conditions
from tfthesis.swapping.representations import head_mask, paste_head

_PIXELS = 250_000


@dataclasses.dataclass(frozen=True)
class SwapProtocol:
    """How swaps are measured.

    Attributes:
        conditions: images whose clothes each image is dressed in, drawn by lot; 25 in the thesis.
        seed: of the lot.
        head: whether the reference's head is pasted on before an inception score is computed.
        splits: parts of the images, whose scores have a mean and a deviation.
        baselines: names in `tfthesis.swapping.baselines.BASELINES` that are measured on the same swaps.
    """

    conditions: int = 25
    seed: int = 0
    head: bool = True
    splits: int = 10
    baselines: tuple[str, ...] = ()


def swapped(model: keras.Model, data: SwapData, split: str, pairs: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield what a `tfthesis.models.SwapGAN` makes of (reference, condition), rows `[n, 2]` of a split, a few at once.

    Yields:
        "generated", "restored" float32 `[n, H, W, 3]` in -1..1 and their masks `[n, H, W, 1]`, those that there are.
    """
    opened, count = data.opened(split), max(1, _PIXELS // (data.height * data.width))
    for start in range(0, len(pairs), count):
        reference, condition = pairs[start : start + count].T
        outputs = model(network_inputs(*persons(opened, reference, condition)))
        yield {name: np.asarray(values) for name, values in outputs.items()}


def evaluate_swapping(
    model: keras.Model, data: SwapData, split: str, protocol: SwapProtocol, classifier: ClothesClassifier | None
) -> Evaluation:
    """Dress every image of `split` in the clothes of others and measure the results.

    Returns:
        Scalars: with a classifier `is_reference` and, with Generator II, `is_condition` (Eq 8.20) of the images of
        Generators I and II, each with its `_deviation` over the parts; with Generator II `ssim` of its images with the
        condition images; with Generator III `mask_l1`, the mean distance of the mask in the image of Generator I from
        the reference's. Of the split's pairs, where the true image is known, `pair_l1` (pixels 0..1) and `pair_ssim` of
        the image of Generator I. With names that begin with "photos." what the images themselves score, and the
        condition unchanged instead of the generated image; with the name of a baseline what that makes.

        Selection is `pair_ssim`, without pairs `ssim`, without Generator II the negative `mask_l1`. Samples: `ssim`
        of each swap and `owner`, its reference; `pair_ssim` of each pair.

    Args:
        model: a `tfthesis.models.SwapGAN`.
        data: where the images are.
        split: of which.
        protocol: of the swaps.
        classifier: whose probabilities make an inception score; None leaves the scores out.

    Raises:
        UserError: nothing of this can be measured.
    """
    opened = data.opened(split)
    pairs = conditions(len(opened.ids), protocol.conditions, protocol.seed)
    found = _networks(model, data, split, pairs, protocol, classifier)
    scalars, samples = _swaps(found, opened, pairs, protocol, classifier)
    if len(opened.pairs):
        own, samples["pair_ssim"] = _true_pairs(model, data, split, protocol)
        scalars |= own
    order = {"pair_ssim": 1, "ssim": 1, "mask_l1": -1, "is_reference": 1}
    chosen = next((name for name in order if name in scalars), None)
    if chosen is None:
        raise UserError(f"{data.dataset.name}: split {split!r} has no pairs, and of Generator I alone nothing else tells")
    each = min(protocol.conditions, len(opened.ids) - 1)
    text = f"{len(pairs)} swaps, {each} conditions an image, at {data.height} x {data.width}"
    if classifier is not None:
        head = "with" if protocol.head else "without"
        text += f"; inception score of {classifier.name}, {protocol.splits} parts, IS-reference {head} the pasted head"
    return Evaluation(text, scalars, order[chosen] * scalars[chosen], samples=samples)
