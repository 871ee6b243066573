"""Nearest neighbours by inner product, as graph code that an export can hold.

`build_neighbours` is the way in: it checks a gallery and returns the search of the wished kind.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError, closest
from tfthesis.method import Gallery

KINDS = ("exact", "scann")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Why a gallery is searched the way it is, with what was measured for it (JSON values)."""

    reason: str
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Neighbours(tf.Module):
    """A searchable gallery of `size` vectors of width `dimension`.

    Names and payloads are string variables rather than constants, so that large galleries stay below the
    2 GB limit of a graph and are restored by a TensorFlow 1 Session, as TensorFlow Serving does it.

    Attributes:
        kind: "exact" or "scann".
        choice: why `build_neighbours` chose this kind.
    """

    kind: str

    def __init__(self, gallery: Gallery):
        super().__init__()
        vectors = check_gallery(gallery)
        self.size, self.dimension = vectors.shape
        self.choice = Choice("asked for")
        self._ids = tf.Variable([name.encode() for name in gallery.ids], trainable=False)
        self._payload = tf.Variable([text.encode() for text in gallery.payload], trainable=False)

    def rows(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return gallery rows, int32 `[B, k]`, and their inner products with `queries`, float32 `[B, k]`."""
        raise NotImplementedError

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the vectors `[..., D]` of gallery rows `[...]`."""
        raise NotImplementedError

    def search(self, queries: tf.Tensor, k: int) -> dict[str, tf.Tensor]:
        """Return the `k` items with the largest inner product, best first, equal scores by gallery row.

        Args:
            queries: `[B, D]`, any float type; an empty batch is allowed.
            k: items a query; the answer has `size` columns where `k` is larger.

        Returns:
            "ids" and "payload", strings `[B, k]`, and "scores", float32 `[B, k]`.

        Raises:
            UserError: `k` is not a positive integer, or the width of the queries is not the gallery's.
            tf.errors.InvalidArgumentError: a query holds NaN or infinity (when it runs).
        """
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise UserError(f"k: expected a positive integer, got {k!r}")
        return self.named(*self.rows(self.checked(queries), min(k, self.size)))

    def checked(self, queries: tf.Tensor) -> tf.Tensor:
        """Return queries as float32 `[B, D]`; raises as `search`."""
        queries = tf.cast(queries, tf.float32)
        if not queries.shape.is_compatible_with([None, self.dimension]):
            raise UserError(f"queries: expected shape [batch, {self.dimension}], got {queries.shape}")
        # Served, this is INVALID_ARGUMENT; unchecked, ScaNN fails with an internal error and `top_k` answers nonsense.
        return tf.debugging.check_numerics(queries, "search: a query holds NaN or infinity")

    def named(self, rows: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return gallery rows and their scores `[B, k]` as `search` answers."""
        return {"ids": tf.gather(self._ids, rows), "scores": scores, "payload": tf.gather(self._payload, rows)}

    def describe(self) -> dict[str, Any]:
        """Return kind, size, dimension, and why this kind was chosen, as JSON values."""
        described = {"kind": self.kind, "size": self.size, "dimension": self.dimension, "reason": self.choice.reason}
        return {**described, **self.choice.figures}


def check_gallery(gallery: Gallery) -> np.ndarray:
    """Return the gallery's vectors as float32 `[N, D]`.

    Raises:
        UserError: the gallery is empty, its parts differ in length, two items share a name, a vector holds
            NaN or infinity, or a name or payload is not Unicode text.
    """
    try:
        vectors = np.ascontiguousarray(gallery.vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"gallery vectors: expected numbers of shape [items, width], got {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise UserError(f"gallery vectors: expected shape [items, width], got {list(vectors.shape)}")
    lengths = {"ids": len(gallery.ids), "vectors": len(vectors), "payload": len(gallery.payload)}
    if len(set(lengths.values())) > 1:
        raise UserError(f"gallery: expected as many ids as vectors and payloads, got {lengths}")
    if not len(vectors):
        raise UserError("gallery: it has no items; index a split that has some")
    for part in ("ids", "payload"):
        _check_text(getattr(gallery, part), part)
    _check_unique(gallery.ids)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        first = gallery.ids[broken[0]]
        raise UserError(f"gallery: {len(broken)} vectors hold NaN or infinity, the first is of item {first!r}")
    return vectors


def _check_text(texts: Sequence[str], part: str) -> None:
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"gallery {part}: expected text, got {type(text).__name__} {text!r} in row {row}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"gallery {part}: row {row} is not valid Unicode text: {error}") from error


def _check_unique(ids: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            raise UserError(f"gallery ids: expected unique names, got {name!r} in rows {seen[name]} and {row}")
        seen[name] = row


def build_neighbours(
    gallery: Gallery, kind: str = "exact", *, queries: Sequence[np.ndarray] = (), name: str = "gallery"
) -> Neighbours:
    """Return the search over `gallery`.

    `scann` is used only where it pays: its recall@10 against the exact search has to be at least .95 and it
    has to be at least three times faster, for one query and for 32. Otherwise the reason is logged and the
    exact search is returned.

    Args:
        gallery: what is searched.
        kind: "exact" or "scann".
        queries: sets of vectors `[M, D]` like those that will be asked, such as text embeddings for a gallery
            of images; recall has to hold on each of them and on the gallery's own vectors.
        name: of the gallery, for the log.

    Raises:
        UserError: the kind is unknown, the gallery is broken (`check_gallery`), or ScaNN is asked for but not
            installed.
    """
    # Both kinds derive from `Neighbours` above; and the ScaNN wheel registers its ops when it is imported,
    # which an exact export does not need.
    from tfthesis.retrieval.exact import ExactNeighbours

    if kind not in KINDS:
        raise closest(kind, KINDS, "index kind")
    exact = ExactNeighbours(gallery)
    if kind == "exact":
        return exact
    try:
        from tfthesis.retrieval.scann_neighbours import attempt
    except (ImportError, tf.errors.NotFoundError) as error:
        raise UserError(
            f"index kind scann: its ops do not load ({error}); install the pinned scann, or use exact"
        ) from error
    approximate, choice = attempt(gallery, exact, queries)
    if approximate is None:
        logger.warning("%s: index kind exact instead of scann: %s", name, choice.reason)
    else:
        logger.info("%s: index kind scann: %s", name, choice.reason)
    chosen = approximate or exact
    chosen.choice = choice
    return chosen
