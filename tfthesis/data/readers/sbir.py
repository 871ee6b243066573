"""Photos and sketches of shoes and chairs: the SBIR dataset of `Sketch me that shoe` (Yu et al. 2016).

The layout is that of the archive sbir_cvpr2016 as published code reads it (seuliufeng/DeepSBIR); the archive itself was
not at hand. shoes/train/images/1.jpg belongs to shoes/train/sketches/1.png. The folder annotation/, which ranks photos
by their likeness to a sketch, is not read.
"""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.domain_images import Domain, TwoDomains, held_out, two_domains
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.errors import UserError, closest

CATEGORIES = ("shoes", "chairs")
DOMAINS = {
    "sbir": (
        "shoes/ and chairs/ (or a folder sbir_cvpr2016 with these), each with train/ and test/, and in these images/ "
        "(or photos/) and sketches/, whose files of one name belong together"
    )
}
_ARCHIVE = "sbir_cvpr2016"
_PHOTOS = ("images", "photos")


def open_domains(
    name: str, directory: Path | None = None, *, category: str = "shoes", val_images: int = 20, seed: int = 0
) -> TwoDomains:
    """Return the photos and the sketches of a category (Liu 2018, section 8.1.5).

    Args:
        name: "sbir".
        directory: with the folders of the categories.
        category: "shoes" (304 pairs for training, 115 for tests) or "chairs" (200 and 97).
        val_images: pairs held out of the training images by lot.
        seed: of that lot.

    Raises:
        UserError: an unknown category, a folder that is missing (the message lists what is there) or empty, or a photo
            or sketch without its other.
    """
    folder = required(directory, name, DOMAINS[name])
    if (folder / _ARCHIVE).is_dir():
        folder = folder / _ARCHIVE
    if category not in CATEGORIES:
        raise closest(category, CATEGORIES, "category of sbir")
    found = {split: _pairs(folder / category / split) for split in ("train", "test")}
    parts = [held_out(domain, val_images, seed, f"{name}, {category}") for domain in found["train"]]
    train, val = zip(*parts, strict=True)
    splits = {"train": train, "val": val, "test": found["test"]}
    source = {"category": category, "val_images": val_images, "seed": seed}
    return two_domains(name, ("photo", "sketch"), splits, source)


def _pairs(folder: Path) -> tuple[Domain, Domain]:
    photos = next((folder / name for name in _PHOTOS if (folder / name).is_dir()), folder / _PHOTOS[0])
    sides = []
    for place in (photos, folder / "sketches"):
        if not place.is_dir():
            raise UserError(_missing(place))
        sides.append({file.stem: file for file in image_files(place)})
    alone = sorted(set(sides[0]) ^ set(sides[1]))
    if alone:
        raise UserError(
            f"{folder}: {len(alone)} names are not both in {photos.name}/ and in sketches/: {alone[:3]}; expected a "
            "sketch of the same name for each photo"
        )
    names = sorted(sides[0])
    photo, sketch = (
        Domain([f"{folder.name}/{stem}" for stem in names], [side[stem] for stem in names]) for side in sides
    )
    return photo, sketch


def _missing(place: Path) -> str:
    """Return the message for a folder that is not there, with what stands in the last one above it that is."""
    above = next((folder for folder in place.parents if folder.is_dir()), None)
    found = sorted(path.name for path in above.iterdir())[:8] if above else []
    there = f"{above} holds {found}" if above else "nor is any folder above it"
    return (
        f"{place} is missing: {there}; expected {DOMAINS['sbir']}. Other layouts can be read as 'unpaired_folders': "
        "move photos to trainA/ and testA/, sketches to trainB/ and testB/"
    )
