"""Principal component analysis of many wide rows, exact and without holding a float64 copy of them.

Of N rows with D numbers the smaller symmetric matrix is decomposed: the N x N Gram matrix of the centred rows where
N <= D (the rows are then held as float32, N D numbers), else the D x D scatter matrix, into which the rows are added
piece by piece. Both are accumulated in float64 and decomposed by LAPACK, so the result is exact up to rounding and,
unlike that of a randomised method, the same every time.

Of either matrix only the lower triangle is made, in place and in Fortran's order, so that BLAS and LAPACK need no
second one beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from tfthesis.errors import UserError

# Variance below this share of the largest is rounding: its direction would be noise.
RANK_TOLERANCE = 1e-9
# Columns of the rows that are in float64 at a time.
_COLUMNS = 1024


@dataclasses.dataclass(frozen=True)
class PrincipalComponents:
    """The directions of largest variance.

    Attributes:
        mean: `[D]` float32.
        components: `[D, P]` float32, orthonormal columns, largest variance first; the entry of largest absolute value
            of each is positive.
        explained: share of the variance that they hold.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: float


def principal_components(pieces: Iterable[np.ndarray], rows: int, width: int, limit: int) -> PrincipalComponents:
    """Return the first `limit` components, or as many as the data have.

    Args:
        pieces: arrays `[n, width]` float32, in all `rows` rows; read once.
        rows: N.
        width: D.
        limit: number of components at most; N - 1, D, and the rank bound it too.

    Raises:
        UserError: all rows are alike.
    """
    decompose = _by_gram if rows <= width else _by_scatter
    mean, values, components, total = decompose(pieces, rows, width, limit)
    peaks = np.abs(components).argmax(0)
    components *= np.sign(components[peaks, np.arange(len(peaks))])
    return PrincipalComponents(mean.astype(np.float32), components, float(values.sum() / total))


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def _by_gram(pieces: Iterable[np.ndarray], rows: int, width: int, limit: int) -> Parts:
    held = np.empty((rows, width), np.float32)
    start = 0
    for piece in pieces:
        held[start : start + len(piece)] = piece
        start += len(piece)
    mean = held.mean(0, dtype=np.float64)
    gram = np.zeros((rows, rows), order="F")
    for columns in _columns(width):
        gram = _added(gram, (held[:, columns] - mean[columns]).T)
    total = float(gram.trace())
    values, vectors = _largest(gram, limit, rows * float(mean @ mean))
    vectors /= np.sqrt(values)
    components = np.empty((width, len(values)), np.float32)
    for columns in _columns(width):
        components[columns] = (held[:, columns] - mean[columns]).T @ vectors
    return mean, values, components, total


def _by_scatter(pieces: Iterable[np.ndarray], rows: int, width: int, limit: int) -> Parts:
    total, scatter = np.zeros(width), np.zeros((width, width), order="F")
    for piece in pieces:
        wide = piece.astype(np.float64)
        total += wide.sum(0)
        scatter = _added(scatter, wide)
    mean = total / rows
    scatter = _added(scatter, mean[None], -rows)
    spread = float(scatter.trace())
    values, components = _largest(scatter, limit, rows * float(mean @ mean))
    return mean, values, components.astype(np.float32), spread


def _added(matrix: np.ndarray, rows: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Add `factor * rows.T @ rows` to the lower triangle of `matrix`, in Fortran's order, in place."""
    from scipy.linalg.blas import dsyrk

    return dsyrk(factor, np.asfortranarray(rows.T), beta=1.0, c=matrix, lower=1, overwrite_c=1)


def _largest(matrix: np.ndarray, limit: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues and their vectors in columns.

    Args:
        matrix: its lower triangle, which is overwritten.
        limit: their number at most.
        offset: what the means took from the trace.
    """
    from scipy.linalg import eigh

    if not matrix.trace() > RANK_TOLERANCE * offset:
        raise UserError("principal components: expected rows that differ, got equal ones")
    size = len(matrix)
    wanted = None if limit >= size else (size - limit, size - 1)
    values, vectors = eigh(matrix, subset_by_index=wanted, overwrite_a=True, check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.count_nonzero(values > RANK_TOLERANCE * values[0])
    return values[:kept], vectors[:, :kept]


def _columns(width: int) -> Iterator[slice]:
    return (slice(start, start + _COLUMNS) for start in range(0, width, _COLUMNS))
