"""Sentences as the mean of their words' vectors, "Mean vector" of the thesis (Liu 2018, chapter 7, section 7.2.1)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.word_vectors import GLOVE_PACKAGE, read_word_vectors
from tfthesis.encoders.words import RULES, mean_rows, split_words, word_rows, word_table
from tfthesis.errors import UserError

MAX_WORDS = 100_000


class MeanWordVectors(Encoder):
    """Mean of pretrained word vectors; tokenising and lookup are part of the graph.

    Unknown words are left out; a text of unknown words only is the zero vector. Words of the file that the rules of
    `tfthesis.encoders.words` never produce (with punctuation, or a rarer spelling of the same lower-case word) are not
    kept, and the table is capped, so that a served model stays small.
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
        source = GLOVE_PACKAGE if weights in (None, GLOVE_PACKAGE) else Path(weights)
        self._max_words = max_words
        self._vocabulary = None if vocabulary is None else tuple(sorted(set(vocabulary)))
        words, vectors = read_word_vectors(source, max_words=max_words, vocabulary=self._vocabulary)
        kept, rows = _producible(words)
        # An array, because a tf.Module would track each word of a list.
        self.words = np.array(kept, dtype=object)
        self._vectors = tf.Variable(vectors[rows], trainable=False, name="vectors")
        self._rows = word_table(kept)
        super().__init__(name, source, vectors.shape[1], [self._vectors], [self._rows])

    def preprocessing(self) -> dict[str, Any]:
        return {"words": RULES, "table": len(self.words)}

    def chosen(self) -> dict[str, Any]:
        return {"max_words": self._max_words, "vocabulary": self._vocabulary and list(self._vocabulary)}

    def content(self) -> list[tuple[str, np.ndarray]]:
        words = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        return [("words", words), ("vectors", self.vectors)]

    @property
    def vectors(self) -> np.ndarray:
        """`[W, D]` float32, the vector of each of `words`."""
        return self._vectors.numpy()

    def rows(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the rows of the words of texts `[B]` as ragged int64 `[B, words]`, -1 for an unknown word."""
        return word_rows(self._rows, texts)

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        return mean_rows(self._vectors, self.rows(items))


def _producible(words: list[str]) -> tuple[list[str], list[int]]:
    """Return the words as texts are split into, each with the row of its first spelling."""
    pieces = split_words(tf.constant(words))
    single = tf.squeeze(tf.where(pieces.row_lengths() == 1), 1)
    first: dict[str, int] = {}
    for row, piece in zip(single.numpy(), tf.gather(pieces, single).flat_values.numpy(), strict=True):
        # "U.S." must not become "us", so a word that only loses punctuation is not kept.
        if piece.decode() == words[row].lower():
            first.setdefault(piece.decode(), int(row))
    if not first:
        raise UserError("word vectors: no word of the file is a run of letters and digits")
    return list(first), list(first.values())


ENCODERS = {"glove_50d": MeanWordVectors, "word_vectors": MeanWordVectors}
