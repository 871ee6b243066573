"""Embedding of one modality by a trained matching model."""

from __future__ import annotations

import keras
import numpy as np

MODALITIES = ("image", "text")


def has_branch(model: keras.Model, modality: str) -> bool:
    """Return whether the model embeds `modality`."""
    return any(layer.name == f"{modality}_embedding" for layer in model.layers)


def branch(model: keras.Model, modality: str) -> keras.Model:
    """Return the part of `model` that maps features of `modality` to embeddings, sharing its weights.

    Args:
        model: a matching model.
        modality: `image` or `text`.

    Returns:
        A functional model from `[B, F]` to `[B, D]`.
    """
    return keras.Model(model.input[modality], model.get_layer(f"{modality}_embedding").output)


def in_chunks(function, *arrays: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """Return `function` of rows of `arrays`, computed some rows at a time and joined, as float32."""
    parts = [
        np.asarray(function(*(np.asarray(array[start : start + chunk], np.float32) for array in arrays)), np.float32)
        for start in range(0, len(arrays[0]), chunk)
    ]
    return np.concatenate(parts)


def embed(model: keras.Model, modality: str, features: np.ndarray) -> np.ndarray:
    """Return the embeddings `[N, D]` of features `[N, F]`."""
    part = branch(model, modality)
    return in_chunks(lambda rows: part(rows, training=False), features)
