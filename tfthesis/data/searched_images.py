"""Images that are searched and what each query should find: relevant images, and images that count as absent.

Datasets in groups (`tfthesis.data.grouped_images`) are one kind, those with ground truth for each query another.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.grouped_images import MEASURES, GroupedImages, grouped_names, open_grouped
from tfthesis.data.image_files import drawn_by_lot
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.images import ImageSource
from tfthesis.errors import UserError, closest

NO_ROW = -1


@dataclasses.dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        id: a name.
        relevant: rows of the searched images that it should find, int64, rising.
        ignored: rows that are taken out of the answers before these are judged, int64, rising.
        row: which of the searched images it is, or `NO_ROW`.
        image: its source where it is none of them.
    """

    id: str
    relevant: np.ndarray
    ignored: np.ndarray
    row: int = NO_ROW
    image: ImageSource | None = None


@dataclasses.dataclass
class SearchedImages:
    """A retrieval dataset.

    Attributes:
        name: of the reader that made it.
        ids: a name for each searched image, unique.
        images: a source each.
        queries: in any order.
        groups: int64 `[N]`, equal for images that must stay together when the dataset is divided; None where it cannot
            be.
        measure: key of `tfthesis.data.grouped_images.MEASURES`.
        rule: of `tfthesis.metrics.ranked_lists.average_precision`.
        skipped: one line for each image or query that was left out, with the reason.
        source: what the reader was asked for and did, as JSON values.

    Raises:
        UserError: parts differ in length, an id occurs twice, the measure is unknown, or a query has nothing to find.
    """

    name: str
    ids: list[str]
    images: Sequence[ImageSource]
    queries: list[Query]
    groups: np.ndarray | None = None
    measure: str = "mean_ap"
    rule: str = "step"
    skipped: list[str] = dataclasses.field(default_factory=list)
    source: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.measure not in MEASURES:
            raise closest(self.measure, list(MEASURES), f"measure of {self.name}")
        if len(self.ids) != len(self.images):
            raise UserError(f"{self.name}: expected as many ids as images, got {len(self.ids)} and {len(self.images)}")
        if len(set(self.ids)) < len(self.ids):
            twice = sorted({own for own in self.ids if self.ids.count(own) > 1})
            raise UserError(f"{self.name}: image ids occur twice: {twice[:3]}")
        for query in self.queries:
            if not len(query.relevant):
                raise UserError(f"{self.name}: query {query.id!r} has no image to find")

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> dict[str, int]:
        """Return the numbers of images and queries."""
        return {"images": len(self), "queries": len(self.queries)}

    def take(self, rows: np.ndarray, lost_queries: Collection[str] = ()) -> SearchedImages:
        """Return the images of `rows`, rising, and the queries that still have something to find.

        A query whose own image is not among them is left out, and so are those named `lost_queries`; what is left out
        is not listed here.
        """
        place = np.full(len(self), NO_ROW, np.int64)
        place[rows] = np.arange(len(rows))
        lost, queries = set(lost_queries), []
        for query in self.queries:
            relevant, ignored = (place[part][place[part] >= 0] for part in (query.relevant, query.ignored))
            row = place[query.row] if query.row >= 0 else NO_ROW
            if query.id in lost or not len(relevant) or (query.row >= 0 and row < 0):
                continue
            queries.append(dataclasses.replace(query, relevant=relevant, ignored=ignored, row=int(row)))
        return dataclasses.replace(
            self,
            ids=[self.ids[row] for row in rows.tolist()],
            images=[self.images[row] for row in rows.tolist()],
            groups=None if self.groups is None else self.groups[rows],
            queries=queries,
        )

    def divided(self, shares: Sequence[float], seed: int = 0) -> list[SearchedImages]:
        """Return parts of the given shares of the groups, each with its own queries, drawn by lot.

        Raises:
            UserError: the dataset has no groups, shares do not sum to one, or a part has no query.
        """
        if self.groups is None:
            raise UserError(f"{self.name}: it has no groups to divide it by; leave out the shares of its parts")
        if not all(0 < share < 1 for share in shares) or not np.isclose(sum(shares), 1):
            raise UserError(f"{self.name}: parts: expected shares above 0 with the sum 1, got {tuple(shares)}")
        known = np.unique(self.groups)
        order = known[drawn_by_lot([str(group) for group in known.tolist()], seed)]
        ends = np.rint(np.cumsum([0, *shares]) * len(order)).astype(int)
        return [
            self.take(np.flatnonzero(np.isin(self.groups, order[start:end])))
            for start, end in itertools.pairwise(ends.tolist())
        ]

    @functools.cached_property
    def identities(self) -> list[list[Any]]:
        """What tells each image from a changed one, as `tfthesis.data.image_text.image_identity` says."""
        return list(map(image_identity, self.images))

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, queries, measure and source; of files names, sizes and some bytes."""
        about = [self.name, self.ids, self.measure, self.rule, self.source, self.identities]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for query in self.queries:
            digest.update(json.dumps([query.id, query.row, image_identity(query.image)]).encode())
            for rows in (query.relevant, query.ignored):
                digest.update(np.ascontiguousarray(rows, np.int64))
        return digest.hexdigest()


def searched(grouped: GroupedImages) -> SearchedImages:
    """Return a dataset in groups: a query should find its group, and itself where the measure counts it."""
    order = np.argsort(grouped.groups, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(grouped.groups[order]) != 0]))
    members = {int(grouped.groups[rows[0]]): rows for rows in np.split(order, starts[1:])}
    itself = grouped.measure == "ns_score"
    none = np.zeros(0, np.int64)
    queries = []
    for row in grouped.queries.tolist():
        own = members[int(grouped.groups[row])]
        relevant, ignored = (own, none) if itself else (own[own != row], np.array([row], np.int64))
        queries.append(Query(grouped.ids[row], relevant, ignored, row))
    return SearchedImages(
        grouped.name,
        grouped.ids,
        grouped.images,
        queries,
        grouped.groups,
        grouped.measure,
        grouped.rule,
        list(grouped.skipped),
        grouped.source,
    )


def searched_names() -> dict[str, str]:
    """Return what each known dataset that can be searched reads, in one sentence."""
    own = {name: module.SEARCHED[name] for name, module in readers_of("SEARCHED").items()}
    return dict(sorted({**own, **grouped_names()}.items()))


def open_searched(name: str, directory: Path | str | None = None, **options: Any) -> SearchedImages:
    """Open a dataset that can be searched by name.

    A reader is a file of `tfthesis/data/readers` that defines `SEARCHED` (names, each with a sentence on what must lie
    in the folder) and `open_searched(name, directory, **options)`, or one of `tfthesis.data.grouped_images`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    if name not in searched_names():
        raise closest(name, list(searched_names()), "dataset to search")
    if name in grouped_names():
        return searched(open_grouped(name, directory, **options))
    return open_by_name("SEARCHED", "open_searched", "dataset to search", name, directory, options)
