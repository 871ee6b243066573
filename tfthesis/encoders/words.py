"""Texts to words to mean vectors, in the graph and with TensorFlow's core operations only.

The rule is simple enough for `tf.strings`, so that a stock server needs no further library:

1. bytes that are not UTF-8 become U+FFFD, and letters become lower case;
2. a word is a longest run of letters, combining marks and digits (Unicode categories L, M, N);
3. everything else separates words: spaces, punctuation, hyphens, apostrophes, symbols ("man's" is "man", "s").
"""

from __future__ import annotations

import tensorflow as tf

SEPARATORS = r"[^\pL\pM\pN]+"
RULES = {"lower": "utf-8", "separators": SEPARATORS, "unknown": "left out", "version": 1}


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Return the words of UTF-8 texts `[B]` as ragged strings `[B, words]`."""
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    lower = tf.strings.lower(clean, encoding="utf-8")
    return tf.strings.split(tf.strings.regex_replace(lower, SEPARATORS, " "))


def mean_rows(vectors: tf.Tensor, rows: tf.RaggedTensor) -> tf.Tensor:
    """Return the mean of the given rows of `vectors` `[W, D]` for each text: `[B, D]`.

    Negative row numbers are left out; a text without any row is the zero vector.
    """
    known = rows.flat_values >= 0
    picked = tf.gather(vectors, tf.boolean_mask(rows.flat_values, known))
    texts = tf.boolean_mask(rows.value_rowids(), known)
    return tf.math.unsorted_segment_mean(picked, texts, rows.nrows())
