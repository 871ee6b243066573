"""Images in pieces whose features are cached together, cut so that a new image leaves the other pieces as they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence


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
