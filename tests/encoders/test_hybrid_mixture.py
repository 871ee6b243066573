"""The mixture against scikit-learn's and against its own formulas: likelihood, choice of kinds, weights, floor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from tfthesis.encoders import hybrid_mixture
from tfthesis.encoders.hybrid_mixture import (
    KINDS,
    HybridMixture,
    Maximisation,
    expectation_maximisation,
    fit_mixture,
)
from tfthesis.errors import UserError

HYBRID = HybridMixture(
    weights=np.array([0.3, 0.7]),
    location=np.array([[0.0, 4.0, -1.0], [3.0, 0.0, 1.0]]),
    scale=np.array([[1.0, 0.5, 0.7], [0.8, 1.2, 0.4]]),
    laplacian=np.array([[False, True, True], [True, False, True]]),
)


def draw(mixture, count, seed=0):
    """Return points drawn from a mixture."""
    rng = np.random.default_rng(seed)
    component = rng.choice(len(mixture.weights), size=count, p=mixture.weights)
    z = np.where(mixture.laplacian[component], rng.laplace(size=(count, 3)), rng.standard_normal((count, 3)))
    return mixture.location[component] + mixture.scale[component] * z


def clustered(count=300, dimensions=5, seed=0):
    """Return points of four clusters, and how often each occurs."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((4, dimensions))
    noise = rng.laplace(size=(count, dimensions)) * rng.uniform(0.2, 1.0, (1, dimensions))
    return centres[rng.integers(4, size=count)] + noise, rng.integers(1, 6, size=count)


def test_gaussian_mixture_equals_scikit_learn():
    x, counts = clustered()
    step = Maximisation(x, counts, "gaussian", variance_floor=1e-9)
    start = step(np.eye(4)[np.arange(len(x)) % 4])
    ours = expectation_maximisation(step, start, max_iterations=2000, tolerance=1e-12)
    repeated = np.repeat(x, counts, axis=0)
    theirs = GaussianMixture(
        4,
        covariance_type="diag",
        reg_covar=0,
        tol=1e-12,
        max_iter=2000,
        weights_init=start.weights,
        means_init=start.location,
        precisions_init=1 / start.scale**2,
    ).fit(repeated)
    assert ours.converged and theirs.converged_
    assert ours.log_likelihood[-1] == pytest.approx(theirs.score(repeated), abs=1e-6)
    np.testing.assert_allclose(ours.mixture.weights, theirs.weights_, atol=1e-4)
    np.testing.assert_allclose(ours.mixture.location, theirs.means_, atol=1e-4)
    np.testing.assert_allclose(ours.mixture.scale**2, theirs.covariances_, atol=1e-4)
    shares, _ = ours.mixture.expectation(x)
    np.testing.assert_allclose(shares, theirs.predict_proba(x), atol=1e-4)


def test_log_likelihood_is_that_of_the_distributions():
    x = draw(HYBRID, 20)
    densities = [
        weight
        * np.prod(
            [
                (stats.laplace if laplacian else stats.norm).pdf(column, location, scale)
                for column, location, scale, laplacian in zip(x.T, *parameters, strict=True)
            ],
            axis=0,
        )
        for weight, *parameters in zip(*vars(HYBRID).values(), strict=True)
    ]
    shares, log_likelihood = HYBRID.expectation(x)
    np.testing.assert_allclose(log_likelihood, np.log(np.sum(densities, 0)), rtol=1e-10)
    np.testing.assert_allclose(shares, (densities / np.sum(densities, 0)).T, rtol=1e-8)


def test_maximisation_of_one_component():
    x, counts = clustered(40)
    repeated = np.repeat(x, counts, axis=0)
    everything = np.ones((40, 1))
    gaussian = Maximisation(x, counts, "gaussian", 1e-6)(everything)
    np.testing.assert_allclose(gaussian.location[0], repeated.mean(0), atol=1e-12)
    np.testing.assert_allclose(gaussian.scale[0], repeated.std(0), atol=1e-12)
    laplacian = Maximisation(x, counts, "laplacian", 1e-6)(everything)
    lower = np.sort(repeated, axis=0)[(len(repeated) - 1) // 2]
    np.testing.assert_array_equal(laplacian.location[0], lower)
    np.testing.assert_allclose(laplacian.scale[0], np.abs(repeated - lower).mean(0), atol=1e-12)
    hybrid = Maximisation(x, counts, "hybrid", 1e-6)(everything)
    better = stats.laplace.logpdf(repeated, lower, laplacian.scale[0]).sum(0) > stats.norm.logpdf(
        repeated, gaussian.location[0], gaussian.scale[0]
    ).sum(0)
    np.testing.assert_array_equal(hybrid.laplacian[0], better)
    np.testing.assert_array_equal(hybrid.location[0], np.where(better, laplacian.location, gaussian.location)[0])


def test_kinds_and_parameters_are_found_again():
    x = draw(HYBRID, 6000)
    found = fit_mixture(x, np.ones(len(x)), 2, tolerance=1e-8).mixture
    order = np.argsort(found.weights)
    np.testing.assert_array_equal(found.laplacian[order], HYBRID.laplacian)
    for name, value in vars(HYBRID).items():
        np.testing.assert_allclose(getattr(found, name)[order], value, atol=0.08)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("floor", [1e-6, 0.2])
def test_log_likelihood_never_falls(kinds, floor):
    for seed in range(4):
        x, counts = clustered(120, seed=seed)
        # A frequent word of its own, whose component meets the floor.
        counts[0] = 5000
        step = Maximisation(x, counts, kinds, floor)
        start = step(np.eye(6)[np.arange(len(x)) % 6])
        fitted = expectation_maximisation(step, start, max_iterations=40, tolerance=-1)
        assert len(fitted.log_likelihood) == 41 and not fitted.converged
        assert np.diff(fitted.log_likelihood).min() > -1e-10
        assert fitted.log_likelihood[-1] > fitted.log_likelihood[0] + 0.1


def test_kinds_order_the_likelihood():
    """From one start and in one step, the choice is at least as likely as either kind."""
    x, counts = clustered()
    shares = np.eye(4)[np.arange(len(x)) % 4]

    def expected(kinds):
        mixture = Maximisation(x, counts, kinds, 1e-6)(shares)
        return float((counts[:, None] * shares * mixture.log_joint(x)).sum())

    assert expected("hybrid") >= max(expected("gaussian"), expected("laplacian"))
    assert fit_mixture(x, counts, 4, kinds="laplacian").mixture.laplacian.all()
    assert not fit_mixture(x, counts, 4, kinds="gaussian").mixture.laplacian.any()


def test_floor_under_the_variance():
    x, counts = clustered(60)
    x = np.concatenate([x, np.ones((60, 1))], 1)
    counts[7] = 10_000
    mixture = fit_mixture(x, counts, 3, variance_floor=0.01).mixture
    variance = np.average((x - np.average(x, axis=0, weights=counts)) ** 2, axis=0, weights=counts)
    assert (np.where(mixture.laplacian, 2, 1) * mixture.scale**2 >= 0.01 * variance * (1 - 1e-12)).all()
    assert (mixture.scale > 0).all() and np.isfinite(mixture.expectation(x)[1]).all()


def test_a_component_without_points_stays_finite():
    x, counts = clustered(50)
    shares = np.concatenate([np.ones((50, 1)), np.zeros((50, 1))], 1)
    for kinds in KINDS:
        mixture = Maximisation(x, counts, kinds, 1e-3)(shares)
        assert (mixture.weights > 0).all() and mixture.weights[0] == pytest.approx(1)
        assert all(np.isfinite(array).all() for array in (*vars(mixture).values(), *mixture.expectation(x)))


def test_blocks_and_repetition_change_nothing(monkeypatch):
    x, counts = clustered(80)
    whole = fit_mixture(x, counts, 4)
    again = fit_mixture(x, counts, 4)
    for name, array in vars(whole.mixture).items():
        np.testing.assert_array_equal(getattr(again.mixture, name), array)
    assert again.log_likelihood == whole.log_likelihood
    monkeypatch.setattr(hybrid_mixture, "_BLOCK", 100)
    parts = fit_mixture(x, counts, 4)
    for name, array in vars(whole.mixture).items():
        np.testing.assert_allclose(getattr(parts.mixture, name), array, rtol=1e-9)


def test_bad_arguments():
    x, counts = clustered(5)
    with pytest.raises(UserError, match="unknown kinds of components 'gauss'. Did you mean 'gaussian'"):
        fit_mixture(x, counts, 2, kinds="gauss")
    for centres in (0, 6):
        with pytest.raises(UserError, match=f"centres: expected 1 to 5, .* got {centres}"):
            fit_mixture(x, counts, centres)
    with pytest.raises(UserError, match="max_iterations: expected at least 1, got 0"):
        fit_mixture(x, counts, 2, max_iterations=0)
