"""Image-text retrieval by a ridge map: the baseline that matching networks are measured beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tfthesis.metrics.recall import recalls, retrieval_ranks
from tfthesis.metrics.ridge import STRENGTHS, fit_ridge


class Pairs(Protocol):
    """Features of one split: `image` `[N, D]`, `text` `[M, E]`, `owner` `[M]` (each caption's image)."""

    image: np.ndarray
    text: np.ndarray
    owner: np.ndarray


@dataclasses.dataclass(frozen=True)
class RidgeRetrieval:
    """The strength that validation chose, the recalls on the test split in percent, and the ranks behind them."""

    strength: float
    scalars: dict[str, float]
    image_ranks: np.ndarray
    text_ranks: np.ndarray


def ridge_retrieval(train: Pairs, val: Pairs, test: Pairs, strengths: Sequence[float] = STRENGTHS) -> RidgeRetrieval:
    """Map image features to the mean feature of their captions, and rank by the cosine.

    Both sides are centred by the mean training caption first; otherwise a few captions near that mean are the answer
    to every image. Of `strengths` the one with the largest sum of recalls on `val` is taken; `test` is only measured.

    Raises:
        UserError: shapes do not fit or values are not finite.
    """
    centre = train.text.mean(0)

    def ranks(predicted: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        return retrieval_ranks(_unit(predicted - centre), _unit(pairs.text - centre), pairs.owner)

    ridge = fit_ridge(
        train.image,
        mean_captions(train),
        validation=(val.image, mean_captions(val)),
        strengths=strengths,
        score=lambda predicted: sum(_scalars(*ranks(predicted, val)).values()),
    )
    found = ranks(ridge.predict(test.image), test)
    return RidgeRetrieval(ridge.strength, _scalars(*found), *found)


def mean_captions(pairs: Pairs) -> np.ndarray:
    """Return the mean text feature of each image's captions, `[N, E]`."""
    sums = np.zeros((len(pairs.image), pairs.text.shape[1]))
    np.add.at(sums, pairs.owner, pairs.text)
    return sums / np.bincount(pairs.owner, minlength=len(sums))[:, None]


def _scalars(image_ranks: np.ndarray, text_ranks: np.ndarray) -> dict[str, float]:
    return {**recalls(image_ranks, "i2t_"), **recalls(text_ranks, "t2i_")}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
