"""Pairs of images side by side, as pix2pix distributes them, taken apart into two domains."""

from __future__ import annotations

from pathlib import Path

from tfthesis.data.domain_images import Domain, TwoDomains, held_out, two_domains
from tfthesis.data.halves import SIDES, Half
from tfthesis.data.image_files import image_files
from tfthesis.data.image_text import required
from tfthesis.errors import UserError

DOMAINS = {
    "side_by_side": (
        "the folders train and test, and perhaps val, of images that show one domain in their left half and the other "
        "in the right one"
    )
}


def open_domains(
    name: str,
    directory: Path | None = None,
    *,
    left: str = "left",
    right: str = "right",
    val_images: int = 20,
    seed: int = 0,
) -> TwoDomains:
    """Return the halves as two domains.

    Args:
        name: "side_by_side".
        directory: with the folders of the splits.
        left, right: words for the domains of the halves.
        val_images: held out of the training images by lot where there is no folder val.
        seed: of that lot.

    Raises:
        UserError: a folder is missing or empty.
    """
    folder = required(directory, name, DOMAINS[name])
    splits = {split: halves(folder / split, split) for split in ("train", "test")}
    if (folder / "val").is_dir():
        splits["val"] = halves(folder / "val", "val")
    else:
        parts = [held_out(domain, val_images, seed, name) for domain in splits["train"]]
        splits["train"], splits["val"] = zip(*parts, strict=True)
    return two_domains(name, (left, right), splits, {"val_images": val_images, "seed": seed})


def halves(folder: Path, split: str) -> tuple[Domain, Domain]:
    """Return the left and the right halves of the images of a folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; expected {DOMAINS['side_by_side']}")
    files = image_files(folder)
    ids = [f"{split}/{file.relative_to(folder).as_posix()}" for file in files]
    left, right = (Domain(ids, [Half(file, side) for file in files]) for side in SIDES)
    return left, right
