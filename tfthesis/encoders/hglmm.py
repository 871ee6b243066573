"""Sentences as Fisher vectors of a hybrid Gaussian-Laplacian mixture of their words' vectors (HGLMM).

Klein, Lev, Sadeh and Wolf, CVPR 2015. Liu 2018 (sections 5.3.1 and 6.4.5) uses 30 centres over word vectors of 300
dimensions, 300 x 30 x 2 = 18,000 numbers, and their principal components, 6,000, as Wang, Li and Lazebnik, CVPR 2016.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.fisher_vectors import FisherVectors
from tfthesis.encoders.fitted import FittedEncoder, read_fitted
from tfthesis.encoders.hglmm_fitting import HGLMMFitting
from tfthesis.encoders.hybrid_mixture import HybridMixture
from tfthesis.encoders.words import RULES
from tfthesis.errors import UserError

ARRAYS = ("words", "vectors", "weights", "location", "scale", "laplacian", "mean", "components", "record")


class HGLMM(FittedEncoder):
    """Principal components of the Fisher vectors of the words; all of it is part of the graph.

    Unknown words are left out, as `MeanWordVectors` does, and words that only occur in other texts than the training
    captions are known if they have a vector. A text of unknown words only has the zero vector for its Fisher vector,
    so it gives the principal components of zero, which are not zero themselves.
    """

    fitting = HGLMMFitting

    def __init__(self, name: str, weights: str | Path | None = None):
        """Read what `open_fitted` made.

        Raises:
            UserError: no or a lost file, or one that is damaged or does not fit together.
        """
        path, arrays = read_fitted(name, weights, ARRAYS)
        words, record = _checked(f"encoder {name!r}: {path}", arrays)
        mixture = HybridMixture(**{field.name: arrays[field.name] for field in dataclasses.fields(HybridMixture)})
        self._fisher = FisherVectors(words, arrays["vectors"], mixture)
        self._mean = tf.Variable(arrays["mean"].astype(np.float32), trainable=False, name="mean")
        components = arrays["components"].astype(np.float32, copy=False)
        self._components = tf.Variable(components, trainable=False, name="components")
        # Arrays and strings, because a tf.Module would track what a list or a dict holds.
        self.words, self._record = np.array(words, dtype=object), json.dumps(record)
        variables = [*self._fisher.variables, self._mean, self._components]
        super().__init__(name, path, components.shape[1], variables, self._fisher.tables)

    def preprocessing(self) -> dict[str, Any]:
        return {"words": RULES, "table": len(self.words), "fisher_vector": "signed square root, L2 norm"}

    def content(self) -> list[tuple[str, np.ndarray]]:
        return [("words", np.frombuffer("\n".join(self.words).encode(), np.uint8)), *super().content()]

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "fit": json.loads(self._record)}

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return tf.matmul(self._fisher(items) - self._mean, self._components)


def _checked(source: str, arrays: Mapping[str, np.ndarray]) -> tuple[list[str], dict[str, Any]]:
    """Return the words and the record of a fit whose arrays fit together.

    Raises:
        UserError: they do not; what was expected is named.
    """
    try:
        words = bytes(arrays["words"]).decode().split("\n")
        record = json.loads(bytes(arrays["record"]))
    except ValueError as error:
        raise UserError(f"{source}: its words or its record are not UTF-8 text: {error}") from error
    centres, dimension = (*arrays["location"].shape, 0, 0)[:2]
    width, components = 2 * centres * dimension, arrays["components"].shape[-1:]
    shapes = {
        "vectors": (len(words), dimension),
        "weights": (centres,),
        **dict.fromkeys(("location", "scale", "laplacian"), (centres, dimension)),
        "mean": (width,),
        "components": (width, *components),
    }
    for name, shape in shapes.items():
        array, kind = arrays[name], "b" if name == "laplacian" else "f"
        if array.shape != shape or 0 in shape or array.dtype.kind != kind:
            raise UserError(f"{source}: expected {name} {shape}, got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise UserError(f"{source}: {name} has a number that is not finite")
    if min(arrays["weights"].min(), arrays["scale"].min()) <= 0 or abs(arrays["weights"].sum() - 1) > 1e-6:
        raise UserError(f"{source}: expected positive weights of sum one and positive scales")
    if len(set(words)) < len(words):
        raise UserError(f"{source}: a word occurs twice")
    return words, record


ENCODERS = {"hglmm": HGLMM}
