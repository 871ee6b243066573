"""Drawn persons in clothes: photos, joints and body parts of a dataset that needs no files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.person_images import People, PersonImages
from tfthesis.data.scenes.dolls import LOWERS, SLEEVES, VERSION, Doll, draw_doll, sample_doll
from tfthesis.data.scenes.paint import COLOURS
from tfthesis.errors import UserError, closest
from tfthesis.method import SPLITS

PEOPLE = {"paper_dolls": "no folder: the persons are drawn"}
LABELS = {
    "kinds": tuple(f"{sleeves} sleeves, {lower}" for sleeves in SLEEVES for lower in LOWERS),
    "colours": tuple(COLOURS),
}
MIN_SIZE = 32


def open_people(
    name: str,
    directory: Path | None = None,
    *,
    persons: Sequence[int] = (300, 50, 100),
    poses: int = 2,
    labels: str = "colours",
    size: int = 64,
    seed: int = 0,
) -> PersonImages:
    """Return drawn persons; no person is in two splits, and any two images of one person are a pair.

    Args:
        name: "paper_dolls".
        directory: must be None.
        persons: number of training, validation and test persons.
        poses: images of each person, at least 2.
        labels: "colours" (of the upper clothes) or "kinds" (sleeves and lower clothes, which are harder to learn).
        size: side of an image in pixels.
        seed: another one gives other persons of the same kind.

    Raises:
        UserError: an option is out of range, or a folder is given.
    """
    if directory is not None:
        raise UserError(f"dataset {name!r} is drawn, not read: leave out the folder {directory}")
    if labels not in LABELS:
        raise closest(labels, list(LABELS), f"labels of {name}")
    if len(persons) != 3 or min(persons) < 1:
        raise UserError(f"{name}: persons: expected three counts (train, val, test) of at least 1, got {persons}")
    if poses < 2 or size < MIN_SIZE or seed < 0:
        raise UserError(
            f"{name}: expected poses >= 2, size >= {MIN_SIZE} and seed >= 0, got {poses}, {size} and {seed}"
        )
    splits = {
        split: _split([sample_doll((seed, number, n)) for n in range(persons[number])], split, poses, labels, size)
        for number, split in enumerate(SPLITS)
    }
    source = {"version": VERSION, "persons": list(persons), "poses": poses, "labels": labels}
    return PersonImages(name, splits, LABELS[labels], source={**source, "size": size, "seed": seed})


def _split(dolls: list[Doll], split: str, poses: int, labels: str, size: int) -> People:
    drawn = [draw_doll(doll, pose, size) for doll in dolls for pose in range(poses)]
    within = list(itertools.combinations(range(poses), 2))
    return People(
        [f"{split}-{number:05d}-{pose}" for number in range(len(dolls)) for pose in range(poses)],
        np.stack([picture.image for picture in drawn]),
        np.stack([picture.joints for picture in drawn]),
        np.stack([picture.segments for picture in drawn]),
        np.array([[n * poses + a, n * poses + b] for n in range(len(dolls)) for a, b in within], np.int32),
        np.repeat([_label(doll, labels) for doll in dolls], poses).astype(np.int32),
    )


def _label(doll: Doll, labels: str) -> int:
    if labels == "colours":
        return list(COLOURS).index(doll.upper_colour)
    return SLEEVES.index(doll.sleeves) * len(LOWERS) + LOWERS.index(doll.lower)
