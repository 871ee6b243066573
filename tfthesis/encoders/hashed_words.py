"""A tiny text encoder that needs no word list: real, deterministic and weak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.words import RULES, mean_rows, split_words
from tfthesis.errors import UserError

BUCKETS = 8192
DIMENSION = 64
SEED = 2


class HashedWords(Encoder):
    """Mean of fixed random vectors, one for each hash of a word; for tests and tiny recipes.

    Every word is known; different words share a vector with probability 1 / 8192.
    """

    modality = "text"

    def __init__(self, name: str = "hashed_words", weights: str | Path | None = None):
        if weights is not None:
            raise UserError(f"encoder {name!r} has no weights to choose, got {weights}")
        # RandomState's numbers are the same in every version of numpy.
        vectors = np.random.RandomState(SEED).standard_normal((BUCKETS, DIMENSION)).astype(np.float32)
        self._vectors = tf.Variable(vectors, trainable=False, name="vectors")
        super().__init__(name, None, DIMENSION, [self._vectors])

    def preprocessing(self) -> dict[str, Any]:
        return {"words": RULES, "hash": "farmhash64", "buckets": BUCKETS}

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        words = split_words(items)
        rows = tf.strings.to_hash_bucket_fast(words.flat_values, BUCKETS)
        return mean_rows(self._vectors, words.with_flat_values(rows))


ENCODERS = {"hashed_words": HashedWords}
