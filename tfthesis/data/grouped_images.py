"""Images in groups that a search should find together, as the readers of retrieval datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.images import ImageSource
from tfthesis.errors import UserError, closest

#: How a dataset measures a search.
MEASURES = {
    "mean_ap": "mean over the queries of the average precision, in percent; a query is not in its own list",
    "ns_score": "mean over all images of how many of the four of its group, itself included, are the four best, 0 to 4",
}


@dataclasses.dataclass
class GroupedImages:
    """A retrieval dataset.

    Attributes:
        name: of the reader that made it.
        ids: a name for each image, unique.
        images: a source each.
        groups: int64 `[N]`; images with equal numbers are relevant to each other.
        queries: int64 `[Q]`, rows of the images that are searched with; all images are searched.
        measure: key of `MEASURES`.
        rule: of `tfthesis.metrics.ranked_lists.average_precision`, for "mean_ap".
        skipped: one line for each image that was left out, with the reason.
        source: what the reader was asked for and did, as JSON values.

    Raises:
        UserError: parts differ in length, an id occurs twice, there is no query, or a query is alone in its group.
    """

    name: str
    ids: list[str]
    images: Sequence[ImageSource]
    groups: np.ndarray
    queries: np.ndarray
    measure: str = "mean_ap"
    rule: str = "step"
    skipped: list[str] = dataclasses.field(default_factory=list)
    source: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.measure not in MEASURES:
            raise closest(self.measure, list(MEASURES), f"measure of {self.name}")
        lengths = {"ids": len(self.ids), "images": len(self.images), "groups": len(self.groups)}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{self.name}: expected as many ids as images as groups, got {lengths}")
        if len(set(self.ids)) < len(self.ids):
            twice = sorted({own for own in self.ids if self.ids.count(own) > 1})
            raise UserError(f"{self.name}: image ids occur twice: {twice[:3]}")
        if not len(self.queries):
            raise UserError(f"{self.name}: there is no query among {len(self.ids)} images")
        counts = dict(zip(*np.unique(self.groups, return_counts=True), strict=True))
        for row in self.queries.tolist():
            if counts[self.groups[row]] < 2:
                raise UserError(f"{self.name}: query {self.ids[row]!r} has no other image in its group to find")

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> dict[str, int]:
        """Return the numbers of images, groups and queries."""
        return {"images": len(self), "groups": len(np.unique(self.groups)), "queries": len(self.queries)}

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, groups, queries, measure and source; of files names, sizes and some bytes."""
        about = [self.name, self.ids, self.measure, self.rule, self.source, list(map(image_identity, self.images))]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for array in (self.groups, self.queries):
            digest.update(np.ascontiguousarray(array, np.int64))
        return digest.hexdigest()


def of_groups(name: str, groups: Mapping[str, Sequence[Path]], folder: Path, **about: Any) -> GroupedImages:
    """Return files as a dataset in which every image is a query.

    Args:
        name: of the dataset.
        groups: files by the name of their group.
        folder: below which the files lie; their paths there are the ids.
        about: `measure`, `rule` and `source` of `GroupedImages`.

    Raises:
        UserError: as `GroupedImages`.
    """
    files = [file for own in groups.values() for file in own]
    numbers = np.repeat(np.arange(len(groups)), [len(own) for own in groups.values()])
    ids = [file.relative_to(folder).as_posix() for file in files]
    return GroupedImages(name, ids, files, numbers.astype(np.int64), np.arange(len(files)), **about)


def grouped_names() -> dict[str, str]:
    """Return what each known retrieval dataset reads, in one sentence."""
    return {name: module.GROUPED[name] for name, module in sorted(readers_of("GROUPED").items())}


def open_grouped(name: str, directory: Path | str | None = None, **options: Any) -> GroupedImages:
    """Open a retrieval dataset by name.

    A reader is a file of `tfthesis/data/readers` that defines `GROUPED` (names, each with a sentence on what must lie
    in the folder) and `open_grouped(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    return open_by_name("GROUPED", "open_grouped", "retrieval dataset", name, directory, options)
