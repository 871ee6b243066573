"""Images in pieces whose features are cached together, cut so that a new image leaves the other pieces as they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

# Places in a list of images, rising, and arrays with a row for each of them.
Found = tuple[np.ndarray, list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a list of images.

    Attributes:
        start, stop: its places in the list.
        key: SHA-256 of what its images are.
    """

    start: int
    stop: int
    key: str


def cut_by_content(digests: Sequence[bytes], most: int) -> list[Piece]:
    """Return the pieces of a list of images, of at most `most` each and of about half as many on average.

    A piece ends with an image whose digest says so, as in content-defined chunking (Muthitacharoen and others 2001, "A
    low-bandwidth network file system"): an image that comes, goes or changes moves no end but those next to it, where
    pieces of equal length would all change behind it.

    Args:
        digests: SHA-256 of each image's identity.
        most: images of a piece, at least 2.
    """
    ends, start = [], 0
    for place, digest in enumerate(digests, 1):
        if int.from_bytes(digest[:8]) % (most // 2) == 0 or place - start == most:
            ends.append(place)
            start = place
    if start < len(digests):
        ends.append(len(digests))
    starts = [0, *ends][: len(ends)]
    return [
        Piece(start, stop, hashlib.sha256(b"".join(digests[start:stop])).hexdigest())
        for start, stop in zip(starts, ends, strict=True)
    ]


def regrouped(found: Iterable[Found], size: int) -> Iterator[Found]:
    """Yield what pieces hold, the places below `size` together, then those below `2 * size`, and so on.

    What is computed group by group is then the same however the pieces were cut.
    """
    held: list[Found] = []
    for places, arrays in found:
        groups = places // size
        for group in np.unique(groups).tolist():
            if held and held[0][0][0] // size != group:
                yield _joined(held)
                held = []
            own = groups == group
            held.append((places[own], [array[own] for array in arrays]))
    if held:
        yield _joined(held)


def _joined(held: Sequence[Found]) -> Found:
    places, arrays = zip(*held, strict=True)
    return np.concatenate(places), [np.concatenate(parts) for parts in zip(*arrays, strict=True)]
