"""The hybrid Gaussian-Laplacian mixture model (HGLMM) and its fit by expectation maximisation.

Klein, Lev, Sadeh and Wolf, "Associating Neural Word Embeddings with Deep Image Representations using Fisher Vectors",
CVPR 2015 (first published as arXiv 1411.7399). A component of weight pi_k has independent dimensions. Each is

    Gaussian:   log f(x) = -1/2 log(2 pi) - log sigma - (x - mu)^2 / (2 sigma^2)
    Laplacian:  log f(x) = -log(2 s) - |x - m| / s

The paper starts from the weighted geometric mean Gaussian^(1-b) Laplacian^b of every dimension and finds that the
M-step sets each b to 0 or 1, so a dimension of a component is the one or the other, and may change in every step.

With responsibilities T_ik and counts c_i, let w_i = c_i T_ik and W = sum_i w_i. The part of the expected
log-likelihood that concerns dimension d of component k is sum_i w_i log f(x_i), and its maxima are

    Gaussian:   mu = weighted mean,    sigma^2 = sum_i w_i (x_i - mu)^2 / W;  value -W (log sigma + 1/2 log(2 pi) + 1/2)
    Laplacian:  m  = weighted median,  s       = sum_i w_i |x_i - m| / W;     value -W (log(2 s) + 1)

of which the larger is taken. A floor under the variance (sigma^2, and 2 s^2 of a Laplacian) is a constraint under
which each value has one maximum, at the larger of floor and estimate; hence no step lowers the likelihood.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from tfthesis.errors import UserError, closest

KINDS = ("hybrid", "gaussian", "laplacian")
# Share of a dimension's variance over all words: a component of a single frequent word keeps a width.
VARIANCE_FLOOR = 1e-3
# Numbers in a temporary array: 32 MB of float64.
_BLOCK = 1 << 22
_LOG_TWO_PI = math.log(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class HybridMixture:
    """A mixture of K components in D dimensions.

    Attributes:
        weights: `[K]`, positive, of sum one.
        location: `[K, D]`, the means of Gaussians and medians of Laplacians.
        scale: `[K, D]`, sigma of Gaussians and s of Laplacians.
        laplacian: `[K, D]` bool, which dimensions are Laplacian.
    """

    weights: np.ndarray
    location: np.ndarray
    scale: np.ndarray
    laplacian: np.ndarray

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """Return log(pi_k f_k(x_i)) `[N, K]` of points `[N, D]`."""
        log_height = np.where(self.laplacian, np.log(2 * self.scale), np.log(self.scale) + _LOG_TWO_PI / 2).sum(1)
        linear = np.where(self.laplacian, 1 / self.scale, 0)
        square = np.where(self.laplacian, 0, 0.5 / self.scale**2)
        found = np.empty((len(x), len(self.weights)))
        for rows in _blocks(len(x), x.shape[1]):
            for k, centre in enumerate(self.location):
                distance = np.abs(x[rows] - centre)
                found[rows, k] = -(distance @ linear[k]) - np.square(distance, out=distance) @ square[k]
        return found + (np.log(self.weights) - log_height)

    def expectation(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the responsibilities T `[N, K]` and the log-likelihood `[N]` of each point."""
        joint = self.log_joint(x)
        largest = joint.max(1, keepdims=True)
        shares = np.exp(joint - largest)
        sums = shares.sum(1, keepdims=True)
        return shares / sums, (largest + np.log(sums))[:, 0]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted mixture.

    Attributes:
        mixture: the parameters after the last step.
        log_likelihood: mean log-likelihood of a point after the start and after each step.
        converged: whether the last step gained less than the tolerance.
    """

    mixture: HybridMixture
    log_likelihood: tuple[float, ...]
    converged: bool


def fit_mixture(
    x: np.ndarray,
    counts: np.ndarray,
    centres: int,
    *,
    kinds: str = "hybrid",
    seed: int = 0,
    max_iterations: int = 200,
    tolerance: float = 1e-3,
    variance_floor: float = VARIANCE_FLOOR,
) -> Fitted:
    """Fit a mixture to weighted points, from the clusters of k-means++ and Lloyd's algorithm.

    Args:
        x: points `[N, D]`, distinct.
        counts: `[N]`, how often each occurs.
        centres: K.
        kinds: "hybrid" chooses for each dimension of each component; "gaussian" and "laplacian" are the mixtures of
            one kind that the paper compares with.
        seed: of k-means++.
        max_iterations: at most so many steps.
        tolerance: smallest gain in mean log-likelihood of a point that goes on.
        variance_floor: as a share of the variance of the dimension over all points.

    Raises:
        UserError: unknown kind, or fewer points than centres.
    """
    if kinds not in KINDS:
        raise closest(kinds, KINDS, "kinds of components")
    if not 1 <= centres <= len(x):
        raise UserError(f"centres: expected 1 to {len(x)}, which is the number of different words, got {centres}")
    if max_iterations < 1:
        raise UserError(f"max_iterations: expected at least 1, got {max_iterations}")
    step = Maximisation(x, counts, kinds, variance_floor)
    return expectation_maximisation(step, step(_clusters(x, counts, centres, seed)), max_iterations, tolerance)


def expectation_maximisation(step: Maximisation, start: HybridMixture, max_iterations: int, tolerance: float) -> Fitted:
    """Improve a mixture until a step gains less than `tolerance`."""
    mixture, history = start, []
    while True:
        shares, log_likelihood = mixture.expectation(step.x)
        history.append(float(np.average(log_likelihood, weights=step.counts)))
        converged = len(history) > 1 and history[-1] - history[-2] < tolerance
        if converged or len(history) > max_iterations:
            return Fitted(mixture, tuple(history), converged)
        mixture = step(shares)


def _clusters(x: np.ndarray, counts: np.ndarray, centres: int, seed: int) -> np.ndarray:
    """Return the cluster of each point as responsibilities `[N, K]` of zeros and ones.

    Only labels are taken from scikit-learn: its centres are sums in the order in which threads end.
    """
    from sklearn.cluster import KMeans

    labels = KMeans(centres, n_init=1, random_state=seed).fit(x, sample_weight=counts).labels_
    return np.eye(centres)[labels]


class Maximisation:
    """The M-step for points `[N, D]` with counts `[N]`; what does not change between steps is made once."""

    def __init__(self, x: np.ndarray, counts: np.ndarray, kinds: str, variance_floor: float):
        self.x = np.asarray(x, np.float64)
        self.counts = np.asarray(counts, np.float64)
        self.kinds = kinds
        self._columns = np.ascontiguousarray(self.x.T)
        self._order = np.argsort(self._columns, axis=1, kind="stable")
        mean = np.average(self.x, axis=0, weights=self.counts)
        variance = np.average((self.x - mean) ** 2, axis=0, weights=self.counts)
        # A dimension that is constant over all points has no variance to take a share of.
        self._floor = np.maximum(variance_floor * variance, np.finfo(float).tiny ** 0.5)

    def __call__(self, shares: np.ndarray) -> HybridMixture:
        """Return the mixture of largest expected log-likelihood for responsibilities `[N, K]`."""
        # Like scikit-learn: a component that lost all its points keeps a trace of weight.
        weights = shares * self.counts[:, None] + 10 * np.finfo(float).eps / len(self.x)
        total = weights.sum(0)
        shape = (len(total), len(self._columns))
        location, scale, laplacian = np.empty(shape), np.empty(shape), np.empty(shape, bool)
        for k in range(len(total)):
            for columns in _blocks(shape[1], len(self.x)):
                found = self._component(columns, weights[:, k] / total[k])
                location[k, columns], scale[k, columns], laplacian[k, columns] = found
        return HybridMixture(total / total.sum(), location, scale, laplacian)

    def _component(self, columns: slice, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return location, scale and kind of some dimensions of a component; the weights `[N]` have sum one."""
        x, order, floor = self._columns[columns], self._order[columns], self._floor[columns]
        mean = x @ weights
        variance = np.square(x - mean[:, None]) @ weights
        sigma = np.sqrt(np.maximum(variance, floor))
        if self.kinds == "gaussian":
            return mean, sigma, np.zeros(len(x), bool)
        below = np.cumsum(weights[order], axis=1) < 0.5
        # Rounding may leave the last sum below one half of a single point's weight.
        median_rank = np.minimum(below.sum(1), x.shape[1] - 1)
        rows = np.arange(len(x))
        median = x[rows, order[rows, median_rank]]
        deviation = np.abs(x - median[:, None]) @ weights
        s = np.maximum(deviation, np.sqrt(floor / 2))
        if self.kinds == "laplacian":
            return median, s, np.ones(len(x), bool)
        of_gaussian = -np.log(sigma) - _LOG_TWO_PI / 2 - variance / (2 * sigma**2)
        of_laplacian = -np.log(2 * s) - deviation / s
        laplacian = of_laplacian > of_gaussian
        return np.where(laplacian, median, mean), np.where(laplacian, s, sigma), laplacian


def _blocks(length: int, width: int) -> Iterator[slice]:
    """Yield slices of `range(length)` such that slices of an array `[length, width]` stay small."""
    step = max(1, _BLOCK // width)
    return (slice(start, start + step) for start in range(0, length, step))
