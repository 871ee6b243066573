"""Your own edge set: a folder of images and one of edge maps for each split."""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.edge_images import EdgeImages, EdgePictures, EdgeSplit
from tfthesis.data.image_text import required
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

EDGES = {
    "edge_folders": (
        "for one or more of train, val and test: SPLIT/images/NAME.jpg (or .jpeg, .png, .bmp) and "
        "SPLIT/edges/NAME.png, or for several annotators a folder SPLIT/edges/NAME of PNG files; grey values other "
        "than 0 are edges"
    )
}
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


def open_edges(name: str, directory: Path | None = None) -> EdgeImages:
    """Return the images with the maps of their names.

    Args:
        name: "edge_folders".
        directory: with the splits.

    Raises:
        UserError: no split, or a folder or a map is missing.
    """
    folder = required(directory, name, EDGES[name])
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    if not splits:
        raise UserError(f"{folder}: none of the folders {', '.join(SPLITS)}; expected {EDGES[name]}")
    return EdgeImages(name, {split: _read(folder / split, split) for split in splits})


def _read(folder: Path, split: str) -> EdgeSplit:
    for part in ("images", "edges"):
        if not (folder / part).is_dir():
            raise UserError(f"{folder / part} is missing; expected {EDGES['edge_folders']}")
    images = sorted(
        (path for path in (folder / "images").iterdir() if path.suffix.lower() in _ENDINGS), key=lambda path: path.stem
    )
    if not images:
        raise UserError(f"{folder / 'images'}: no images; they end in {', '.join(_ENDINGS)}")
    edges = [EdgePictures(_maps(image, folder / "edges" / image.stem), image) for image in images]
    return EdgeSplit([f"{split}/{image.stem}" for image in images], images, edges)


def _maps(image: Path, place: Path) -> tuple[Path, ...]:
    single = place.with_name(f"{place.name}.png")
    if single.is_file():
        return (single,)
    several = tuple(sorted(place.glob("*.png")))
    if not several:
        raise UserError(f"{image} has no edges: neither a file {single} nor PNG files in {place}")
    return several
