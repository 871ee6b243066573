"""Ranking losses between several pairs of a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.objective import Objective
from tfthesis.losses.ranking import bi_rank_loss, neighbour_loss
from tfthesis.models.replicas import Replicas


@keras.saving.register_keras_serializable("tfthesis")
class PairRanking(Objective):
    """One bi-rank loss for each named pair of outputs, all over the negatives of the global batch.

    Expects the target `image_id` `[n]`. Outputs `[n, D]` are L2-normalised here, so that a model may give features
    that another part of it goes on from.

    Args:
        weights: weight of each part; parts are named as in `pairs`.
        pairs: part -> the two outputs that match; the second one's negatives are those of the terms "image to text".
        margin: m.
        alphas: the four weights of `bi_rank_loss`.
        negatives: hardest violating negatives an anchor.
        neighbours: part -> weight of `neighbour_loss` on its second output, which keeps the captions of an image
            together; a part that is not named has none.

    Source: Liu 2018, section 5.3.3 and Eq 6.2 to 6.6.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        pairs: Mapping[str, Sequence[str]],
        margin: float = 0.1,
        alphas: Sequence[float] = (1.0, 0.0, 2.0, 0.0),
        negatives: int = 50,
        neighbours: Mapping[str, float] | None = None,
    ):
        self.pairs = {name: tuple(outputs) for name, outputs in pairs.items()}
        self.parts = tuple(self.pairs)
        super().__init__(weights)
        self.margin, self.alphas, self.negatives = margin, tuple(alphas), negatives
        self.neighbours = dict(neighbours or {})

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]` of one pair of outputs."""
        first, second = (_unit(outputs[output]) for output in self.pairs[name])
        ids, ranking = targets["image_id"], {"margin": self.margin, "negatives": self.negatives}
        rows = bi_rank_loss(first, second, ids, replicas, alphas=self.alphas, **ranking)
        weight = self.neighbours.get(name)
        return rows + weight * neighbour_loss(second, ids, replicas, **ranking) if weight else rows

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "pairs": self.pairs,
            "margin": self.margin,
            "alphas": self.alphas,
            "negatives": self.negatives,
            "neighbours": self.neighbours,
        }


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(vectors, tf.float32) if vectors.dtype.size < 4 else vectors
    return tf.math.l2_normalize(wide, axis=1)
