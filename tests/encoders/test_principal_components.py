"""Principal components against scikit-learn's, from both matrices."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tfthesis.encoders.principal_components import principal_components
from tfthesis.errors import UserError


def rows(count, width, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    scales = 0.9 ** np.arange(rank or width)
    mixed = rng.standard_normal((count, len(scales))) * scales @ rng.standard_normal((len(scales), width))
    return (mixed + rng.standard_normal(width)).astype(np.float32)


def found(x, limit, step=7):
    return principal_components((x[i : i + step] for i in range(0, len(x), step)), *x.shape, limit)


@pytest.mark.parametrize("shape", [(30, 50), (40, 40), (60, 25), (20, 1500)])
@pytest.mark.parametrize("limit", [5, 10_000])
def test_equal_to_scikit_learn(shape, limit):
    x = rows(*shape)
    ours = found(x, limit)
    theirs = PCA(min(limit, shape[0] - 1, shape[1]), svd_solver="full").fit(x.astype(np.float64))
    assert ours.components.shape == theirs.components_.T.shape and ours.components.dtype == np.float32
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-6)
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-6)
    signs = np.sign((ours.components * theirs.components_.T).sum(0))
    np.testing.assert_allclose(ours.components, theirs.components_.T * signs, atol=2e-4)
    np.testing.assert_allclose(ours.components.T @ ours.components, np.eye(ours.components.shape[1]), atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 50), (60, 25)])
def test_no_more_components_than_the_rank(shape):
    assert found(rows(*shape, rank=6), 10).components.shape == (shape[1], 6)


@pytest.mark.parametrize("shape", [(12, 20), (40, 20)])
def test_signs_and_bits_are_fixed(shape):
    x = rows(*shape)
    one, two = found(x, 8), found(x, 8)
    np.testing.assert_array_equal(one.components, two.components)
    np.testing.assert_array_equal(one.mean, two.mean)
    peaks = one.components[np.abs(one.components).argmax(0), np.arange(8)]
    assert (peaks > 0).all()
    np.testing.assert_allclose(found(x, 8, step=100).components, one.components, atol=1e-5)


@pytest.mark.parametrize("x", [np.full((5, 9), 0.1, np.float32), np.full((12, 9), 0.1, np.float32), rows(1, 9)])
def test_equal_rows_have_no_components(x):
    with pytest.raises(UserError, match="expected rows that differ"):
        found(x, 3)


def test_memory_is_that_of_one_matrix():
    """What is held beside the scatter matrix are a piece of rows and the components."""
    x = rows(1000, 800)
    tracemalloc.start()
    found(x, 20, step=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = 800 * 800 * 8
    assert matrix < peak < 1.4 * matrix
