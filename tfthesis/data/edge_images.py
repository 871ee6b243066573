"""Images with the edges that several people drew into them, as the readers of edge datasets return them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import PIL.Image

from tfthesis.data.image_splits import ImageSplits
from tfthesis.data.image_text import image_identity, open_by_name, readers_of
from tfthesis.errors import UserError

if TYPE_CHECKING:
    from tfthesis.data.images import ImageSource

_ORIENTATION = 0x0112
#: Endings of soft edge maps, in the order in which they are looked for.
SOFT_MAP_ENDINGS = (".png", ".npy")
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError)


class LazyEdges(Protocol):
    """The annotators' edges of one image, which are made when they are read; `str` names them in messages."""

    def identity(self) -> list[Any]:
        """Return JSON values that change with the edges."""

    def read(self) -> np.ndarray:
        """Return the edges bool `[A, H, W]`; raises `UserError` for a file that cannot be read."""


@dataclasses.dataclass(frozen=True)
class EdgePictures:
    """PNG files, one an annotator, whose pixels other than 0 are edges.

    Attributes:
        paths: of the files.
        image: that the edges belong to.
    """

    paths: tuple[Path, ...]
    image: Path

    def __str__(self) -> str:
        return str(self.paths[0].parent if len(self.paths) > 1 else self.paths[0])

    def identity(self) -> list[Any]:
        """Return names, sizes and some bytes of the files."""
        return [image_identity(path) for path in self.paths]

    def read(self) -> np.ndarray:
        """Return the edges bool `[A, H, W]`.

        Raises:
            UserError: a file is no grey or binary picture, the files or the image differ in size, or nobody drew one.
        """
        maps = []
        for path in self.paths:
            try:
                with PIL.Image.open(path) as picture:
                    mode, values = picture.mode, np.array(picture)
            except PICTURE_ERRORS as error:
                raise UserError(f"{path}: {error}") from error
            if mode not in ("1", "L", "P"):
                raise UserError(f"{path}: expected grey values of which 0 is no edge, got a picture of mode {mode}")
            maps.append(values > 0)
        return checked(maps, str(self), self.image)


class MismatchError(UserError):
    """Edges and their image differ in size: a mistake in the dataset, not a file that cannot be read."""


def read_soft_map(path: Path) -> np.ndarray:
    """Return a soft edge map float64 `[H, W]` in 0..1: a grey PNG of 8 or 16 bits, or a `.npy` file of probabilities.

    Raises:
        UserError: the file cannot be read, or is no such map.
    """
    if path.suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: {error}") from error
        fits = values.ndim == 2 and values.dtype.kind == "f" and values.size
        if not fits or not (values.min() >= 0 and values.max() <= 1):
            raise UserError(f"{path}: expected probabilities [H, W] from 0 to 1, got {values.dtype} {values.shape}")
        return values.astype(np.float64)
    try:
        with PIL.Image.open(path) as picture:
            mode, values = picture.mode, np.array(picture)
    except PICTURE_ERRORS as error:
        raise UserError(f"{path}: {error}") from error
    if mode not in ("1", "L", "I", "I;16"):
        raise UserError(f"{path}: expected grey values of 8 or 16 bits, got a picture of mode {mode}")
    return values / {"1": 1.0, "L": 255.0}.get(mode, 65535.0)


def checked(maps: Sequence[np.ndarray], name: str, image: Path | None = None) -> np.ndarray:
    """Return the annotators' binary maps bool `[H, W]` as one array `[A, H, W]`.

    Args:
        maps: of one image.
        name: of the file or folder that they come from, for messages.
        image: file of the image, whose size is compared unless it is None.

    Raises:
        UserError: no annotator, sizes that differ, no edge at all, or an image file that cannot be read.
        MismatchError: the image has another size.
    """
    if not maps:
        raise UserError(f"{name}: expected the edges of one annotator or more, got none")
    size = maps[0].shape
    for number, found in enumerate(maps, start=1):
        if found.shape != size:
            raise UserError(
                f"{name}: expected maps of one size, got {_size(size)} of annotator 1 and {_size(found.shape)} of "
                f"annotator {number}"
            )
    if image is not None:
        try:
            with PIL.Image.open(image) as picture:
                # People draw on the upright image: EXIF orientations from 5 on lie on their side.
                turned = picture.getexif().get(_ORIENTATION, 1) >= 5
                expected = picture.size if turned else picture.size[::-1]
        except PICTURE_ERRORS as error:
            raise UserError(f"{image}: {error}") from error
        if size != expected:
            raise MismatchError(f"{name}: expected maps of the size of {image}, {_size(expected)}, got {_size(size)}")
    edges = np.stack(maps)
    if not edges.any():
        raise UserError(f"{name}: expected edges, got {len(maps)} maps without a single edge pixel")
    return edges


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"


@dataclasses.dataclass(frozen=True)
class EdgeSplit:
    """One split.

    Attributes:
        ids: a name for each image, unique within a dataset.
        images: uint8 `[N, H, W, 3]`, or a source each.
        edges: bool `[A, H, W]` each, or what reads them; the number A of annotators may differ.
    """

    ids: list[str]
    images: np.ndarray | list[ImageSource]
    edges: list[np.ndarray] | list[LazyEdges]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> EdgeSplit:
        """Return the images of `rows`, in their order."""
        images = self.images[rows] if isinstance(self.images, np.ndarray) else [self.images[row] for row in rows]
        return EdgeSplit([self.ids[row] for row in rows], images, [self.edges[row] for row in rows])


@dataclasses.dataclass
class EdgeImages(ImageSplits):
    """An edge dataset; its splits are `EdgeSplit`.

    Raises:
        UserError: see `ImageSplits`; or edges in memory do not fit their image.
    """

    def __post_init__(self):
        super().__post_init__()
        for split in self.splits.values():
            for identity, image, edges in zip(split.ids, split.images, split.edges, strict=True):
                if isinstance(image, np.ndarray) and isinstance(edges, np.ndarray):
                    self._check_edges(identity, image, edges)

    def _check_edges(self, identity: str, image: np.ndarray, edges: np.ndarray) -> None:
        if edges.dtype != bool or edges.ndim != 3 or edges.shape[1:] != image.shape[:2] or not edges.any():
            raise UserError(
                f"{self.name}: the edges of {identity}: expected bool [A, {image.shape[0]}, {image.shape[1]}] with an "
                f"edge, got {edges.dtype} {list(edges.shape)} with {np.count_nonzero(edges)} edge pixels"
            )

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, pixels, edges and source; of files that of names, sizes and some bytes."""
        digest = hashlib.sha256(json.dumps([self.name, self.source], sort_keys=True).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.ids]).encode())
            for image, edges in zip(split.images, split.edges, strict=True):
                for value in (image, edges):
                    if isinstance(value, np.ndarray):
                        digest.update(json.dumps([str(value.dtype), value.shape]).encode())
                        digest.update(np.ascontiguousarray(value))
                    else:
                        identity = value.identity() if value is edges else image_identity(value)
                        digest.update(json.dumps(identity).encode())
        return digest.hexdigest()


def edge_names() -> dict[str, str]:
    """Return what each known edge dataset reads, in one sentence."""
    return {name: module.EDGES[name] for name, module in sorted(readers_of("EDGES").items())}


def open_edges(name: str, directory: Path | str | None = None, **options: Any) -> EdgeImages:
    """Open an edge dataset by name.

    A reader is a file of `tfthesis/data/readers` that defines `EDGES` (names, each with a sentence on what must lie in
    the folder) and `open_edges(name, directory, **options)`.

    Raises:
        UserError: unknown name or option, or files that are missing or do not fit.
    """
    return open_by_name("EDGES", "open_edges", "edge dataset", name, directory, options)
