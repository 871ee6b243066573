"""A linear support vector machine on fixed features: how a representation transfers to another classification."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfthesis.errors import UserError

#: Cost of a violated margin; Liu 2018, section 2.4.3, states none.
COST = 1.0
ITERATIONS = 10_000


@dataclasses.dataclass(frozen=True)
class LinearSVM:
    """What the machine says of the test rows.

    Attributes:
        predicted: integer `[M]`, of the labels it was trained with.
        converged: whether the solver ended before its limit of iterations.
    """

    predicted: np.ndarray
    converged: bool


def linear_svm(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, cost: float = COST, standardise: bool = True
) -> LinearSVM:
    """Fit one linear machine a class against all others, and return the class that scores best for each test row.

    Squared hinge loss with an L2 penalty (LIBLINEAR's default, by scikit-learn's `LinearSVC`); nothing is chosen on
    the test rows.

    Args:
        train: features `[N, D]`, labels: integer `[N]`, test: `[M, D]`.
        cost: C, the weight of the loss beside the penalty.
        standardise: shift each of the D elements to mean 0 and scale it to variance 1 / D over the training rows. The
            mean squared length of a row is then 1 for every kind of feature, so that one `cost` means the same to all.
            An element that never changes becomes 0.

    Raises:
        UserError: shapes do not fit, values are not finite, there are fewer than two classes, or the cost is not
            positive.

    Source: Liu 2018, section 2.4.3; cost and scaling are our choice.
    """
    # Imported here: the command line asks this module for its defaults only.
    from sklearn.svm import LinearSVC

    train, labels, test = _checked(train, labels, test)
    if not cost > 0:
        raise UserError(f"linear_svm: cost: expected more than 0, got {cost}")
    if standardise:
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        varies = deviation > 1e-6 * max(float(deviation.max()), np.finfo(np.float64).tiny)
        scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0) / np.sqrt(train.shape[1])
        train, test = (train - mean) * scale, (test - mean) * scale
    machine = LinearSVC(C=cost, dual="auto", max_iter=ITERATIONS, random_state=0).fit(train, labels)
    return LinearSVM(machine.predict(test), int(np.max(machine.n_iter_)) < ITERATIONS)


def _checked(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train, labels, test = np.asarray(train, np.float64), np.asarray(labels), np.asarray(test, np.float64)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or labels.shape != train.shape[:1]:
        shapes = [train.shape, labels.shape, test.shape]
        raise UserError(f"linear_svm: expected train [N, D], labels [N] and test [M, D], got {shapes}")
    for name, array in (("train", train), ("test", test)):
        if not len(array) or not np.isfinite(array).all():
            raise UserError(f"linear_svm: {name}: expected at least one row of finite values, got {array.shape}")
    if len(np.unique(labels)) < 2:
        raise UserError(f"linear_svm: labels: expected at least two classes, got {np.unique(labels).tolist()}")
    return train, labels, test
