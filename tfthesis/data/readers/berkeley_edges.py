"""Edge datasets in the layout of the Berkeley benchmark: BSDS500, and NYUD as edge detectors are measured on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tfthesis.data.edge_images import EdgeImages, EdgeSplit, checked
from tfthesis.data.image_text import image_identity, required
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

EDGES = {
    "bsds500": (
        "the folder data of BSDS500: images/{train,val,test}/NAME.jpg and groundTruth/{train,val,test}/NAME.mat, each "
        "a cell array groundTruth of structs with Boundaries and Segmentation, one an annotator"
    ),
    "nyud": (
        "images/test/NAME.png (or .jpg) and groundTruth/test/NAME.mat, each a cell array groundTruth of structs with "
        "Boundaries; train and val likewise, if they are there"
    ),
}
_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class BerkeleyFile:
    """The annotators of one `.mat` file.

    Attributes:
        path: of the file.
        image: that it belongs to; None where it is not known.
    """

    path: Path
    image: Path | None = None

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)

    def read(self) -> np.ndarray:
        """Return every annotator's edges bool `[A, H, W]`.

        Raises:
            UserError: the file is of another structure, has no edge, or is not of the image's size.
        """
        return checked([found > 0 for found in self._field("Boundaries")], str(self.path), self.image)

    def read_segmentations(self) -> list[np.ndarray]:
        """Return every annotator's segmentation: integer labels from 1, `[H, W]` each.

        Raises:
            UserError: the file is of another structure, such as those of NYUD that hold edges alone.
        """
        return self._field("Segmentation")

    def _field(self, name: str) -> list[np.ndarray]:
        expected = f"{self.path}: expected a cell array groundTruth of structs with a matrix {name}"
        try:
            with self.path.open("rb") as file:
                cells = scipy.io.loadmat(file, variable_names=["groundTruth"])["groundTruth"]
        # Cut and foreign files end in whatever the parser meets first.
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise UserError(f"{self.path}: {reason}" if reason else f"{expected}; {error!r}") from error
        found = []
        for number, cell in enumerate(cells.ravel(), start=1):
            struct = cell.ravel() if isinstance(cell, np.ndarray) else np.array([])
            if len(struct) != 1 or name not in (struct.dtype.names or ()):
                raise UserError(f"{expected}, got {_described(cell)} for annotator {number}")
            matrix = struct[0][name]
            if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
                raise UserError(f"{expected}, got {_described(matrix)} for annotator {number}")
            found.append(matrix)
        return found


def _described(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    fields = f" with the fields {', '.join(value.dtype.names)}" if value.dtype.names else ""
    return f"{value.dtype.kind if fields else value.dtype} {list(value.shape)}{fields}"


def open_edges(name: str, directory: Path | None = None) -> EdgeImages:
    """Return the official splits; images are sorted by name.

    Args:
        name: "bsds500" or "nyud".
        directory: with images and groundTruth.

    Raises:
        UserError: a folder or a file is missing.
    """
    folder = required(directory, name, EDGES[name])
    wanted = SPLITS if name == "bsds500" else [split for split in SPLITS if (folder / "images" / split).is_dir()]
    if "test" not in wanted:
        raise UserError(f"dataset {name!r}: {folder / 'images' / 'test'} is missing; expected {EDGES[name]}")
    return EdgeImages(name, {split: _read(folder, split, name) for split in wanted})


def _read(folder: Path, split: str, name: str) -> EdgeSplit:
    images, truths = folder / "images" / split, folder / "groundTruth" / split
    for part in (images, truths):
        if not part.is_dir():
            raise UserError(f"dataset {name!r}: {part} is missing; expected {EDGES[name]}")
    paths = sorted((path for path in images.iterdir() if path.suffix.lower() in _ENDINGS), key=lambda path: path.stem)
    if not paths:
        raise UserError(f"{images}: no images; they end in {', '.join(_ENDINGS)}")
    edges = [BerkeleyFile(truths / f"{path.stem}.mat", path) for path in paths]
    for path, truth in zip(paths, edges, strict=True):
        if not truth.path.is_file():
            raise UserError(f"{path} has no edges: no file {truth.path}")
    return EdgeSplit([path.stem for path in paths], paths, edges)
