"""Pretrained word vectors as a lookup of the graph."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfthesis.encoders.word_vectors import GLOVE_PACKAGE, read_word_vectors
from tfthesis.encoders.words import split_words, word_rows, word_table
from tfthesis.errors import UserError

MAX_WORDS = 100_000


class WordTable:
    """The words of a file that texts can have, in the order of the file, and the rows of their vectors.

    Words that the rules of `tfthesis.encoders.words` never produce (with punctuation, or a rarer spelling of the same
    lower-case word) are not kept, and the table is capped, so that a served model stays small.

    Args:
        source: what `read_word_vectors` takes.
        max_words: at most so many words of the file are read, in its order.
        vocabulary: read only these words; None reads all.
        marks: words that no text has, kept behind the others where the file has them.

    Attributes:
        source: absolute path or name.
        words: `[W]`.
        vectors: `[W, D]` float32.
        marks: rows of the marks that were found.
        lookup: the table, which a SavedModel must track.

    Raises:
        UserError: no or bad word vectors.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        max_words: int = MAX_WORDS,
        vocabulary: Collection[str] | None = None,
        marks: Collection[str] = (),
    ):
        self.source = GLOVE_PACKAGE if str(source) == GLOVE_PACKAGE else str(Path(source).resolve())
        words, vectors = read_word_vectors(source, max_words=max_words, vocabulary=vocabulary, also=marks)
        kept, rows = _producible(words)
        self.lookup = word_table(kept)
        found = [mark for mark in marks if mark in words]
        self.marks = {mark: len(kept) + number for number, mark in enumerate(found)}
        # An array, because a tf.Module would track each word of a list.
        self.words = np.array([*kept, *found], dtype=object)
        self.vectors = vectors[[*rows, *map(words.index, found)]]

    def rows(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the row of each word of UTF-8 texts `[B]` as int64 `[B, words]`, -1 for an unknown word."""
        return word_rows(self.lookup, texts)

    def known_rows(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the rows of the known words of UTF-8 texts `[B]` as int64 `[B, words]`."""
        rows = self.rows(texts)
        return tf.ragged.boolean_mask(rows, rows >= 0)

    def content(self) -> list[tuple[str, np.ndarray]]:
        """Return words and vectors for a fingerprint."""
        return [("words", np.frombuffer("\n".join(self.words).encode(), np.uint8)), ("vectors", self.vectors)]


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
