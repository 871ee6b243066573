"""PASCAL Context (Mottaghi et al. 2014): borders of more than 400 classes, as coarse edges (Liu 2018, section 3.3)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tfthesis.data.edge_images import EdgeImages, EdgeSplit, checked
from tfthesis.data.image_text import image_identity, required
from tfthesis.errors import UserError
from tfthesis.lazy import LazyModule

relaxed = LazyModule("tfthesis.edges.relaxed")

EDGES = {
    "pascal_context": (
        "VOCdevkit/VOC2010 with JPEGImages/NAME.jpg and the folder trainval of PASCAL Context (or labels=FOLDER), "
        "NAME.mat with a matrix LabelMap for each image"
    )
}
#: Label of a pixel that nobody has named.
UNLABELLED = 0


@dataclasses.dataclass(frozen=True)
class ContextBorders:
    """The borders between the classes of one `.mat` file, as the edges of one annotator.

    Attributes:
        path: of the file.
        image: that it belongs to.
    """

    path: Path
    image: Path

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)

    def read(self) -> np.ndarray:
        """Return the edges bool `[1, H, W]`; see `tfthesis.edges.relaxed.segmentation_edges`.

        Raises:
            UserError: the file is of another structure, has one class only, or is not of the image's size.
        """
        expected = f"{self.path}: expected a matrix LabelMap of whole numbers"
        try:
            with self.path.open("rb") as file:
                labels = scipy.io.loadmat(file, variable_names=["LabelMap"])["LabelMap"]
        # Cut and foreign files end in whatever the parser meets first.
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise UserError(f"{self.path}: {reason}" if reason else f"{expected}; {error!r}") from error
        if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise UserError(f"{expected}, got {getattr(labels, 'dtype', type(labels).__name__)}")
        return checked([relaxed.segmentation_edges(labels, UNLABELLED)], str(self), self.image)


def open_edges(name: str, directory: Path | None = None, *, labels: str = "") -> EdgeImages:
    """Return the images that PASCAL Context labels, sorted by name, as a split "train": it has no other.

    Args:
        name: "pascal_context".
        directory: of VOC 2010.
        labels: folder of the `.mat` files; empty takes `trainval` in `directory`.

    Raises:
        UserError: a folder or an image is missing.
    """
    folder = required(directory, name, EDGES[name])
    maps = Path(labels) if labels else folder / "trainval"
    if not maps.is_dir():
        raise UserError(f"dataset {name!r}: {maps} is missing; expected {EDGES[name]}")
    files = sorted(maps.glob("*.mat"))
    if not files:
        raise UserError(f"{maps}: no .mat files; expected {EDGES[name]}")
    images = [folder / "JPEGImages" / f"{path.stem}.jpg" for path in files]
    for image, path in zip(images, files, strict=True):
        if not image.is_file():
            raise UserError(f"no file {image}, whose classes {path} holds")
    edges = [ContextBorders(path, image) for path, image in zip(files, images, strict=True)]
    return EdgeImages(name, {"train": EdgeSplit([path.stem for path in files], images, edges)})
