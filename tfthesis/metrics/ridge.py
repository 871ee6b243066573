"""Ridge regression in closed form: the baseline that every matching network should pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfthesis.errors import UserError

STRENGTHS = tuple(10.0**power for power in np.arange(-4, 3.5, 0.5))


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A linear map with offset.

    Attributes:
        weights: `[D, E]`.
        input_mean, target_mean: `[D]` and `[E]`, of the training rows.
        strength: the penalty on squared weights, in shares of the mean squared length of the centred inputs' axes.
    """

    weights: np.ndarray
    input_mean: np.ndarray
    target_mean: np.ndarray
    strength: float

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Map `[N, D]` to `[N, E]` float32."""
        return ((inputs - self.input_mean) @ self.weights + self.target_mean).astype(np.float32)


def fit_ridge(
    inputs: np.ndarray,
    targets: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
    score: Callable[[np.ndarray], float] | None = None,
) -> Ridge:
    """Return the map that minimises `|targets - f(inputs)|^2 + penalty |weights|^2`, its penalty chosen on validation.

    The normal equations are solved once, by eigenvalues, for all strengths; float64 throughout.

    Args:
        inputs: `[N, D]` training rows, targets: `[N, E]`.
        validation: inputs and targets of the rows that choose the strength.
        strengths: candidates; 1 is a penalty as large as the mean eigenvalue of the inputs' scatter.
        score: of the predictions for the validation inputs, larger is better; None takes the negative squared
            error.

    Raises:
        UserError: shapes do not fit, values are not finite, or there is no strength.
    """
    x, y = _checked("inputs", inputs), _checked("targets", targets)
    x_val, y_val = _checked("validation inputs", validation[0]), _checked("validation targets", validation[1])
    if len(x) != len(y) or len(x_val) != len(y_val) or x.shape[1] != x_val.shape[1] or y.shape[1] != y_val.shape[1]:
        shapes = [array.shape for array in (x, y, x_val, y_val)]
        raise UserError(f"fit_ridge: inputs, targets and validation do not fit: {shapes}")
    if not len(strengths):
        raise UserError("fit_ridge: no strength to choose from")
    judge = score or (lambda predicted: -float(np.mean((predicted - y_val) ** 2)))
    x_mean, y_mean = x.mean(0), y.mean(0)
    values, vectors = np.linalg.eigh((x - x_mean).T @ (x - x_mean))
    projected = vectors.T @ ((x - x_mean).T @ (y - y_mean))
    # A penalty of zero would divide by the zero eigenvalues of inputs with fewer rows than columns.
    scale = max(float(values.mean()), np.finfo(np.float64).tiny)
    maps = (
        Ridge(vectors @ (projected / (np.maximum(values, 0) + s * scale)[:, None]), x_mean, y_mean, float(s))
        for s in strengths
    )
    return max(maps, key=lambda candidate: judge(candidate.predict(x_val)))


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or not len(array):
        raise UserError(f"fit_ridge: {name}: expected [N, D] with at least one row, got {array.shape}")
    if not np.isfinite(array).all():
        raise UserError(f"fit_ridge: {name} holds values that are not finite")
    return array
