"""Shorter features by principal component analysis (Liu 2018, section 4.4.2, Table 4.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfthesis.errors import UserError
from tfthesis.inverted_index.checks import as_float32
from tfthesis.inverted_index.files import load_arrays, save_arrays


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors `[..., D]` scaled to length one as float32; zero vectors stay zero.

    Source: Liu 2018, section 4.2.2, "L2 normalization is used to normalize the features".
    """
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


@dataclasses.dataclass(frozen=True)
class Projection:
    """Features seen along the directions of their largest variance.

    Attributes:
        mean: `[D]` float32.
        components: `[D, M]` float32, orthonormal columns, largest variance first.
        explained: share of the variance that they hold.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: float

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors `[..., D]` as float32 `[..., M]`, not scaled to length one.

        Raises:
            UserError: they have another width, or are no finite numbers.
        """
        vectors = as_float32(vectors, "features")
        if vectors.shape[-1:] != self.mean.shape:
            raise UserError(f"features: expected width {len(self.mean)}, got shape {list(vectors.shape)}")
        return (vectors - self.mean) @ self.components

    def save(self, path: str | Path) -> None:
        """Write the projection to a file, whole or not at all; a `UserError` says that the disk is full."""
        save_arrays(Path(path), {**dataclasses.asdict(self), "explained": np.float64(self.explained)})

    @classmethod
    def load(cls, path: str | Path) -> Projection:
        """Return the projection of a file of `save`; a `UserError` says that it is damaged or none."""
        arrays = load_arrays(Path(path), tuple(field.name for field in dataclasses.fields(cls)))
        return cls(arrays["mean"], arrays["components"], float(arrays["explained"]))


def fit_projection(pieces: Iterable[np.ndarray], width: int) -> Projection:
    """Return the projection to `width` numbers, fitted to features that are read once and piece by piece.

    Args:
        pieces: arrays `[n, D]` of any lengths.
        width: M, the numbers that are kept.

    Raises:
        UserError: `width` is not positive or above D, there are fewer features than that, or their widths differ.
    """
    from sklearn.decomposition import IncrementalPCA

    if width < 1:
        raise UserError(f"width of the projection: expected a positive number, got {width}")
    model = IncrementalPCA(width)
    for batch in _batches(pieces, width):
        if batch.shape[1] < width:
            raise UserError(
                f"width of the projection: expected at most the {batch.shape[1]} of the features, got {width}"
            )
        model.partial_fit(batch)
    components = np.ascontiguousarray(model.components_.T, np.float32)
    return Projection(model.mean_.astype(np.float32), components, float(model.explained_variance_ratio_.sum()))


def _batches(pieces: Iterable[np.ndarray], least: int) -> Iterable[np.ndarray]:
    """Join pieces to batches of at least `least` rows, which each step of the fit needs; the last takes the rest.

    Raises:
        UserError: all pieces together have fewer rows, or they do not fit together.
    """
    held: list[np.ndarray] = []
    ready: np.ndarray | None = None
    width: int | None = None
    for piece in pieces:
        piece = as_float32(piece, "features")
        if piece.ndim != 2 or piece.shape[1] != (width or piece.shape[1]):
            raise UserError(f"features: expected pieces [n, width] of one width, got one of shape {list(piece.shape)}")
        width = piece.shape[1]
        held.append(piece)
        if sum(map(len, held)) >= 2 * least:
            if ready is not None:
                yield ready
            ready, held = np.concatenate(held), []
    rest = [part for part in ([] if ready is None else [ready]) + held if len(part)]
    count = sum(map(len, rest))
    if count < least:
        raise UserError(
            f"projection to {least} numbers: expected at least as many features to fit it to, got {count}; take a "
            "smaller width or more images"
        )
    yield np.concatenate(rest)
