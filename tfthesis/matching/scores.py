"""The scores that a matching model's embeddings hold, and how several become one.

The embeddings of most models hold one score, the cosine. Where the layers `image_embedding` and `text_embedding` are
`JoinedEmbeddings`, they hold one for each part: the members of an ensemble, or the visual, textual and latent spaces of
CycleMatch. The inner product averages them; adaptive fusion weighs a query's parts first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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


def split_parts(vectors: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """Return the parts `[N, D_s]` of joined vectors `[N, D]` as views; each has the length one over the root of S.

    Raises:
        UserError: the widths are not those of the vectors.
    """
    if vectors.shape[1] != sum(widths):
        raise UserError(f"joined embeddings: expected parts of {widths} components, got {vectors.shape[1]} in all")
    return [vectors[:, part] for part in part_slices(widths)]


def query_weights(queries: Sequence[np.ndarray], candidates: Sequence[np.ndarray], adaptive: bool) -> np.ndarray:
    """Return each query's weights `[Q, S]` of its S scores, with the sum 1.

    Args:
        queries: parts `[Q, D_s]`, candidates: parts `[N, D_s]`; the parts of a side have one length.
        adaptive: by the area of Eq 6.9 over all candidates; else all alike.
    """
    if not adaptive:
        return np.full((len(queries[0]), len(queries)), 1 / len(queries))
    areas = [positive_areas(query, candidate) for query, candidate in zip(queries, candidates, strict=True)]
    return adaptive_weights(np.stack(areas, axis=1))


class Comparison:
    """Images and captions of a split, ready to be compared by any `Measure`.

    Args:
        sides: joined embeddings `[N, D]` by modality.
        widths: of their parts.
    """

    def __init__(self, sides: Mapping[str, np.ndarray], widths: tuple[int, ...]):
        self.sides, self.widths = sides, widths

    @classmethod
    def of(cls, model: keras.Model, arrays: Any) -> Comparison:
        """Embed all images and captions of a split's `PairArrays`."""
        sides = {modality: embed(model, modality, getattr(arrays, modality)) for modality in MODALITIES}
        return cls(sides, part_widths(model, "image"))

    @property
    def whole(self) -> Measure:
        """The average of all parts."""
        return Measure(tuple(range(len(self.widths))))

    def candidates(self, modality: str, measure: Measure) -> np.ndarray:
        """Return the vectors `[N, D]` of one side that the measure compares; not a copy where it takes all parts."""
        if measure.parts == self.whole.parts:
            return self.sides[modality]
        parts = split_parts(self.sides[modality], self.widths)
        return np.concatenate([parts[part] for part in measure.parts], axis=1)

    def queries(self, modality: str, measure: Measure, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return vectors `[Q, D]` whose inner products with the other side's `candidates` are the fused scores.

        Source: Liu 2018, Eq 6.8 and 6.11.
        """
        parts = split_parts(self.sides[modality][rows], self.widths)
        weights = self.weights(modality, measure, rows).astype(np.float32)
        # A part has the length one over the root of the number of parts, on both sides.
        scaled = [
            parts[part] * (len(self.widths) * weight[:, None])
            for part, weight in zip(measure.parts, weights.T, strict=True)
        ]
        return np.concatenate(scaled, axis=1)

    def weights(self, modality: str, measure: Measure, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the weights `[Q, S]` that queries give the scores of the measure."""
        other = MODALITIES[1 - MODALITIES.index(modality)]
        queries = split_parts(self.sides[modality][rows], self.widths)
        candidates = split_parts(self.sides[other], self.widths)
        chosen = ([side[part] for part in measure.parts] for side in (queries, candidates))
        return query_weights(*chosen, measure.adaptive)

    def scores(self, modality: str, rows: np.ndarray, measure: Measure | None = None) -> np.ndarray:
        """Return the fused scores `[Q, N]` of some images against all captions, or of captions against all images."""
        measure = measure or self.whole
        other = MODALITIES[1 - MODALITIES.index(modality)]
        return self.queries(modality, measure, rows) @ self.candidates(other, measure).T
