"""Layers that turn the row numbers of words into a feature of the sentence, and train with a method's model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfthesis import layers
from tfthesis.encoders import reopen
from tfthesis.encoders.word_rows import WordRows
from tfthesis.errors import UserError
from tfthesis.method import Spec


def sentence_features(
    rows: keras.KerasTensor, spec: Spec, *, units: int, trainable_words: bool = False, dtype: Any = None
) -> keras.KerasTensor:
    """Return the maximum over time of a bidirectional LSTM over pretrained word vectors.

    The layers are called `text_words` and `text_bilstm_max`. The word vectors are weights of the first and are saved
    with the model; unless `trainable_words`, they never train, whichever layers a stage trains.

    Args:
        rows: `[B, L]`, what the encoder `word_rows` gives.
        spec: whose text encoder is `word_rows`; it is opened again for its vectors.
        units: of each direction of the LSTM.
        trainable_words: whether the word vectors train.
        dtype: policy of the layers; None takes Keras' current one.

    Returns:
        `[B, 2 * units]`; zeros for a text without any known word.

    Raises:
        UserError: the text encoder is another one, or its vectors changed.

    Source: the RNN encoder of Liu 2018, section 6.4.1, from Conneau et al. 2017.
    """
    vectors = _vectors(spec)
    embedding = layers.WordEmbedding(*vectors.shape, train_vectors=trainable_words, name="text_words", dtype=dtype)
    words = embedding(rows)
    embedding.set_weights([vectors])
    return layers.BiLSTMMax(units, name="text_bilstm_max", dtype=dtype)([words, rows])


def _vectors(spec: Spec) -> np.ndarray:
    description = spec.encoders.get("text", {"name": "none"})
    if description["name"] != "word_rows":
        raise UserError(f"the model reads words: expected text_encoder 'word_rows', got {description['name']!r}")
    encoder: WordRows = reopen(description)
    return encoder.vectors
