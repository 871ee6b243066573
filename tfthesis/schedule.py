"""Training in stretches, after each of which the learning rate falls, as the released solvers do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tfthesis.method import Stage


class Stretched(Protocol):
    """A recipe that trains in stretches."""

    epochs: tuple[int, ...]
    batch_size: int
    learning_rate: float
    rate_factor: float
    patience: int


def stretches(
    recipe: Stretched, name: str, weights: Mapping[str, float], *, trainable: str = "", select: str = "r_sum"
) -> tuple[Stage, ...]:
    """Return a stage for each of the recipe's `epochs`, named `name_1`, `name_2` and so on.

    Args:
        recipe: lengths, batch, first rate and its factor.
        name: of the stages, without their number.
        weights: of the loss parts.
        trainable: what the names of the layers that train begin with.
        select: scalar of the validation split that picks the weights.
    """
    return tuple(
        Stage(
            f"{name}_{number + 1}",
            epochs,
            recipe.batch_size,
            recipe.learning_rate * recipe.rate_factor**number,
            weights,
            trainable=(trainable,),
            patience=recipe.patience,
            select=select,
        )
        for number, epochs in enumerate(recipe.epochs)
    )
