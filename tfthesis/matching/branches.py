"""The layers that the branches of all image-text methods are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from tfthesis import layers, optimizers
from tfthesis.matching.recipe import WORD_ROWS, PairRecipe
from tfthesis.matching.sentences import sentence_features
from tfthesis.method import Spec


def inputs_and_features(
    recipe: PairRecipe, spec: Spec, modalities: Iterable[str]
) -> tuple[dict[str, keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """Return the model's inputs by modality, and the features that its branches go on from.

    They are the same but for texts as `word_rows`, which a sentence encoder that trains with the model reads.
    """
    inputs = {name: keras.Input(spec.inputs[name], name=name) for name in modalities}
    features = dict(inputs)
    if recipe.text_encoder == WORD_ROWS and "text" in inputs:
        features["text"] = sentence_features(inputs["text"], spec, units=recipe.sentence_units, dtype=recipe.precision)
    return inputs, features


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


def decays(recipe: PairRecipe) -> dict[str, float]:
    """Return the weight decay by variable name: kernels decay, those of a sentence encoder too, and nothing else."""
    return {"kernel": recipe.weight_decay, "recurrent": recipe.weight_decay, "": 0.0}


def optimizer(recipe: PairRecipe, learning_rate: float) -> keras.optimizers.Optimizer:
    """Return Caffe's SGD; biases learn `bias_rate` times as fast, as the released networks have them."""
    return optimizers.CaffeSGD(
        learning_rate,
        momentum=recipe.momentum,
        decay=1.0,
        rate_multipliers={"bias": recipe.bias_rate},
        decay_multipliers=decays(recipe),
    )
