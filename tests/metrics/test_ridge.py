"""Closed-form ridge: the textbook solution, and a strength chosen on validation."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from tfthesis.errors import UserError
from tfthesis.metrics.ridge import STRENGTHS, fit_ridge


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(60, 8)) + 3
    targets = inputs @ random.normal(size=(8, 3)) + random.normal(size=(60, 3)) - 5
    return inputs[:40], targets[:40], (inputs[40:], targets[40:])


@pytest.mark.parametrize("strength", [1e-3, 1.0, 50.0])
def test_equals_the_reference(problem, strength):
    inputs, targets, validation = problem
    ridge = fit_ridge(inputs, targets, validation, [strength])
    penalty = strength * np.var(inputs, axis=0).sum() * len(inputs) / inputs.shape[1]
    expected = Reference(alpha=penalty).fit(inputs, targets).predict(validation[0])
    np.testing.assert_allclose(ridge.predict(validation[0]), expected, rtol=1e-5)


def test_chooses_the_strength_with_the_best_score(problem):
    inputs, targets, validation = problem
    errors = [
        np.mean((fit_ridge(inputs, targets, validation, [s]).predict(validation[0]) - validation[1]) ** 2)
        for s in STRENGTHS
    ]
    assert fit_ridge(inputs, targets, validation).strength == STRENGTHS[int(np.argmin(errors))]
    largest = fit_ridge(inputs, targets, validation, score=lambda predicted: -float(np.var(predicted)))
    assert largest.strength == STRENGTHS[-1]


def test_fewer_rows_than_columns():
    random = np.random.default_rng(1)
    inputs, targets = random.normal(size=(5, 20)), random.normal(size=(5, 2))
    ridge = fit_ridge(inputs, targets, (inputs, targets), [1e-8])
    np.testing.assert_allclose(ridge.predict(inputs), targets, atol=1e-4)


def test_refuses_what_does_not_fit(problem):
    inputs, targets, validation = problem
    with pytest.raises(UserError, match="do not fit"):
        fit_ridge(inputs[:-1], targets, validation)
    with pytest.raises(UserError, match="not finite"):
        fit_ridge(np.full_like(inputs, np.nan), targets, validation)
    with pytest.raises(UserError, match="no strength"):
        fit_ridge(inputs, targets, validation, [])
