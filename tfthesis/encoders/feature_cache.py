"""Features computed once and kept on disk.

A cache folder belongs to one encoder (weights and preprocessing), one dataset and one list of items; whatever changes
one of them changes the folder's name, so nothing stale is ever read. Inside it lie shards. An interrupted extraction
goes on at the next shard; a damaged shard is named in the log and computed again, alone.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfthesis.data.images import read_image
from tfthesis.encoders.cache_folder import default_cache, held_folder
from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.feature_shards import FeatureShard, Found
from tfthesis.encoders.words import utf8
from tfthesis.errors import UserError, operation_message
from tfthesis.whole_files import write_whole

# A shard is a whole number of batches: a rebuilt one meets the same batches, hence gives the same bits.
BATCH_ITEMS = {"image": 32, "text": 1024}
SHARD_ITEMS = {"image": 8 * 32, "text": 16 * 1024}
# Part of every folder's name; a change of what is stored makes all folders new.
FORMAT = 1

_log = logging.getLogger(__name__)

Item = bytes | str | Path


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a list of items.

    Attributes:
        rows: `[N_ok, D]` float32, read-only, of the good items in their order.
        ok: `[N]` bool, which items are good.
        bad: index and reason of each other item.
    """

    rows: np.ndarray
    ok: np.ndarray
    bad: list[tuple[int, str]]


def cached_features(
    encoder: Encoder,
    items: Sequence[Item],
    *,
    dataset: str,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Return the features of `items`, computing only what the cache does not hold.

    Args:
        encoder: maps the items to features `[B, D]`.
        items: for an image encoder bytes or paths, for a text encoder strings.
        dataset: fingerprint of the dataset, or of the content of `items` where their features should outlast a change
            of the others; with the encoder's own and the items' names and sizes it names the cache folder.
        cache: parent of the cache folders; None takes `default_cache`.
        progress: called with (items done, items in all) after each batch.

    Raises:
        UserError: the cache cannot be written.
    """
    key = _key(encoder, items, dataset)
    folder = (cache or default_cache()) / f"{encoder.name}-{key[:20]}"
    step = SHARD_ITEMS[encoder.modality]
    shards = [
        FeatureShard(folder / f"shard-{number:05d}", start, min(start + step, len(items)), encoder.dimension)
        for number, start in enumerate(range(0, len(items), step))
    ]
    with held_folder(folder):
        _describe(folder, encoder, dataset, len(items), key)
        found = {shard: shard.read() for shard in shards}
        missing = [shard for shard in shards if found[shard] is None]
        if missing:
            extraction = _Extraction(encoder, items, progress or (lambda done, total: None))
            found.update(extraction.fill(missing))
    return _joined(list(found.values()), len(items), encoder.dimension)


def _joined(shards: list[Found], count: int, dimension: int) -> Features:
    rows = np.concatenate([np.empty((0, dimension), np.float32), *(rows for rows, _ in shards)])
    rows.flags.writeable = False
    bad = [entry for _, entries in shards for entry in entries]
    ok = np.ones(count, bool)
    ok[[index for index, _ in bad]] = False
    return Features(rows, ok, bad)


def _key(encoder: Encoder, items: Sequence[Item], dataset: str) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, encoder.fingerprint, dataset, len(items)]).encode())
    for item in items:
        digest.update(hashlib.sha256(_identity(item, encoder.modality)).digest())
    return digest.hexdigest()


def _identity(item: Item, modality: str) -> bytes:
    """Return what tells an item from a changed one: its content, or a file's name and size, wherever it lies."""
    if isinstance(item, bytes):
        return item
    if modality == "text":
        return utf8(item)
    path = Path(item)
    return f"{path.name} {path.stat().st_size if path.is_file() else 'missing'}".encode()


def _describe(folder: Path, encoder: Encoder, dataset: str, count: int, key: str) -> None:
    """Write for people what the folder holds."""
    if not (folder / "manifest.json").exists():
        manifest = {"format": FORMAT, "key": key, "encoder": encoder.describe(), "dataset": dataset, "items": count}
        write_whole(folder / "manifest.json", json.dumps(manifest, indent=1).encode())


Batches = Iterator[tuple[np.ndarray, tf.Tensor]]


class _Extraction:
    """Computes features of stretches of a list; its pipeline is made once."""

    def __init__(self, encoder: Encoder, items: Sequence[Item], report: Callable[[int, int], None]):
        self.encoder, self.items, self.report = encoder, items, report
        # Images that differ in size do not stack.
        self.batch = 1 if None in encoder.item_shape else BATCH_ITEMS[encoder.modality]

    def fill(self, shards: list[FeatureShard]) -> Iterator[tuple[FeatureShard, Found]]:
        """Compute shards one after the other and store each as soon as its last item is done."""
        order = np.concatenate([np.arange(shard.start, shard.stop) for shard in shards])
        cached = len(self.items) - len(order)
        rows = np.full((len(order), self.encoder.dimension), np.nan, np.float32)
        reasons: dict[int, str] = {}
        pending = collections.deque(shards)
        batches = self._image_batches if self.encoder.modality == "image" else self._text_batches
        for index, prepared in batches(order, reasons):
            places = np.searchsorted(order, index)
            rows[places] = self.encoder.encode_graph(prepared).numpy()
            seen = (index[-1] // self.batch + 1) * self.batch
            while pending and seen >= pending[0].stop:
                yield self._store(pending.popleft(), order, rows, reasons)
            self.report(cached + int(places[-1]) + 1, len(self.items))
        for shard in pending:
            yield self._store(shard, order, rows, reasons)
        self.report(len(self.items), len(self.items))

    def _store(
        self, shard: FeatureShard, order: np.ndarray, rows: np.ndarray, reasons: dict[int, str]
    ) -> tuple[FeatureShard, Found]:
        rows = rows[slice(*np.searchsorted(order, [shard.start, shard.stop]))]
        good = np.isfinite(rows).all(1)
        bad = [(i, self._reason(i, reasons)) for i in (np.flatnonzero(~good) + shard.start).tolist()]
        for i, reason in bad:
            _log.warning("skipped item %d: %s", i, reason)
        shard.write(rows[good], bad)
        return shard, (rows[good], bad)

    def _text_batches(self, order: np.ndarray, reasons: dict[int, str]) -> Batches:
        for start in range(0, len(order), self.batch):
            index = order[start : start + self.batch]
            yield index, tf.constant([utf8(self.items[i]) for i in index])

    def _image_batches(self, order: np.ndarray, reasons: dict[int, str]) -> Batches:
        """Yield batches of (indices, prepared images) in order, without those that cannot be read or decoded."""

        def read() -> Iterator[tuple[int, bytes]]:
            for i in order.tolist():
                try:
                    yield i, read_image(self.items[i])
                except UserError as error:
                    reasons[i] = str(error)

        signature = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string))
        dataset = tf.data.Dataset.from_generator(read, output_signature=signature).map(
            lambda i, raw: (i, self.encoder.prepare(raw)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        images = iter(dataset.ignore_errors().prefetch(2 * self.batch))
        for _, group in itertools.groupby(images, key=lambda image: int(image[0]) // self.batch):
            index, prepared = zip(*group, strict=True)
            yield np.array(index), tf.stack(prepared)

    def _reason(self, i: int, reasons: dict[int, str]) -> str:
        if i in reasons:
            return reasons[i]
        try:
            if self.encoder.modality == "image":
                self.encoder.prepare_graph(tf.constant(read_image(self.items[i])))
        except (tf.errors.OpError, UserError) as error:
            name = "" if isinstance(self.items[i], bytes) else f"{self.items[i]}: "
            return f"{name}{operation_message(str(error)).partition(chr(10))[0]}"
        return "its feature is not finite"
