"""Sentences as InferSent encodes them, "RNN" of the thesis (Liu 2018, section 6.4.1, and Table 6.6).

Conneau et al., "Supervised Learning of Universal Sentence Representations from Natural Language Inference Data", 2017.
The same network as a layer that trains is `tfthesis.layers.BiLSTMMax`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.torch_archive import read_torch_weights
from tfthesis.encoders.word_table import MAX_WORDS, WordTable
from tfthesis.encoders.words import RULES
from tfthesis.errors import UserError
from tfthesis.layers.bi_lstm_max import LSTMWeights, bi_lstm_max, torch_lstm_weights

# What each published version puts around a sentence.
MARKS = {1: ("<s>", "</s>"), 2: ("<p>", "</p>")}
# Known words of a text that are read. Captions have a tenth of them; a served model must not hang on a book.
LONGEST = 512
# Sentences that run together, each as long as the longest of them.
BLOCK = 128


class InferSent(Encoder):
    """Maximum over time of a bidirectional LSTM over pretrained word vectors, 4096-d as published.

    A sentence is its known words between two marks, whose vectors come from the word vectors too; a mark that these
    lack is left out. A text without any word is what its marks give, or zeros without marks; of a text that is no
    sentence the first `LONGEST` words are read.

    It differs from the released code in two points. Words are split and made lower-case by `tfthesis.encoders.words`;
    there NLTK's tokens keep case and punctuation. Padding has no part in the maximum; there the first version takes it
    over the zeros behind every sentence that is shorter than the longest of its batch.
    """

    modality = "text"
    options = ("word_vectors", "max_words", "version")

    def __init__(
        self,
        name: str = "bilstm_max",
        weights: str | Path | None = None,
        *,
        word_vectors: str | Path | None = None,
        max_words: int = MAX_WORDS,
        version: int = 1,
    ):
        """Read the network and its word vectors.

        Args:
            name: "bilstm_max".
            weights: PyTorch archive with the `enc_lstm` of the published network.
            word_vectors: what `read_word_vectors` takes: the vectors that the network was trained with.
            max_words: at most so many words of the file are read, in its order, and the marks.
            version: 1, trained with GloVe 840B, or 2, trained with fastText crawl.

        Raises:
            UserError: the weights or the word vectors are missing, bad, or of different widths.
        """
        if weights is None:
            raise UserError(
                f"encoder {name!r} needs weights: the archive infersent1.pkl or infersent2.pkl that the authors of "
                "InferSent publish with their code; none comes with this package"
            )
        if word_vectors is None:
            raise UserError(
                f"encoder {name!r} needs the option 'word_vectors': the file that the weights were trained with, "
                "GloVe 840B for infersent1.pkl and fastText crawl for infersent2.pkl"
            )
        if version not in list(MARKS):
            raise UserError(f"encoder {name!r}: version must be one of {list(MARKS)}, got {version!r}")
        self._max_words, self._version = max_words, version
        directions = _directions(Path(weights))
        self._table = table = WordTable(word_vectors, max_words=max_words, marks=MARKS[version])
        width, units = directions[0].kernel.shape[0], directions[0].recurrent.shape[0]
        if table.vectors.shape[1] != width:
            raise UserError(
                f"encoder {name!r}: weights {weights} take word vectors of width {width}, and those of "
                f"{table.source} have width {table.vectors.shape[1]}"
            )
        self._vectors = tf.Variable(table.vectors, trainable=False, name="vectors")
        self._directions = [_variables(*pair) for pair in zip(("forward", "backward"), directions, strict=True)]
        variables = [self._vectors, *self._directions[0], *self._directions[1]]
        super().__init__(name, Path(weights), 2 * units, variables, [table.lookup])

    def preprocessing(self) -> dict[str, Any]:
        marks = list(self._table.marks)
        return {"words": RULES, "table": len(self._table.words), "marks": marks, "longest": LONGEST, "version": 1}

    def chosen(self) -> dict[str, Any]:
        return {"word_vectors": self._table.source, "max_words": self._max_words, "version": self._version}

    def content(self) -> list[tuple[str, np.ndarray]]:
        weights = [variable for direction in self._directions for variable in direction]
        return [*self._table.content(), *((variable.name, variable.numpy()) for variable in weights)]

    def encode(self, items: tf.Tensor) -> tf.Tensor:
        sentences = self._sentences(items)
        # Of a thousand captions the longest has several times the words of the mean one: in order of their length
        # few steps are spent on padding.
        order = tf.argsort(sentences.row_lengths(), stable=True)
        # Of no text there is an empty block: a map over no block at all would lose the dimension.
        starts = tf.range(0, tf.maximum(sentences.nrows(), 1), BLOCK)
        blocks = tf.RaggedTensor.from_row_starts(tf.gather(sentences, order), starts)
        rows = tf.RaggedTensorSpec([None, self.dimension], ragged_rank=0)
        found = tf.map_fn(self._block, blocks, fn_output_signature=rows)
        return tf.gather(found.values, tf.math.invert_permutation(order))

    def _sentences(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Return the rows of marks and known words of each text."""
        known = self._table.known_rows(texts)[:, :LONGEST]
        first, last = (
            [tf.fill([known.nrows(), 1], np.int64(self._table.marks[mark]))] if mark in self._table.marks else []
            for mark in MARKS[self._version]
        )
        return tf.concat([*first, known, *last], axis=1)

    def _block(self, sentences: tf.RaggedTensor) -> tf.Tensor:
        words = tf.gather(self._vectors, sentences.to_tensor())
        forward, backward = (LSTMWeights(*map(tf.convert_to_tensor, weights)) for weights in self._directions)
        return bi_lstm_max(words, tf.sequence_mask(sentences.row_lengths()), forward, backward)


def _variables(direction: str, weights: LSTMWeights) -> LSTMWeights:
    named = weights._asdict().items()
    return LSTMWeights(*(tf.Variable(array, trainable=False, name=f"{direction}_{name}") for name, array in named))


def _directions(path: Path) -> tuple[LSTMWeights, LSTMWeights]:
    """Return the weights of both directions in a published archive."""
    arrays = read_torch_weights(path)
    try:
        return torch_lstm_weights(arrays)
    except UserError as error:
        raise UserError(f"weights {path} are not those of InferSent: {error}") from error


ENCODERS = {"bilstm_max": InferSent}
