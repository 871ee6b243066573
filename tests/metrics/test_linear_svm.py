"""The linear SVM of the transfer experiments: its optimum, its scaling, and what it refuses."""

import numpy as np
import pytest
from scipy.optimize import minimize

from tfthesis.errors import UserError
from tfthesis.metrics.linear_svm import linear_svm


def clouds(seed=0, count=40, width=6, classes=3, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(9).normal(size=(classes, width))
    return centres[labels] + spread * rng.normal(size=(count, width)), labels


def scored(train, labels, test, cost):
    """Scores of one machine a class from a general optimiser: squared hinge, penalty on weights and offset."""
    columns = []
    for label in np.unique(labels):
        sign = np.where(labels == label, 1.0, -1.0)

        def objective(weights, sign=sign):
            margin = np.maximum(0, 1 - sign * (train @ weights[:-1] + weights[-1]))
            slope = -2 * cost * margin * sign
            return weights @ weights / 2 + cost * margin @ margin, weights + np.append(slope @ train, slope.sum())

        weights = minimize(objective, np.zeros(train.shape[1] + 1), jac=True, options={"gtol": 1e-8}).x
        columns.append(test @ weights[:-1] + weights[-1])
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("cost", [0.01, 1.0, 10.0])
def test_predictions_are_those_of_the_optimum(cost):
    train, labels = clouds(spread=1.5)
    test, _ = clouds(1, count=200, spread=1.5)
    found = linear_svm(train, labels, test, cost=cost, standardise=False)
    scores = scored(train, labels, test, cost)
    clear = np.diff(np.sort(scores, axis=1)[:, -2:], axis=1)[:, 0] > 0.02
    assert found.converged and clear.mean() > 0.8
    np.testing.assert_array_equal(found.predicted[clear], scores.argmax(axis=1)[clear])


def test_standardised_elements_have_one_variance_over_the_training_rows():
    """The same predictions come from rows that were scaled by hand."""
    train, labels = clouds(spread=2.0)
    test, _ = clouds(1, count=100, spread=2.0)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    by_hand = [(rows - mean) / deviation / np.sqrt(train.shape[1]) for rows in (train, test)]
    np.testing.assert_allclose((by_hand[0] ** 2).sum(axis=1).mean(), 1)
    scale, offset = 10.0 ** np.arange(-3, 3), np.arange(6.0)
    found = linear_svm(train * scale + offset, labels, test * scale + offset)
    plain = linear_svm(by_hand[0], labels, by_hand[1], standardise=False)
    np.testing.assert_array_equal(found.predicted, plain.predicted)
    assert (found.predicted != linear_svm(train * scale, labels, test * scale, standardise=False).predicted).any()


def test_an_element_that_never_changes_in_training_says_nothing():
    train, labels = clouds(spread=0.3)
    test, true = clouds(1, spread=0.3)
    constant = np.hstack([train, np.full((len(train), 1), 3.0)])
    wild = np.hstack([test, np.linspace(-1e6, 1e6, len(test))[:, None]])
    assert (linear_svm(constant, labels, wild).predicted == true).mean() > 0.9


def test_labels_without_a_training_row_are_never_predicted():
    train, labels = clouds()
    assert set(linear_svm(train[labels > 0], labels[labels > 0], train).predicted.tolist()) == {1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": np.zeros((2, 5))}, r"test \[M, D\], got"),
        ({"labels": np.zeros(3, int)}, r"labels \[N\]"),
        ({"labels": np.zeros(40, int)}, "at least two classes"),
        ({"test": np.zeros((0, 6))}, "test: expected at least one row"),
        ({"train": np.full((40, 6), np.inf)}, "train: expected at least one row of finite"),
        ({"cost": 0.0}, "cost: expected more than 0"),
    ],
)
def test_mistakes_are_named(change, message):
    train, labels = clouds()
    arguments = {"train": train, "labels": labels, "test": train, **change}
    with pytest.raises(UserError, match=message):
        linear_svm(arguments.pop("train"), arguments.pop("labels"), arguments.pop("test"), **arguments)
