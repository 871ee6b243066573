"""The scores that a matching model's embeddings hold, and how several become one.

The embeddings of most models hold one score, the cosine. Where the layers `image_embedding` and `text_embedding` are
`JoinedEmbeddings`, they hold one for each part: the members of an ensemble, or the visual, textual and latent spaces of
CycleMatch. The inner product averages them; adaptive fusion weighs a query's parts first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfthesis import layers
from tfthesis.errors import UserError
from tfthesis.matching.embedding import MODALITIES, embed
from tfthesis.metrics.adaptive_fusion import adaptive_weights, positive_areas


@dataclasses.dataclass(frozen=True)
class Measure:
    """A way to compare: which parts, and whether their weights adapt to the query.

    Attributes:
        parts: numbers of the parts, in the order in which the model joins them.
        adaptive: weigh by Eq 6.10 instead of alike.
    """

    parts: tuple[int, ...] = (0,)
    adaptive: bool = False


def part_widths(model: keras.Model, modality: str) -> tuple[int, ...]:
    """Return the widths of the parts of an embedding; one width for an embedding of one part."""
    layer = model.get_layer(f"{modality}_embedding")
    return layer.widths if isinstance(layer, layers.JoinedEmbeddings) else (layer.output.shape[-1],)


def part_slices(widths: tuple[int, ...]) -> list[slice]:
    """Return where each part lies in the joined vector."""
    ends = np.cumsum(widths).tolist()
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]


def unit_parts(vectors: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """Return the L2-normalised parts of joined vectors `[N, D]`."""
    if vectors.shape[1] != sum(widths):
        raise UserError(f"joined embeddings: expected {widths} components, got {vectors.shape[1]}")
    scale = np.float32(len(widths) ** 0.5)
    return [vectors[:, part] * scale for part in part_slices(widths)]


def query_weights(queries: list[np.ndarray], candidates: list[np.ndarray], adaptive: bool) -> np.ndarray:
    """Return each query's weights `[Q, S]` of its S scores, with the sum 1.

    Args:
        queries: parts `[Q, D_s]`, candidates: parts `[N, D_s]`; all L2-normalised.
        adaptive: by the area of Eq 6.9 over all candidates; else all alike.
    """
    if not adaptive:
        return np.full((len(queries[0]), len(queries)), 1 / len(queries))
    areas = [positive_areas(query, candidate) for query, candidate in zip(queries, candidates, strict=True)]
    return adaptive_weights(np.stack(areas, axis=1))


def fused_queries(queries: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return `[Q, D]` whose inner products with joined unit parts are the fused scores (Eq 6.8, 6.11)."""
    columns = weights.astype(np.float32).T[:, :, None]
    return np.concatenate([weight * query for weight, query in zip(columns, queries, strict=True)], axis=1)


def embedded_parts(model: keras.Model, arrays: Any, modality: str) -> list[np.ndarray]:
    """Return the L2-normalised parts `[N, D_s]` of all images, or all captions, of a split."""
    vectors = embed(model, modality, getattr(arrays, modality))
    return unit_parts(vectors, part_widths(model, modality))


def query_scores(
    model: keras.Model, arrays: Any, modality: str, rows: np.ndarray, measure: Measure | None = None
) -> np.ndarray:
    """Return the scores `[Q, N]` of some images against all captions of a split, or of captions against all images.

    Args:
        model: a matching model.
        arrays: the split's `PairArrays`.
        modality: of the queries.
        rows: which of the split's images or captions ask.
        measure: how they are compared; None averages all parts.
    """
    other = MODALITIES[1 - MODALITIES.index(modality)]
    queries = [part[rows] for part in embedded_parts(model, arrays, modality)]
    candidates = embedded_parts(model, arrays, other)
    measure = measure or Measure(tuple(range(len(queries))))
    queries, candidates = ([side[part] for part in measure.parts] for side in (queries, candidates))
    weights = query_weights(queries, candidates, measure.adaptive)
    return fused_queries(queries, weights) @ np.concatenate(candidates, axis=1).T
