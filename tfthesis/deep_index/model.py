"""The fitted part of DeepIndex as a Keras model: features of patches to prepared features, and the words."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from tfthesis.inverted_index.codebook import Codebook, fit_codebook
from tfthesis.inverted_index.projection import fit_projection, unit
from tfthesis.method import Spec

# Prepared features that k-means sees at most, beside several of each word: 100,000 of 512 numbers are 195 MiB.
_MOST_FEATURES = 100_000
_FEATURES_A_WORD = 40


@keras.saving.register_keras_serializable("deep_index")
class VisualWords(keras.layers.Layer):
    """Prepares the features of one axis and holds its codebook: `[B, P, D] -> [B, P, M]`, no gradient moves it.

    Features are scaled to length one, projected to M numbers where `width` is not 0, and scaled again.

    Source: Liu 2018, section 4.2.2 (L2), Table 4.2 (PCA).
    """

    def __init__(self, words: int, width: int = 0, **kwargs):
        """Make the layer.

        Args:
            words: K, of the codebook.
            width: M, numbers after the projection; 0 projects nothing.
        """
        super().__init__(**kwargs)
        self.words, self.width = words, width

    def build(self, shape):
        size = shape[-1]
        if self.width:
            self.mean = self.add_weight(shape=(size,), initializer="zeros", trainable=False, name="mean")
            self.components = self.add_weight(
                shape=(size, self.width), initializer="zeros", trainable=False, name="components"
            )
        self.codebook = self.add_weight(
            shape=(self.words, self.width or size), initializer="zeros", trainable=False, name="codebook"
        )

    def call(self, features):
        features = keras.ops.normalize(features, axis=-1, epsilon=1e-12)
        if self.width:
            features = keras.ops.normalize((features - self.mean) @ self.components, axis=-1, epsilon=1e-12)
        return features

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.width or shape[-1])

    def get_config(self):
        return {**super().get_config(), "words": self.words, "width": self.width}


def build_words(spec: Spec, width: int) -> keras.Model:
    """Return the model: inputs and outputs "axis_0", "axis_1" ..., one `VisualWords` of the same name for each."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in spec.inputs.items()}
    outputs = {
        name: VisualWords(spec.extra["words"], width, name=f"words_{name}", dtype="float32")(features)
        for name, features in inputs.items()
    }
    return keras.Model(inputs, outputs, name="deep_index")


def layers(model: keras.Model) -> list[VisualWords]:
    """Return the layer of each axis, in order."""
    return [layer for layer in model.layers if isinstance(layer, VisualWords)]


def codebooks(model: keras.Model) -> list[Codebook]:
    """Return the codebook of each axis."""
    return [Codebook(np.asarray(layer.codebook)) for layer in layers(model)]


def prepared(model: keras.Model, features: list[np.ndarray]) -> list[np.ndarray]:
    """Return the features `[n, P, D]` of each axis as the model prepares them, `[n, P, M]` float32."""
    return [np.asarray(layer(part)) for layer, part in zip(layers(model), features, strict=True)]


def fit_projections(model: keras.Model, pieces: Callable[[int], object]) -> dict[str, np.ndarray]:
    """Fit the projection of each axis by principal components, and return what was fitted.

    Args:
        pieces: returns an iterable of features `[n, D]` of an axis, given by its number.
    """
    arrays = {}
    for axis, layer in enumerate(layers(model)):
        fitted = fit_projection((unit(piece) for piece in pieces(axis)), layer.width)
        layer.mean.assign(fitted.mean)
        layer.components.assign(fitted.components)
        arrays |= {f"mean_{axis}": fitted.mean, f"components_{axis}": fitted.components}
        arrays[f"explained_{axis}"] = np.float64(fitted.explained)
    return arrays


def fit_codebooks(
    model: keras.Model, pieces: Callable[[int], object], rows: int, iterations: int
) -> dict[str, np.ndarray]:
    """Fit the codebook of each axis by k-means, from numpy's global seed, and return what was fitted.

    Of very many patches as many are drawn by lot as k-means needs.

    Args:
        pieces: as of `fit_projections`.
        rows: patches that they hold.
        iterations: passes of k-means at most.
    """
    arrays = {}
    for axis, layer in enumerate(layers(model)):
        seed = int(np.random.randint(2**31))
        wanted = max(_MOST_FEATURES, _FEATURES_A_WORD * layer.words)
        drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:wanted])
        found, start = [], 0
        for piece in pieces(axis):
            own = drawn[(drawn >= start) & (drawn < start + len(piece))] - start
            start += len(piece)
            found.append(np.asarray(layer(piece[own][None]))[0])
        fitted = fit_codebook(np.concatenate(found), layer.words, seed=seed, iterations=iterations)
        layer.codebook.assign(fitted.words)
        arrays[f"codebook_{axis}"] = fitted.words
    return arrays
