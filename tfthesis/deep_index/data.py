"""Images to search as the features of their patches, computed once and read again piece by piece."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfthesis.data.images import ImageSource, check_source
from tfthesis.data.searched_images import Query, SearchedImages
from tfthesis.deep_index.pieces import Piece, cut_by_content, regrouped
from tfthesis.encoders.feature_cache import cached_features
from tfthesis.encoders.patches import PyramidPatches
from tfthesis.errors import UserError, closest
from tfthesis.inverted_index.codebook import codebook_size
from tfthesis.method import SPLITS, Spec

# Images whose features are in memory at a time, and those in one folder of the cache, at most.
_GROUP, _PIECE = 512, 256
_READERS = 4


@dataclasses.dataclass(frozen=True)
class Axis:
    """One dimension of the index.

    Attributes:
        network: name of an encoder of `tfthesis.encoders.patches`.
        layer: place of its layer among those that the encoder reads.
        width: numbers of a feature.
    """

    network: str
    layer: int
    width: int


class IndexedImageData:
    """Images that are searched; implements `tfthesis.method.Data`, its rows are images.

    Without `shares` all images are searched (split "test") and fitted to ("train"), which looks at none of the groups,
    and "val" is empty. With them the groups are divided by lot into three datasets.

    Images that cannot be read, or do not decode, are left out and listed, and so are queries that lose their image or
    all that they should find.

    Attributes:
        axes: of the index.
        encoders: by network.
        progress: called with (features done, in all).
    """

    def __init__(
        self,
        dataset: SearchedImages,
        encoders: Mapping[str, PyramidPatches],
        axes: Sequence[Axis],
        *,
        words: int = 0,
        shares: Sequence[float] = (),
    ):
        """Take a dataset.

        Args:
            words: of each codebook; 0 scales them to the number of training patches.

        Raises:
            UserError: the dataset cannot be divided, no image is usable, or there are too few for the words.
        """
        self.dataset, self.encoders, self.axes = dataset, dict(encoders), tuple(axes)
        self.progress: Callable[[int, int], None] | None = None
        self._fingerprint = dataset.fingerprint()
        self._digests = {
            own: hashlib.sha256(json.dumps(identity).encode()).digest()
            for own, identity in zip(dataset.ids, dataset.identities, strict=True)
        }
        self._skipped: list[str] = []
        self._opened: dict[str, SearchedImages] = {}
        usable = self._usable(dataset)
        self._shares = tuple(shares)
        self._parts = self._divided(usable)
        patches = next(iter(self.encoders.values())).patches
        size = codebook_size(patches * len(self._parts["train"]), words or None)
        self.spec = Spec(
            inputs={f"axis_{number}": (patches, axis.width) for number, axis in enumerate(self.axes)},
            encoders={name: encoder.describe() for name, encoder in self.encoders.items()},
            dataset={"name": dataset.name, "fingerprint": self._fingerprint, "counts": dataset.counts()},
            extra={"words": size, "axes": [dataclasses.asdict(axis) for axis in self.axes]},
        )

    def size(self, split: str) -> int:
        """Return the number of usable images of `split`."""
        return len(self.split(split))

    def split(self, name: str) -> SearchedImages:
        """Return the usable images of a split and its queries; computes features that are missing.

        Raises:
            UserError: there is no such split, or no usable image in it.
        """
        if name not in self._parts:
            raise closest(name, SPLITS, "split")
        if name not in self._opened:
            part = self._parts[name]
            good = np.concatenate([np.zeros(0, np.int64), *(places for places, _ in self._image_pieces(part))])
            self._check_found(name, len(good))
            apart = _apart(part)
            names = [query.id for query in apart]
            found = {names[place] for places, _ in self._query_pieces(apart) for place in places.tolist()}
            self._opened[name] = self._taken(part, good, set(names) - found)
        return self._opened[name]

    def features(self, split: str) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield rows of usable images, and their features `[n, P, D]` float32 for each axis, piece by piece.

        Raises:
            UserError: no image of the split is usable.
        """
        part, start = self._parts[split], 0
        for places, features in regrouped(self._image_pieces(part), _GROUP):
            yield np.arange(start, start + len(places)), features
            start += len(places)
        self._check_found(split, start)

    def query_features(self, split: str) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield numbers of queries, and the features `[n, P, D]` of each axis, piece by piece and in any order."""
        queries = self.split(split).queries
        of_row = np.array([query.row for query in queries], np.int64)
        for rows, features in self.features(split):
            numbers = np.flatnonzero(np.isin(of_row, rows))
            if len(numbers):
                yield numbers, [part[of_row[numbers] - rows[0]] for part in features]
        number_of = {query.id: number for number, query in enumerate(queries) if query.image is not None}
        apart = _apart(self._parts[split])
        for places, features in self._query_pieces(apart):
            numbers = [number_of.get(apart[place].id, -1) for place in places.tolist()]
            kept = [place for place, number in enumerate(numbers) if number >= 0]
            if kept:
                yield np.array(numbers)[kept], [part[kept] for part in features]

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        """Return one element for each array of rows, in order, empty arrays too; nothing is drawn by lot.

        Inputs: "axis_0" ... float32 `[b, P, D]`. Targets: "row" int64 `[b]`.
        """
        features = [np.concatenate(parts) for parts in zip(*(found for _, found in self.features(split)), strict=True)]
        names = list(self.spec.inputs)

        def elements() -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
            for batch in rows:
                own = {name: part[batch] for name, part in zip(names, features, strict=True)}
                yield own, {"row": np.asarray(batch, np.int64)}

        inputs = {name: tf.TensorSpec([None, *shape], tf.float32) for name, shape in self.spec.inputs.items()}
        signature = inputs, {"row": tf.TensorSpec([None], tf.int64)}
        return tf.data.Dataset.from_generator(elements, output_signature=signature)

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return the names of `rows`."""
        ids = self.split(split).ids
        return [ids[row] for row in np.asarray(rows).tolist()]

    def describe(self) -> dict[str, Any]:
        """Return counts, source and skipped images, those included that turned out while features were computed."""
        parts = {**self._parts, **self._opened}
        skipped = [*self.dataset.skipped, *self._skipped]
        return {
            "name": self.dataset.name,
            "source": self.dataset.source,
            "counts": {**self.dataset.counts(), **{split: len(part) for split, part in parts.items()}},
            "shares": list(self._shares),
            "fingerprint": self._fingerprint,
            "words": self.spec.extra["words"],
            "measure": self.dataset.measure,
            "skipped": {"count": len(skipped), "items": skipped},
        }

    def _check_found(self, split: str, count: int) -> None:
        """Raise where none of the images of a split is good, of which each has a line among those skipped."""
        part = self._parts[split]
        if len(part) and not count:
            raise UserError(f"{part.name}: split {split!r} has no usable image; the last: {self._skipped[-1]}")

    def _divided(self, usable: SearchedImages) -> dict[str, SearchedImages]:
        if self._shares:
            if len(self._shares) != len(SPLITS):
                raise UserError(f"shares: expected three shares for {', '.join(SPLITS)}, got {self._shares}")
            return dict(zip(SPLITS, usable.divided(self._shares), strict=True))
        nothing = dataclasses.replace(usable, ids=[], images=[], groups=None, queries=[])
        return {"train": usable, "val": nothing, "test": usable}

    def _usable(self, dataset: SearchedImages) -> SearchedImages:
        """Return the dataset without images whose header says that they are none."""

        def problem(image: ImageSource) -> str:
            try:
                check_source(image)
            except (UserError, OSError) as error:
                return str(error)
            return ""

        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(problem, dataset.images))
        reasons = {row: reason for row, reason in enumerate(found) if reason}
        if not reasons:
            return dataset
        self._skipped += [f"image {dataset.ids[row]}: {reason}" for row, reason in reasons.items()]
        good = np.array([row for row in range(len(dataset)) if row not in reasons], np.int64)
        if not len(good):
            raise UserError(f"{dataset.name}: there is no usable image; the first: {self._skipped[0]}")
        return self._taken(dataset, good)

    def _taken(self, part: SearchedImages, good: np.ndarray, lost: Collection[str] = ()) -> SearchedImages:
        """Return the images of rows `good`, and list the queries that are left out."""
        taken = part.take(good, lost)
        kept = {query.id for query in taken.queries}
        lines = [f"query {query.id}: it, or all it should find, cannot be used" for query in part.queries]
        self._list(line for line, query in zip(lines, part.queries, strict=True) if query.id not in kept)
        return taken

    def _list(self, lines: Iterable[str]) -> None:
        """Note what is left out, once where two splits hold the same images."""
        known = set(self._skipped)
        self._skipped += [line for line in dict.fromkeys(lines) if line not in known]

    def _image_pieces(self, part: SearchedImages) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield places and features of the good images of a part; their cache outlasts a change of other images."""
        pieces = cut_by_content([self._digests[own] for own in part.ids], _PIECE)
        return self._pieces(part.images, part.ids, pieces)

    def _query_pieces(self, queries: Sequence[Query]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield places and features of queries that are none of the searched images.

        They may be parts of those, and a part does not know the content of its file: any change makes them new.
        """
        ends = [*range(_PIECE, len(queries), _PIECE), len(queries)] if queries else []
        pieces = [Piece(start, stop, self._fingerprint) for start, stop in itertools.pairwise([0, *ends])]
        return self._pieces([query.image for query in queries], [f"of query {query.id}" for query in queries], pieces)

    def _pieces(
        self, images: Sequence[ImageSource], names: Sequence[str], pieces: Sequence[Piece]
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield the places of good images and their features for each axis, piece by piece; the others are listed."""
        total = len(images) * len(self.encoders)
        for piece in pieces:
            start, chunk = piece.start, list(images[piece.start : piece.stop])
            found = {}
            for number, (name, encoder) in enumerate(self.encoders.items()):
                done = start * len(self.encoders) + number * len(chunk)
                found[name] = cached_features(encoder, chunk, dataset=piece.key, progress=self._reported(done, total))
            for features in found.values():
                self._list(f"image {names[start + place]}: {reason}" for place, reason in features.bad)
            good = np.logical_and.reduce([features.ok for features in found.values()])
            by_network = {}
            for name, features in found.items():
                encoder, rows = self.encoders[name], features.rows[good[features.ok]]
                rows = rows.reshape(len(rows), encoder.patches, sum(encoder.widths))
                by_network[name] = np.split(rows, np.cumsum(encoder.widths)[:-1], axis=2)
            if good.any():
                yield start + np.flatnonzero(good), [by_network[axis.network][axis.layer] for axis in self.axes]

    def _reported(self, done: int, total: int) -> Callable[[int, int], None]:
        return lambda count, _: self.progress(done + count, total) if self.progress else None


def _apart(part: SearchedImages) -> list[Query]:
    """Return the queries that are none of the searched images."""
    return [query for query in part.queries if query.image is not None]
