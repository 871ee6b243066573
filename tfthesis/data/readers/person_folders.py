"""Your own photos of persons, with joints and body parts as files.

```
photos.csv                 a line a photo: photo,split and perhaps clothes, a class of what is worn
pairs.csv                  a line a pair: first,second, two photos of one person in the same clothes; may be missing
photos/NAME.jpg            or .jpeg, .png, .bmp, at any depth; the photos are named as they lie below this folder
joints/NAME.json           or NAME_keypoints.json: what OpenPose writes, key points of COCO (18) or BODY_25
segments/NAME.png          grey or palette values: 0 background, 1 head, 2 arms, 3 legs, 4 upper and 5 lower clothes;
                           with the option classes=lip the 20 labels of Look into Person
poses/NAME.png             drawings of the joints, red, green and blue of 8 bits; the folder may be missing
masks/NAME.png             grey, 255 on the person and 0 elsewhere; may be missing
heads/NAME.png             grey, 255 on what is pasted back onto a generated image and 0 elsewhere; may be missing
```

Of the last three folders those that are there are used instead of what would be derived from joints and segments, and
hold a file for each photo, of the photo's size; `training.person_parts --maps` writes them. The joints are needed all
the same: clothes are warped by them.

Both CSV files begin with a line of these words. Splits are train, val and test. A photo in which OpenPose found no
person is left out and listed, with its pairs.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np

from tfthesis.data.image_files import ENDINGS
from tfthesis.data.image_text import required
from tfthesis.data.joints import openpose_file, read_openpose
from tfthesis.data.part_maps import TABLES, MaskFile, PartsFile, PoseFile
from tfthesis.data.person_images import JOINTS, People, PersonImages
from tfthesis.errors import UserError, closest
from tfthesis.method import SPLITS

PEOPLE = {
    "person_folders": (
        "photos.csv (photo,split and perhaps clothes), pairs.csv (first,second), photos/NAME.jpg, joints/NAME.json of "
        "OpenPose, segments/NAME.png with the labels 0 to 5 (background, head, arms, legs, upper, lower clothes), and "
        "perhaps poses/NAME.png, masks/NAME.png and heads/NAME.png"
    )
}
#: Folders that may be missing, and what their files are.
READY = {"poses": PoseFile, "masks": MaskFile, "heads": MaskFile}


def open_people(name: str, directory: Path | None = None, *, classes: str = "body") -> PersonImages:
    """Return the photos that photos.csv names; see the layout above.

    Args:
        name: "person_folders".
        directory: with the files.
        classes: of the segmentations: "body" (the five and background) or "lip" (20 classes, regrouped by
            `tfthesis.data.part_maps.LIP`).

    Raises:
        UserError: a file is missing or holds other things, a photo is named twice, or a pair names a photo that
            photos.csv does not have, twice the same, or one of another split. What maps hold is checked when they are
            read.
    """
    folder = required(directory, name, PEOPLE[name])
    if classes not in TABLES:
        raise closest(classes, list(TABLES), "table of classes")
    rows = _table(folder / "photos.csv", ("photo", "split"), ("clothes",))
    _check_rows(rows, folder / "photos.csv")
    found = {row["photo"]: _joints(folder, row["photo"]) for row in rows}
    skipped = [
        f"{row['split']}: image {row['photo']}: OpenPose found no person" for row in rows if found[row["photo"]] is None
    ]
    ready = {kind: file for kind, file in READY.items() if (folder / kind).is_dir()}
    for kind in ready:
        _check_ready(folder, kind, [row["photo"] for row in rows if found[row["photo"]] is not None])
    pairs = _pairs(folder / "pairs.csv", {row["photo"]: row["split"] for row in rows})
    clothes = tuple(sorted({row["clothes"] for row in rows if "clothes" in row}))
    splits = {}
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split and found[row["photo"]] is not None]
        if own:
            maps = {kind: [file(_map(folder, kind, row["photo"])) for row in own] for kind, file in ready.items()}
            splits[split] = dataclasses.replace(_split(folder, own, found, pairs, classes, clothes), **maps)
    # Without such folders a dataset is what it was before they could be read.
    source = {"classes": classes} | ({"ready": sorted(ready)} if ready else {})
    return PersonImages(name, splits, clothes, skipped=skipped, source=source)


def _split(
    folder: Path,
    rows: list[dict[str, str]],
    joints: dict[str, np.ndarray],
    pairs: list[tuple[str, str]],
    classes: str,
    clothes: tuple[str, ...],
) -> People:
    names = [row["photo"] for row in rows]
    place = {name: number for number, name in enumerate(names)}
    own = [(place[first], place[second]) for first, second in pairs if first in place and second in place]
    segments = [_map(folder, "segments", name) for name in names]
    for kind, paths in (("photo", [folder / "photos" / name for name in names]), ("segmentation", segments)):
        for name, path in zip(names, paths, strict=True):
            if not path.is_file():
                raise UserError(f"photos.csv names {name!r}, but its {kind} is missing: no file {path}")
    return People(
        names,
        [folder / "photos" / name for name in names],
        np.stack([joints[name] for name in names]),
        [PartsFile(path, classes) for path in segments],
        np.array(own, np.int32).reshape(-1, 2),
        np.array([clothes.index(row["clothes"]) for row in rows], np.int32) if clothes else None,
    )


def _map(folder: Path, kind: str, photo: str) -> Path:
    return (folder / kind / photo).with_suffix(".png")


def _check_ready(folder: Path, kind: str, photos: list[str]) -> None:
    """Raise `UserError` if an optional folder lacks files of some photos."""
    missing = [photo for photo in photos if not _map(folder, kind, photo).is_file()]
    if missing:
        raise UserError(
            f"{folder / kind}: expected a file for each of the {len(photos)} photos with a person, {len(missing)} are "
            f"missing, the first is {_map(folder, kind, missing[0])}; without this folder they are derived"
        )


def _table(path: Path, columns: tuple[str, ...], further: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Return the lines of a CSV file by the names of its columns, of which `further` may be missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: {error}; expected a table with the columns {', '.join(columns)}") from error
    head = tuple(lines[0]) if lines else ()
    if head not in (columns, columns + further):
        more = f", and perhaps {', '.join(further)}" if further else ""
        raise UserError(f"{path}: expected a first line {','.join(columns)}{more}, got {','.join(head)!r}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(head) or not all(line):
            raise UserError(f"{path}, line {number}: expected {', '.join(head)}, got {line}")
    return [dict(zip(head, line, strict=True)) for line in lines[1:]]


def _check_rows(rows: list[dict[str, str]], path: Path) -> None:
    if not rows:
        raise UserError(f"{path}: no photos")
    seen: set[str] = set()
    for row in rows:
        if row["split"] not in SPLITS:
            raise UserError(f"{path}: photo {row['photo']!r}: {closest(row['split'], SPLITS, 'split')}")
        if Path(row["photo"]).suffix.lower() not in ENDINGS:
            raise UserError(f"{path}: expected photos that end in {', '.join(ENDINGS)}, got {row['photo']!r}")
        stem = str(Path(row["photo"]).with_suffix(""))
        if stem in seen:
            raise UserError(f"{path}: two photos {stem!r}, which would share joints and segmentation")
        seen.add(stem)


def _joints(folder: Path, photo: str) -> np.ndarray | None:
    stem = (folder / "joints" / photo).with_suffix("")
    path = openpose_file(stem)
    if path is None:
        raise UserError(f"photos.csv names {photo!r}, but its {len(JOINTS)} joints are missing: no file {stem}.json")
    joints = read_openpose(path)
    # A file may hold a person without a single joint.
    return joints if joints is not None and joints[:, 2].any() else None


def _pairs(path: Path, splits: dict[str, str]) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    pairs = [(row["first"], row["second"]) for row in _table(path, ("first", "second"))]
    for pair in pairs:
        for photo in pair:
            if photo not in splits:
                raise UserError(f"{path}: pair {', '.join(pair)}: photos.csv has no photo {photo!r}")
        if pair[0] == pair[1]:
            raise UserError(f"{path}: expected two different photos, got {', '.join(pair)}")
        if splits[pair[0]] != splits[pair[1]]:
            raise UserError(
                f"{path}: pair {', '.join(pair)}: expected photos of one split, got {splits[pair[0]]} and "
                f"{splits[pair[1]]}"
            )
    return pairs
