"""Sentences as the mean of their words' vectors, "Mean vector" of the thesis (Liu 2018, chapter 7, section 7.2.1)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.word_table import MAX_WORDS, WordTable
from tfthesis.encoders.word_vectors import GLOVE_PACKAGE
from tfthesis.encoders.words import RULES, mean_rows
from tfthesis.errors import UserError


class MeanWordVectors(Encoder):
    """Mean of pretrained word vectors; tokenising and lookup are part of the graph.

    Unknown words are left out; a text of unknown words only is the zero vector. Which words of the file are kept says
    `tfthesis.encoders.word_table.WordTable`.
    """

    modality = "text"
    options = ("max_words", "vocabulary")

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        *,
        max_words: int = MAX_WORDS,
        vocabulary: Collection[str] | None = None,
    ):
        """Read the vectors.

        Args:
            name: "glove_50d" or "word_vectors".
            weights: what `read_word_vectors` takes; required for "word_vectors".
            max_words: at most so many words of the file are read, in its order.
            vocabulary: read only these words; None reads all.

        Raises:
            UserError: no or bad weights.
        """
        if weights is None and name != "glove_50d":
            raise UserError(f"encoder {name!r} needs weights: a word2vec .bin, GloVe .txt or .npy file")
        self._max_words = max_words
        self._vocabulary = None if vocabulary is None else tuple(sorted(set(vocabulary)))
        self._table = WordTable(weights or GLOVE_PACKAGE, max_words=max_words, vocabulary=self._vocabulary)
        self._vectors = tf.Variable(self._table.vectors, trainable=False, name="vectors")
        super().__init__(name, self._table.source, self._vectors.shape[1], [self._vectors], [self._table.lookup])

    @property
    def words(self) -> np.ndarray:
        """The words that have a vector, `[W]`."""
        return self._table.words

    @property
    def vectors(self) -> np.ndarray:
        """The vector of each of `words`, `[W, D]` float32."""
        return self._table.vectors

    def rows(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the row of each word of texts `[B]` as int64 `[B, words]`, -1 for an unknown word."""
        return self._table.rows(texts)

    def preprocessing(self) -> dict[str, Any]:
        return {"words": RULES, "table": len(self.words)}

    def chosen(self) -> dict[str, Any]:
        return {"max_words": self._max_words, "vocabulary": self._vocabulary and list(self._vocabulary)}

    def content(self) -> list[tuple[str, np.ndarray]]:
        return self._table.content()

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return mean_rows(self._vectors, self.rows(items))


ENCODERS = {"glove_50d": MeanWordVectors, "word_vectors": MeanWordVectors}
