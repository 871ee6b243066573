"""Images of two domains that nothing pairs, as the readers of translation datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.image_files import drawn_by_lot
from tfthesis.data.image_splits import ImageSplits
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.data.images import ImageSource
from tfthesis.data.segmented_images import SegmentedImages, open_segmented, segmented_names
from tfthesis.errors import UserError, closest


@dataclasses.dataclass(frozen=True)
class Domain:
    """The images of one domain in one split.

    Attributes:
        ids: a name for each image, unique within the domain.
        images: uint8 `[N, H, W, 3]`, or a source each.
    """

    ids: list[str]
    images: np.ndarray | list[ImageSource]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Domain:
        """Return the images of `rows`, in their order."""
        images = self.images[rows] if isinstance(self.images, np.ndarray) else [self.images[row] for row in rows]
        return Domain([self.ids[row] for row in rows], images)


@dataclasses.dataclass
class DomainImages(ImageSplits):
    """One domain of a dataset; its splits are `Domain`.

    Raises:
        UserError: see `ImageSplits`; or a split without an image.
    """

    def __post_init__(self):
        super().__post_init__()
        for name, split in self.splits.items():
            if not len(split):
                raise UserError(f"{self.name}: split {name!r} has no images; a translation needs some of each domain")

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, pixels and source; of files that of names, sizes and some bytes."""
        digest = hashlib.sha256(json.dumps([self.name, self.source], sort_keys=True).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.ids]).encode())
            if isinstance(split.images, np.ndarray):
                digest.update(np.ascontiguousarray(split.images))
            else:
                digest.update(json.dumps([image_identity(image) for image in split.images]).encode())
        return digest.hexdigest()


@dataclasses.dataclass
class TwoDomains:
    """A dataset of two domains; how many images each has, and of what size, is its own affair.

    Attributes:
        name: of the reader that made it.
        domains: a word for each, such as ("photo", "label").
        a, b: their images; both have the same splits.
        source: what the reader was asked for and did, as JSON values.

    Raises:
        UserError: names that are no two different words, or splits of one domain alone.
    """

    name: str
    domains: tuple[str, str]
    a: DomainImages
    b: DomainImages
    source: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not all(word.isidentifier() for word in self.domains) or self.domains[0] == self.domains[1]:
            raise UserError(f"{self.name}: expected two different words for the domains, got {list(self.domains)}")
        if set(self.a.splits) != set(self.b.splits):
            raise UserError(
                f"{self.name}: domain {self.domains[0]} has the splits {sorted(self.a.splits)}, domain "
                f"{self.domains[1]} {sorted(self.b.splits)}; expected the same"
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images of each domain and split."""
        return dict(zip(self.domains, (self.a.counts(), self.b.counts()), strict=True))

    def fingerprint(self) -> str:
        """Return a digest of both domains."""
        parts = [self.name, list(self.domains), self.a.fingerprint(), self.b.fingerprint()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def two_domains(
    name: str, domains: tuple[str, str], files: dict[str, tuple[Domain, Domain]], source: dict[str, Any]
) -> TwoDomains:
    """Return the dataset of a reader's splits, each a pair of domains."""
    sides = [
        DomainImages(f"{name}, domain {word}", {split: found[side] for split, found in files.items()})
        for side, word in enumerate(domains)
    ]
    return TwoDomains(name, domains, *sides, source)


def held_out(domain: Domain, count: int, seed: int, what: str) -> tuple[Domain, Domain]:
    """Return a domain without `count` images that a lot takes out for validation, and these.

    Args:
        domain: the training images.
        count: of them that are held out, at least 1.
        seed: of the lot, which depends on it and the names alone.
        what: names the domain in messages.

    Raises:
        UserError: there are not more than `count` images.
    """
    if not 1 <= count < len(domain):
        raise UserError(
            f"{what}: val_images={count} of {len(domain)} training images; expected at least 1, and one or more left "
            "(--set reader=val_images=N)"
        )
    order = drawn_by_lot(domain.ids, seed)
    return domain.take(sorted(order[count:])), domain.take(sorted(order[:count]))


def domain_names() -> dict[str, str]:
    """Return what each known translation dataset reads; every segmentation dataset is one of photos and labels."""
    own = {name: module.DOMAINS[name] for name, module in sorted(readers_of("DOMAINS").items())}
    return own | segmented_names()


def open_domains(name: str, directory: Path | str | None = None, **options: Any) -> TwoDomains | SegmentedImages:
    """Open a translation dataset by name; a segmentation dataset comes as such, its domains are photo and label.

    A reader is a file of `tfthesis/data/readers` that defines `DOMAINS` (names, each with a sentence on what must lie
    in the folder) and `open_domains(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    if name in segmented_names():
        return open_segmented(name, directory, **options)
    if name not in readers_of("DOMAINS"):
        raise closest(name, sorted(domain_names()), "translation dataset")
    return open_by_name("DOMAINS", "open_domains", "translation dataset", name, directory, options)
