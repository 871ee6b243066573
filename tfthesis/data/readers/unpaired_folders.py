"""Two folders of images for each split, as CycleGAN's datasets are distributed."""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.domain_images import Domain, TwoDomains, held_out, two_domains
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.errors import UserError

DOMAINS = {
    "unpaired_folders": "the folders trainA, trainB, testA and testB, and perhaps valA and valB, each with images"
}


def open_domains(
    name: str,
    directory: Path | None = None,
    *,
    first: str = "a",
    second: str = "b",
    val_images: int = 20,
    seed: int = 0,
) -> TwoDomains:
    """Return the images of the folders that end in A and in B.

    Args:
        name: "unpaired_folders".
        directory: with the folders.
        first, second: words for A and B.
        val_images: of each domain, held out of its training images by lot where its folder of val is missing.
        seed: of that lot.

    Raises:
        UserError: a folder is missing or empty.
    """
    folder = required(directory, name, DOMAINS[name])
    found = {split: [_read(folder, split, side) for side in "AB"] for split in ("train", "test")}
    train, val = [], []
    for number, side in enumerate("AB"):
        if (folder / f"val{side}").is_dir():
            pair = found["train"][number], _read(folder, "val", side)
        else:
            pair = held_out(found["train"][number], val_images, seed, f"{name}, train{side}")
        train.append(pair[0])
        val.append(pair[1])
    splits = {"train": tuple(train), "val": tuple(val), "test": tuple(found["test"])}
    return two_domains(name, (first, second), splits, {"val_images": val_images, "seed": seed})


def _read(folder: Path, split: str, side: str) -> Domain:
    place = folder / f"{split}{side}"
    if not place.is_dir():
        raise UserError(f"{place} is missing; expected {DOMAINS['unpaired_folders']}")
    files = image_files(place)
    return Domain([f"{place.name}/{file.relative_to(place).as_posix()}" for file in files], files)
