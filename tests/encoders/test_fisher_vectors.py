"""Fisher vectors: the formulas against numerical derivatives, the graph against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.encoders.fisher_vectors import FisherVectors
from tfthesis.encoders.hybrid_mixture import HybridMixture

WORDS = ["a", "red", "circle", "left", "of", "square"]
TEXTS = ["A red circle, left of a square!", "red", "square of unknown things", "nothing known", "", "red red circle"]
ROWS = [[0, 1, 2, 3, 4, 0, 5], [1], [5, 4], [], [], [1, 1, 2]]


def mixture(centres=3, dimensions=4, seed=0):
    rng = np.random.default_rng(seed)
    return HybridMixture(
        weights=rng.dirichlet(np.full(centres, 5.0)),
        location=rng.standard_normal((centres, dimensions)),
        scale=rng.uniform(0.5, 2, (centres, dimensions)),
        laplacian=rng.random((centres, dimensions)) < 0.5,
    )


VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 4)).astype(np.float32)


def expected(found, x):
    """Return the Fisher vector of one text from the formulas of Klein et al."""
    parts = []
    for k, (weight, location, scale, laplacian) in enumerate(zip(*vars(found).values(), strict=True)):
        share = found.expectation(x)[0][:, k : k + 1]
        z = (x - location) / scale
        parts += [
            np.where(laplacian, np.sum(share * np.sign(z), 0), np.sum(share * z, 0)) / np.sqrt(weight),
            np.where(laplacian, np.sum(share * (abs(z) - 1), 0), np.sum(share * (z**2 - 1), 0) / 2**0.5)
            / np.sqrt(weight),
        ]
    joined = np.concatenate(parts)
    rooted = np.sign(joined) * np.sqrt(abs(joined))
    return rooted / max(np.linalg.norm(rooted), 1e-6)


def test_graph_equals_numpy():
    found = mixture()
    fisher = FisherVectors(WORDS, VECTORS, found)
    graph = tf.function(fisher, input_signature=[tf.TensorSpec([None], tf.string)])
    rows = np.array([expected(found, VECTORS[row].astype(float)) for row in ROWS])
    for call in (fisher, graph):
        np.testing.assert_allclose(call(tf.constant(TEXTS)), rows, atol=2e-6)
        assert call(tf.constant([], tf.string)).shape == (0, 24)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0, 0, 1], atol=1e-9)


def test_formulas_are_normalised_derivatives():
    """Derivatives of the log-likelihood by numbers, each over the root of its information."""
    found, x = mixture(), VECTORS[ROWS[0]].astype(float)
    by_parameter = {}
    for name in ("location", "scale"):
        by_parameter[name] = np.zeros_like(found.location)
        for place in np.ndindex(found.location.shape):
            shift = np.zeros_like(found.location)
            shift[place] = 1e-6
            sides = [dataclasses.replace(found, **{name: getattr(found, name) + s * shift}) for s in (1, -1)]
            up, down = (side.expectation(x)[1].sum() for side in sides)
            by_parameter[name][place] = (up - down) / 2e-6
    weights = found.weights[:, None]
    by_location = by_parameter["location"] / np.sqrt(weights / found.scale**2)
    by_scale = by_parameter["scale"] / np.sqrt(weights * np.where(found.laplacian, 1, 2) / found.scale**2)
    joined = np.concatenate([by_location, by_scale], 1).ravel()
    rooted = np.sign(joined) * np.sqrt(abs(joined))
    got = FisherVectors(WORDS, VECTORS, found)(tf.constant(TEXTS[:1]))[0]
    np.testing.assert_allclose(got, rooted / np.linalg.norm(rooted), atol=1e-5)


@pytest.mark.parametrize("kind", [False, True])
def test_information_is_the_expected_square_of_the_derivative(kind):
    """For one component and its own samples the normalised derivatives have mean 0 and variance 1."""
    rng = np.random.default_rng(0)
    z = (rng.laplace if kind else rng.normal)(size=200_000)
    parts = [np.sign(z), abs(z) - 1] if kind else [z, (z**2 - 1) / 2**0.5]
    for part in parts:
        assert abs(part.mean()) < 0.01 and abs(part.var() - 1) < 0.02


def test_words_at_the_median_and_layout():
    one = HybridMixture(np.ones(1), VECTORS[:1].astype(float), np.ones((1, 4)), np.ones((1, 4), bool))
    got = FisherVectors(WORDS, VECTORS, one)(tf.constant(["a"])).numpy()[0]
    # Sign 0 by the location; |0| - 1 by the scale, and unit length.
    np.testing.assert_allclose(got, [0, 0, 0, 0, -0.5, -0.5, -0.5, -0.5], atol=1e-7)


def test_size_of_the_thesis():
    vectors = np.random.default_rng(2).standard_normal((len(WORDS), 300)).astype(np.float32)
    fisher = FisherVectors(WORDS, vectors, mixture(30, 300))
    assert fisher.dimension == 18_000
    assert fisher(tf.constant(TEXTS[:2])).shape == (2, 300 * 30 * 2)
