"""The layers that the branches of all image-text methods are made of."""

from __future__ import annotations

from typing import Any

import keras

from tfthesis import layers
from tfthesis.matching.recipe import PairRecipe


def norm(recipe: PairRecipe, name: str, **options: Any) -> keras.layers.Layer:
    """Return a BatchNormalization over the global batch, so that one and many devices train the same model."""
    return keras.layers.BatchNormalization(
        momentum=recipe.norm_momentum,
        epsilon=recipe.norm_epsilon,
        synchronized=True,
        name=name,
        dtype=recipe.precision,
        **options,
    )


def dense(recipe: PairRecipe, width: int, name: str, **options: Any) -> keras.layers.Layer:
    """Return a dense layer with normally distributed kernels."""
    initial = keras.initializers.RandomNormal(stddev=recipe.kernel_stddev)
    return keras.layers.Dense(width, kernel_initializer=initial, name=name, dtype=recipe.precision, **options)


def dropout(recipe: PairRecipe, name: str) -> keras.layers.Layer:
    """Return the dropout behind FC1."""
    return layers.ExampleDropout(recipe.dropout, name=name, dtype=recipe.precision)


def relu(recipe: PairRecipe, name: str) -> keras.layers.Layer:
    """Return a rectifier."""
    return keras.layers.ReLU(name=name, dtype=recipe.precision)
