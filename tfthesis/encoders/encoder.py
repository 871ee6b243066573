"""What every image and text encoder has in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf


class Encoder(tf.Module):
    """A fixed feature extractor: `[B]` strings (image bytes or UTF-8 text) to `[B, dimension]` float32, in the graph.

    An encoder tracks raw variables and lookup tables only and holds Keras models in closures: a SavedModel that tracks
    a Keras 3 model through a `tf.Module` cannot initialise its variables in a TF1 session, which is how it is served.

    A subclass sets `modality`, calls `__init__`, and defines `prepare` and `encode`.

    Attributes:
        modality: "image" or "text".
        options: names of the keyword arguments that `open_encoder` passes on.
        item_shape: shape of what `prepare` returns; with an unknown axis, items are encoded one at a time.
        item_dtype: its dtype.
        dimension: length of a feature.
        weights: absolute path or name of the weights; None for an encoder without any choice.
    """

    modality: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    item_shape: tuple[int | None, ...] = ()
    item_dtype: tf.DType = tf.string

    def __init__(
        self,
        name: str,
        weights: str | Path | None,
        dimension: int,
        variables: Sequence[tf.Variable],
        tables: Sequence[Any] = (),
    ):
        super().__init__(name=name)
        self.dimension = dimension
        self.weights = str(weights.resolve()) if isinstance(weights, Path) else weights
        self._variables = list(variables)
        self._tables = list(tables)

    def preprocessing(self) -> dict[str, Any]:
        """Return as JSON values how raw input is turned into the network's; part of the fingerprint."""
        raise NotImplementedError

    def chosen(self) -> dict[str, Any]:
        """Return the options that this encoder was opened with, as JSON values."""
        return {}

    def content(self) -> list[tuple[str, np.ndarray]]:
        """Return the named arrays that decide the features, for the fingerprint."""
        return [(variable.name, variable.numpy()) for variable in self._variables]

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        """Turn one raw string `[]` into the item of `item_shape` that `encode` takes; text passes unchanged."""
        return raw

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        """Map prepared items `[B, *item_shape]` to features `[B, dimension]`; B is at least 1."""
        raise NotImplementedError

    @cached_property
    def encode_graph(self) -> tf.types.experimental.PolymorphicFunction:
        """`encode` as a graph, traced once for all lists of items."""
        return tf.function(self.encode, input_signature=[tf.TensorSpec([None, *self.item_shape], self.item_dtype)])

    @cached_property
    def prepare_graph(self) -> tf.types.experimental.PolymorphicFunction:
        """`prepare` as a graph, whose assertions name what was expected and what came."""
        return tf.function(self.prepare, input_signature=[tf.TensorSpec([], tf.string)])

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Map `[B]` image bytes or UTF-8 texts to `[B, dimension]` float32; an undecodable image fails the batch."""
        if self.modality == "text":
            return self.encode(raw)
        # Convolutions of an empty batch have a wrong shape on the CPU, so it never reaches the network.
        features = tf.cond(tf.size(raw) > 0, lambda: self._encode_images(raw), lambda: tf.zeros([0, self.dimension]))
        return tf.ensure_shape(features, [None, self.dimension])

    def _encode_images(self, raw: tf.Tensor) -> tf.Tensor:
        if None in self.item_shape:
            one = tf.TensorSpec([self.dimension], tf.float32)
            return tf.map_fn(lambda item: self.encode(self.prepare(item)[None])[0], raw, fn_output_signature=one)
        item = tf.TensorSpec(self.item_shape, self.item_dtype)
        return self.encode(tf.map_fn(self.prepare, raw, fn_output_signature=item))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and the preprocessing, in hexadecimal."""
        digest = hashlib.sha256(json.dumps([self.dimension, self.preprocessing()], sort_keys=True).encode())
        for name, array in self.content():
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return as JSON values what `tfthesis.encoders.reopen` needs, and what a reader wants to know."""
        return {
            "name": self.name,
            "modality": self.modality,
            "weights": self.weights,
            "options": self.chosen(),
            "dimension": self.dimension,
            "preprocessing": self.preprocessing(),
            "fingerprint": self.fingerprint,
        }

    def trackables(self) -> list[Any]:
        """Return the raw variables and tables that a SavedModel calling this encoder must track."""
        return [*self._variables, *self._tables]
