"""The fit of the encoder `hglmm` to the training captions: word counts, mixture, principal components."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.encoders.fisher_vectors import FisherVectors
from tfthesis.encoders.fitted import Fitting
from tfthesis.encoders.hybrid_mixture import Fitted, fit_mixture
from tfthesis.encoders.mean_word_vectors import MAX_WORDS, MeanWordVectors
from tfthesis.encoders.principal_components import PrincipalComponents, principal_components
from tfthesis.encoders.word_vectors import GLOVE_PACKAGE
from tfthesis.encoders.words import utf8
from tfthesis.errors import UserError, closest

WEIGHTINGS = ("tokens", "types")
# Part of the key of a fit; a change of how it is made makes all files new.
VERSION = 1
# Texts at a time.
_BATCH = 512

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class HGLMMFitting(Fitting):
    """Fits the mixture to the words of the captions, and the principal components to their Fisher vectors.

    Word vectors are taken as they are. The paper's released code, as others call it (`hglmm_30` with `ica_300`), turns
    them by an independent component analysis first.

    Attributes:
        weights: word vectors, as `read_word_vectors` takes them; required, because which they are decides the features.
        centres: K, components of the mixture.
        dimension: principal components at most; there are no more than the captions' Fisher vectors span.
        kinds: of the mixture's dimensions, see `fit_mixture`.
        weighting: "tokens" counts a word for the mixture as often as the captions have it, "types" once. Which of them
            the paper took is not known to us. By tokens the most frequent words get centres of their own; a ridge map
            on the 753 training images of our Flickr8k sample does better by types.
        max_words: at most so many words of the file are read, in its order.
        max_iterations: steps of expectation maximisation at most.
        seed: of its start.
    """

    weights: str | Path | None
    centres: int = 30
    dimension: int = 6000
    kinds: str = "hybrid"
    weighting: str = "tokens"
    max_words: int = MAX_WORDS
    max_iterations: int = 200
    seed: int = 0

    def __post_init__(self):
        if self.weights is None:
            raise UserError(
                "encoder 'hglmm' needs weights: a word2vec .bin, GloVe .txt or .npy file (the thesis takes vectors of "
                f"300 dimensions), or {GLOVE_PACKAGE} for the vectors of the installed package"
            )
        if self.weighting not in WEIGHTINGS:
            raise closest(self.weighting, WEIGHTINGS, "weighting")
        for name in ("centres", "dimension", "max_words", "max_iterations", "seed"):
            value, least = getattr(self, name), 0 if name == "seed" else 1
            if not isinstance(value, int) or value < least:
                raise UserError(f"{name}: expected a whole number of at least {least}, got {value!r}")

    @cached_property
    def source(self) -> MeanWordVectors:
        """The words that have vectors."""
        return MeanWordVectors("word_vectors", self.weights, max_words=self.max_words)

    def source_fingerprint(self) -> str:
        return f"{VERSION} {self.source.fingerprint}"

    def fit(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        batches = _batches(texts)
        counts, unknown = self._count(batches)
        used = np.flatnonzero(counts)
        words, vectors = self.source.words, self.source.vectors
        _log.info(
            "hglmm: fitting %d centres to %d known words of %d training captions; %d of %d occurrences are unknown; "
            "then at most %d principal components to %d numbers a caption",
            *(self.centres, len(used), len(texts), unknown, unknown + counts.sum()),
            *(self.dimension, 2 * self.centres * vectors.shape[1]),
        )
        fitted = fit_mixture(
            vectors[used],
            counts[used] if self.weighting == "tokens" else np.ones(len(used)),
            self.centres,
            kinds=self.kinds,
            seed=self.seed,
            max_iterations=self.max_iterations,
        )
        fisher = FisherVectors(words[used], vectors[used], fitted.mixture)
        call = tf.function(fisher, input_signature=[tf.TensorSpec([None], tf.string)])
        pieces = (call(batch).numpy() for batch in batches)
        found = principal_components(pieces, len(texts), fisher.dimension, self.dimension)
        record = {"captions": len(texts), "words": len(used), **self._record(fitted, found)}
        return {
            "words": np.frombuffer("\n".join(words).encode(), np.uint8),
            "vectors": vectors,
            **vars(fitted.mixture),
            "mean": found.mean,
            "components": found.components,
            "record": np.frombuffer(json.dumps(record).encode(), np.uint8),
        }

    def _record(self, fitted: Fitted, found: PrincipalComponents) -> dict[str, Any]:
        """Return what a reader wants to know of a fit, and log it."""
        steps, log_likelihood = len(fitted.log_likelihood) - 1, fitted.log_likelihood[-1]
        laplacian = float(fitted.mixture.laplacian.mean())
        width, dimension = found.components.shape
        _log.info(
            "hglmm: %d iterations%s, log-likelihood %.4f a word, %.1f%% of the dimensions Laplacian; from %d numbers a "
            "text %d principal components, which hold %.2f%% of the variance",
            *(steps, "" if fitted.converged else " without convergence", log_likelihood, 100 * laplacian),
            *(width, dimension, 100 * found.explained),
        )
        return {
            "options": self.options(),
            "iterations": steps,
            "converged": fitted.converged,
            "log_likelihood": log_likelihood,
            "laplacian": laplacian,
            "fisher_vector": width,
            "dimension": dimension,
            "explained_variance": found.explained,
        }

    def _count(self, batches: Sequence[tf.Tensor]) -> tuple[np.ndarray, int]:
        """Return how often each word with a vector occurs, `[W]`, and how often other words do."""
        counts = np.zeros(len(self.source.words) + 1, np.int64)
        for batch in batches:
            counts += np.bincount(self.source.rows(batch).flat_values + 1, minlength=len(counts))
        if not counts[1:].any():
            raise UserError(f"hglmm: no word of the training captions has a vector in {self.source.weights}")
        return counts[1:], int(counts[0])


def _batches(texts: Sequence[str]) -> list[tf.Tensor]:
    pieces = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    return [tf.constant([utf8(text) for text in piece]) for piece in pieces]
