"""The softmax loss of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.objective import Objective
from tfthesis.models.replicas import Replicas

#: Label of a pixel that counts for nothing.
IGNORED = 255
REDUCTIONS = ("mean", "sum")


@keras.saving.register_keras_serializable("tfthesis")
class PixelClassification(Objective):
    """Softmax loss (Eq 2.9) of output `scores` `[n, H, W, C]`, one value an image, its part `pixels`.

    Expects targets `labels` `[n, H, W]`, integers; pixels of `IGNORED` do not count. Eq 2.9 sums over pixels, which
    needs learning rates of 1e-10 and below; the mean over the pixels that count is the default.

    Args:
        weights: of the part.
        reduction: "mean" or "sum" over the pixels that count. An image without any has the loss 0.

    Source: Liu 2018, section 2.3.1.
    """

    parts = ("pixels",)

    def __init__(self, weights: Mapping[str, float], reduction: str = "mean"):
        super().__init__(weights)
        if reduction not in REDUCTIONS:
            raise ValueError(f"PixelClassification: reduction must be one of {REDUCTIONS}, got {reduction!r}")
        self.reduction = reduction

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]`."""
        scores, labels = outputs["scores"], tf.cast(targets["labels"], tf.int32)
        scores = tf.cast(scores, tf.float32) if scores.dtype.size < 4 else scores
        counts = tf.cast(labels != IGNORED, scores.dtype)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.where(labels == IGNORED, 0, labels), logits=scores
        )
        total = tf.reduce_sum(losses * counts, axis=[1, 2])
        return total if self.reduction == "sum" else tf.math.divide_no_nan(total, tf.reduce_sum(counts, axis=[1, 2]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "reduction": self.reduction}
