"""Items to vectors, by the signatures of an export."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from serving.index.item_store import StoredItem
from serving.index.items import Item
from tfthesis.data.images import decode, read_image
from tfthesis.errors import UserError, operation_message
from tfthesis.export.session import open_session

BATCH = 32
_THUMBNAIL_SIDE = 160


def encode_items(
    export: Path, items: Sequence[Item], *, say: Callable[[str], None] = print
) -> Iterator[list[StoredItem]]:
    """Yield the items with their vectors, a batch at a time; after the first one `say` is told how long the rest takes.

    Raises:
        UserError: an image cannot be read, or the export has no signature that encodes a modality.
    """
    start, done = time.monotonic(), 0
    with open_session(export) as model:
        for modality in dict.fromkeys(item.modality for item in items):
            own = [item for item in items if item.modality == modality]
            call = _callable(model, export, modality)
            for first in range(0, len(own), BATCH):
                batch = own[first : first + BATCH]
                yield _encode(call, modality, batch)
                done += len(batch)
                if done == len(batch) < len(items):
                    seconds = (time.monotonic() - start) / done * (len(items) - done)
                    say(f"encoding {len(items)} items, about {seconds:.0f} s")


def seconds_to_encode(export: Path, items: Sequence[Item]) -> float:
    """Return how long `encode_items` takes, by a batch of each modality after a first one that only warms up.

    Raises:
        UserError: as `encode_items`.
    """
    seconds = 0.0
    for modality in dict.fromkeys(item.modality for item in items):
        own = [item for item in items if item.modality == modality]
        batch = own[:BATCH]
        with open_session(export) as model:
            call = _callable(model, export, modality)
            _encode(call, modality, batch)
            start = time.monotonic()
            _encode(call, modality, batch)
            seconds += (time.monotonic() - start) / len(batch) * len(own)
    return seconds


def _callable(model: Any, export: Path, modality: str) -> Callable:
    try:
        return model.callable(f"encode_{modality}")
    except KeyError as error:
        raise UserError(f"{export}: it cannot encode a {modality}, it has no encode_{modality}") from error


def _encode(call: Callable, modality: str, batch: Sequence[Item]) -> list[StoredItem]:
    rows = np.empty(len(batch), object)
    if modality == "image":
        rows[:] = [read_image(item.content) for item in batch]
    else:
        rows[:] = [item.content.encode() for item in batch]
    try:
        vectors = call({modality: rows})["embedding"]
    except tf.errors.InvalidArgumentError as error:
        reason = operation_message(error.message)
        raise UserError(f"{modality}s {batch[0].id!r} to {batch[-1].id!r}: {reason}") from error
    small = [_thumbnail(data) if modality == "image" else None for data in rows]
    return [
        StoredItem(modality, item.id, item.payload, vector, thumbnail)
        for item, vector, thumbnail in zip(batch, vectors, small, strict=True)
    ]


def _thumbnail(data: bytes) -> bytes:
    with tf.device("CPU"):
        image = Image.fromarray(decode(tf.constant(data)).numpy())
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
