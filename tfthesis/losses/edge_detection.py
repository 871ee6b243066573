"""Losses of edge detection with deep supervision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.objective import Objective
from tfthesis.models.replicas import Replicas

#: Side outputs of the networks.
SIDES = 5
RELAXED = 2
REDUCTIONS = ("mean", "sum")


@keras.saving.register_keras_serializable("tfthesis")
class EdgeDetection(Objective):
    """Weighted sigmoid cross-entropy of the fused edge map (part `fuse`) and of five side outputs (`side_K`).

    Expects outputs `fuse` and `side_K` `[n, H, W, 1]` before the sigmoid, and targets `edges` `[n, H, W]` (1 edge, 0
    none) and `relaxed` `[n, H, W, 5]`, whose label 2 marks pixels that do not count for that side output. Any other
    label does not count either, in both.

    Pixels of an edge weigh `positive`, all others `negative` (Eq 3.4). Without `positive` the weights are those of HED
    in each image: an edge weighs the share of pixels that are none, others the share of those that are (Eq 2.11, 2.12,
    which print no labels).

    Args:
        weights: of the parts.
        positive: alpha of Eq 3.4; None balances each image.
        negative: beta of Eq 3.4; without `positive` it has no effect.
        reduction: "sum" over pixels as in Eq 3.3, or their "mean", over all pixels of an image.

    Source: Liu 2018, Eq 2.11-2.13 and 3.3-3.6, with the minus sign that Eq 3.4 lacks and Eq 3.5 has.
    """

    parts = ("fuse", *(f"side_{number + 1}" for number in range(SIDES)))

    def __init__(
        self,
        weights: Mapping[str, float],
        positive: float | None = 9.0,
        negative: float = 1.0,
        reduction: str = "mean",
    ):
        super().__init__(weights)
        if reduction not in REDUCTIONS:
            raise ValueError(f"EdgeDetection: reduction must be one of {REDUCTIONS}, got {reduction!r}")
        self.positive, self.negative, self.reduction = positive, negative, reduction

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]` of one output's loss."""
        logits = outputs[name][..., 0]
        logits = tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits
        labels = targets["edges"] if name == "fuse" else targets["relaxed"][..., int(name.removeprefix("side_")) - 1]
        edge, none = tf.cast(labels == 1, logits.dtype), tf.cast(labels == 0, logits.dtype)
        if self.positive is None:
            edges, others = (tf.reduce_sum(kind, axis=[1, 2], keepdims=True) for kind in (edge, none))
            positive = tf.math.divide_no_nan(others, edges + others)
            negative = tf.math.divide_no_nan(edges, edges + others)
        else:
            positive, negative = self.positive, self.negative
        # -log sigmoid(x) and -log(1 - sigmoid(x)).
        losses = positive * edge * tf.math.softplus(-logits) + negative * none * tf.math.softplus(logits)
        reduce = tf.reduce_sum if self.reduction == "sum" else tf.reduce_mean
        return reduce(losses, axis=[1, 2])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        own = {"positive": self.positive, "negative": self.negative, "reduction": self.reduction}
        return {**super().get_config(), **own}
