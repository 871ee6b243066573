"""The softmax loss of a classifier, and of the further ones on its side branches."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfthesis.losses.classification import single_label_loss
from tfthesis.losses.objective import Objective
from tfthesis.models.replicas import Replicas

#: As many side branches may have a loss of their own.
SIDES = 3


@keras.saving.register_keras_serializable("tfthesis")
class SoftmaxClassification(Objective):
    """Softmax loss (Eq 2.4) of output `logits`, and of `side_K_logits` where a part `side_K` is weighted.

    Expects targets `label` `[n]`, integers. With side parts it is the loss of a deeply supervised network.

    Source: Liu 2018, sections 2.2.2 and 2.2.3.
    """

    parts = ("classification", *(f"side_{number + 1}" for number in range(SIDES)))

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]` of one classifier's loss."""
        logits = outputs["logits"] if name == "classification" else outputs[f"{name}_logits"]
        return single_label_loss(targets["label"], logits)
