"""What a model is trained on: named loss parts and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfthesis.models.replicas import Replicas


class Objective:
    """Gives each example of a batch one value for each loss part.

    A value may look at the whole global batch (through `replicas`) but belongs to one example: the
    training step sums the rows of all devices and divides by their number.

    Args:
        weights: weight of each part in the total; a part that is not named is not computed.

    Subclasses set `parts`, implement `part`, and are registered for Keras serialisation.
    """

    parts: tuple[str, ...] = ()

    def __init__(self, weights: Mapping[str, float]):
        unknown = sorted(set(weights) - set(self.parts))
        if unknown or not weights:
            raise ValueError(f"{type(self).__name__}: weights must name some of {self.parts}, got {dict(weights)}")
        self.weights = dict(weights)

    def __call__(self, outputs: Any, targets: Any, replicas: Replicas) -> dict[str, tf.Tensor]:
        """Return the rows `[n]` of each weighted part."""
        return {name: self.part(name, outputs, targets, replicas) for name in self.weights}

    def part(self, name: str, outputs: Any, targets: Any, replicas: Replicas) -> tf.Tensor:
        """Return the rows `[n]` of one part."""
        raise NotImplementedError(f"{type(self).__name__} does not define its part {name!r}")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"weights": self.weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        """Rebuild an objective from `get_config`."""
        return cls(**config)
