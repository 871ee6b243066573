"""The loss of MMC-Net and its two baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.classification import multi_label_loss, single_label_loss
from tfthesis.losses.objective import Objective
from tfthesis.losses.ranking import bi_directional_rank_loss
from tfthesis.models.replicas import Replicas


@keras.saving.register_keras_serializable("tfthesis")
class MatchingAndClassification(Objective):
    """Total loss of Eq 7.13: matching (Eq 7.4) and classification (Eq 7.9 or 7.11).

    Expects outputs `image_embedding`, `text_embedding` `[n, D]` (L2-normalised) and `logits` `[n, C]`,
    and targets `image_id` `[n]` and `label`: integers `[n]` take the softmax loss of Eq 7.9, rows `[n, C]`
    of zeros and ones the sigmoid loss of Eq 7.11.

    Args:
        weights: of `matching` and `classification`; the latter's is beta.
        margin, alpha, negatives: m, alpha and K of Eq 7.4.

    Source: Liu 2018, section 7.3.
    """

    parts = ("matching", "classification")

    def __init__(
        self,
        weights: Mapping[str, float],
        margin: float = 0.1,
        alpha: float = 2.0,
        negatives: int = 20,
    ):
        super().__init__(weights)
        self.margin, self.alpha, self.negatives = margin, alpha, negatives

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]` of `matching` or `classification`."""
        if name == "matching":
            image, text = outputs["image_embedding"], outputs["text_embedding"]
            ranking = {"margin": self.margin, "alpha": self.alpha, "negatives": self.negatives}
            return bi_directional_rank_loss(image, text, targets["image_id"], replicas, **ranking)
        loss = multi_label_loss if len(targets["label"].shape) == 2 else single_label_loss
        return loss(targets["label"], outputs["logits"])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        ranking = {"margin": self.margin, "alpha": self.alpha, "negatives": self.negatives}
        return {**super().get_config(), **ranking}
