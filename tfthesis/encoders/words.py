"""Texts to words to mean vectors, in the graph and with TensorFlow's core operations only.

The rule is simple enough for `tf.strings`, so that a stock server needs no further library:

1. bytes that are not UTF-8 become U+FFFD, and letters become lower case;
2. a word is a longest run of letters, combining marks and digits (Unicode categories L, M, N);
3. everything else separates words: spaces, punctuation, hyphens, apostrophes, symbols ("man's" is "man", "s").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SEPARATORS = r"[^\pL\pM\pN]+"
RULES = {"lower": "utf-8", "separators": SEPARATORS, "unknown": "left out", "version": 1}


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Return the words of UTF-8 texts `[B]` as ragged strings `[B, words]`."""
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    lower = tf.strings.lower(clean, encoding="utf-8")
    return tf.strings.split(tf.strings.regex_replace(lower, SEPARATORS, " "))


def utf8(text: str | bytes) -> bytes:
    """Return a text as bytes; what cannot be encoded becomes "?"."""
    return text if isinstance(text, bytes) else str(text).encode("utf-8", errors="replace")


def word_table(words: Sequence[str]) -> tf.lookup.StaticHashTable:
    """Return the table from words to their numbers, -1 for an unknown word.

    The words are constants of the graph and not a file: nothing to lose between export and serving.
    """
    entries = tf.lookup.KeyValueTensorInitializer(list(words), np.arange(len(words), dtype=np.int64))
    return tf.lookup.StaticHashTable(entries, default_value=-1)


def word_rows(table: tf.lookup.StaticHashTable, texts: tf.Tensor) -> tf.RaggedTensor:
    """Return the numbers of the words of UTF-8 texts `[B]` as ragged int64 `[B, words]`."""
    words = split_words(texts)
    return words.with_flat_values(table.lookup(words.flat_values))


def mean_rows(vectors: tf.Tensor, rows: tf.RaggedTensor) -> tf.Tensor:
    """Return the mean of the given rows of `vectors` `[W, D]` for each text: `[B, D]`.

    Negative row numbers are left out; a text without any row is the zero vector.
    """
    known = rows.flat_values >= 0
    picked = tf.gather(vectors, tf.boolean_mask(rows.flat_values, known))
    texts = tf.boolean_mask(rows.value_rowids(), known)
    return tf.math.unsorted_segment_mean(picked, texts, rows.nrows())
