"""A tiny image encoder that needs no weights: real, deterministic and weak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.images import DECODER_VERSION, decode_and_resize
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError

SIDE = 8
DIMENSION = 64
SEED = 1


class Pixels(Encoder):
    """Mean colours of an 8 x 8 grid, projected by a fixed random matrix; for tests and tiny recipes."""

    modality = "image"
    item_shape = (SIDE, SIDE, 3)
    item_dtype = tf.float32

    def __init__(self, name: str = "pixels", weights: str | Path | None = None):
        if weights is not None:
            raise UserError(f"encoder {name!r} has no weights to choose, got {weights}")
        values = SIDE * SIDE * 3
        # RandomState's numbers are the same in every version of numpy.
        matrix = np.random.RandomState(SEED).standard_normal((values, DIMENSION)) / np.sqrt(values)
        self._projection = tf.Variable(matrix.astype(np.float32), trainable=False, name="projection")
        super().__init__(name, None, DIMENSION, [self._projection])

    def preprocessing(self) -> dict[str, Any]:
        return {"size": SIDE, "mode": "stretch", "scale": "x / 127.5 - 1", "decoder": DECODER_VERSION, "version": 1}

    def prepare(self, raw: tf.Tensor) -> tf.Tensor:
        return decode_and_resize(raw, SIDE, SIDE, mode="stretch")

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return tf.reshape(items / 127.5 - 1.0, [-1, SIDE * SIDE * 3]) @ self._projection


ENCODERS = {"pixels": Pixels}
