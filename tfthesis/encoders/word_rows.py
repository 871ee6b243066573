"""Sentences as the row numbers of their words' vectors, for models that train on words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.word_table import MAX_WORDS, WordTable
from tfthesis.encoders.words import RULES
from tfthesis.errors import UserError

MAX_LENGTH = 40


class WordRows(Encoder):
    """Row numbers of the known words of a text, in their order, behind them zeros.

    Numbers begin at 1; they are float32, as features are, which holds every whole number up to 2 ** 24. Unknown words
    are left out, and words behind the first `max_length` known ones are cut off. The layers that take these features
    are those of `tfthesis.matching.sentences`.
    """

    modality = "text"
    options = ("word_vectors", "max_words", "max_length")

    def __init__(
        self,
        name: str = "word_rows",
        weights: str | Path | None = None,
        *,
        word_vectors: str | Path | None = None,
        max_words: int = MAX_WORDS,
        max_length: int = MAX_LENGTH,
    ):
        """Read the word vectors.

        Args:
            name: "word_rows".
            weights: must be None.
            word_vectors: what `read_word_vectors` takes.
            max_words: at most so many words of the file are read, in its order.
            max_length: words of a text that are kept, the dimension of the features.

        Raises:
            UserError: no or bad word vectors.
        """
        if weights is not None:
            raise UserError(
                f"encoder {name!r} takes its vectors as the option 'word_vectors', not as weights: {weights}"
            )
        if word_vectors is None:
            raise UserError(
                f"encoder {name!r} needs the option 'word_vectors': a word2vec .bin, GloVe .txt, fastText .vec or .npy "
                "file"
            )
        if max_length < 1:
            raise UserError(f"max_length: expected at least 1, got {max_length}")
        self._max_words = max_words
        self._table = WordTable(word_vectors, max_words=max_words)
        super().__init__(name, None, max_length, [], [self._table.lookup])

    @property
    def vectors(self) -> np.ndarray:
        """Vectors `[1 + W, D]` float32 by row number; row 0, which stands for no word, is zero."""
        return np.pad(self._table.vectors, [(1, 0), (0, 0)])

    def preprocessing(self) -> dict[str, Any]:
        return {"words": RULES, "table": len(self._table.words), "version": 1}

    def chosen(self) -> dict[str, Any]:
        return {"word_vectors": self._table.source, "max_words": self._max_words, "max_length": self.dimension}

    def content(self) -> list[tuple[str, np.ndarray]]:
        return self._table.content()

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        rows = self._table.known_rows(items) + 1
        return tf.cast(rows.to_tensor(shape=[None, self.dimension]), tf.float32)


ENCODERS = {"word_rows": WordRows}
