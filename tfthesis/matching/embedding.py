"""Embedding of one modality by a trained matching model."""

from __future__ import annotations

import keras
import numpy as np

from tfthesis import layers

MODALITIES = ("image", "text")


def has_branch(model: keras.Model, modality: str) -> bool:
    """Return whether the model embeds `modality`."""
    return any(layer.name == f"{modality}_embedding" for layer in model.layers)


def branch(model: keras.Model, modality: str, parts: tuple[int, ...] | None = None) -> keras.Model:
    """Return the part of `model` that maps features of `modality` to embeddings, sharing its weights.

    Args:
        model: a matching model.
        modality: `image` or `text`.
        parts: of joined embeddings, those that are joined; None takes all.

    Returns:
        A functional model from `[B, F]` to `[B, D]`.
    """
    layer = model.get_layer(f"{modality}_embedding")
    output = layer.output
    if parts is not None and isinstance(layer, layers.JoinedEmbeddings) and parts != tuple(range(len(layer.input))):
        output = layers.JoinedEmbeddings(name=layer.name)([layer.input[part] for part in parts])
    return keras.Model(model.input[modality], output)


def in_chunks(function, *arrays: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """Return `function` of rows of `arrays`, computed some rows at a time and joined, as float32."""
    parts = [
        np.asarray(function(*(np.asarray(array[start : start + chunk], np.float32) for array in arrays)), np.float32)
        for start in range(0, len(arrays[0]), chunk)
    ]
    return np.concatenate(parts)


def embed(model: keras.Model, modality: str, features: np.ndarray, parts: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the embeddings `[N, D]` of features `[N, F]`; `parts` as in `branch`."""
    part = branch(model, modality, parts)
    return in_chunks(lambda rows: part(rows, training=False), features)
