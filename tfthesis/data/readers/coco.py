"""COCO captions with the object categories of the instance annotations as labels.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014; used in Liu 2018, section 7.4.1.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from tfthesis.data.files import check_image, has_word, read_json
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError

DATASETS = {"coco": "annotations/{captions,instances}_{train,val}YEAR.json and the images in trainYEAR/ and valYEAR/"}


@dataclasses.dataclass
class _Part:
    """One official part: items by image id, and the reasons for those left out."""

    items: dict[int, ImageTextItem]
    skipped: list[str]
    classes: tuple[str, ...]


def open_dataset(
    name: str,
    directory: Path | None,
    *,
    year: str | None = None,
    captions: int = 5,
    val_images: int | None = None,
    test_images: int | None = None,
    division: str | None = None,
    seed: int = 0,
) -> ImageTextDataset:
    """Return official train as "train", and official val divided into "val" and "test".

    Args:
        name: "coco".
        directory: with `annotations/` and the image folders.
        year: such as "2014" or "2017"; None takes the one that is there.
        captions: of each image at most, in the order of their ids.
        val_images: number of validation images; None takes half of official val, or all that `division` has.
        test_images: number of test images; None takes all the others. What is left over is not used.
        division: a Karpathy file in `directory`, whose first val and test images are taken (the 1,000 test images of
            Liu 2018 are the first of `dataset_coco.json`). None divides at random.
        seed: of the random division.

    Raises:
        UserError: missing or broken files, a caption without words, or more images asked for than there are. Missing
            and empty images are skipped and listed.
    """
    directory = required(directory, name, DATASETS[name])
    year = year or _only_year(directory)
    train, held_out = (_read_part(directory, f"{part}{year}", captions) for part in ("train", "val"))
    if train.classes != held_out.classes:
        raise UserError(f"{directory}: the categories of train{year} and val{year} differ")
    found = (
        _random_division(held_out, val_images, seed) if division is None else _listed(directory / division, held_out)
    )
    wanted = {"val": val_images, "test": test_images}
    for split, count in wanted.items():
        if not found[split] or (count is not None and not 1 <= count <= len(found[split])):
            raise UserError(f"coco: {split}_images {count}: val{year} leaves {len(found[split])} images for {split!r}")
    splits = {
        split: [held_out.items[number] for number in numbers[: wanted[split]]] for split, numbers in found.items()
    }
    return ImageTextDataset(
        name,
        {"train": [train.items[number] for number in sorted(train.items)], **splits},
        classes=train.classes,
        multi_label=True,
        skipped=train.skipped + held_out.skipped,
        source={"year": year, "captions": captions, "division": division, "seed": seed},
    )


def _random_division(part: _Part, val_images: int | None, seed: int) -> dict[str, list[int]]:
    ids = sorted(part.items)
    order = [ids[index] for index in np.random.default_rng(seed).permutation(len(ids))]
    count = len(ids) // 2 if val_images is None else val_images
    return {"val": order[:count], "test": order[count:]}


def _listed(path: Path, part: _Part) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"val": [], "test": []}
    for record in read_json(path, ["images"])["images"]:
        number = _field(path, record, "cocoid")
        if record.get("split") in found and number in part.items:
            found[record["split"]].append(number)
    return found


def _only_year(directory: Path) -> str:
    files = sorted((directory / "annotations").glob("captions_train*.json"))
    years = [re.sub(r"\D", "", path.stem) for path in files]
    if len(years) != 1:
        raise UserError(f"{directory}: expected one annotations/captions_trainYEAR.json, found years {years or 'none'}")
    return years[0]


def _read_part(directory: Path, part: str, captions: int) -> _Part:
    caption_file = directory / "annotations" / f"captions_{part}.json"
    instance_file = directory / "annotations" / f"instances_{part}.json"
    images, sentences = _sentences(caption_file)
    classes, labels = _labels(instance_file)
    items, skipped = {}, []
    for number, file in images.items():
        path = directory / part / file
        reason = check_image(path)
        if not sentences[number]:
            reason = reason or "no caption"
        if reason:
            skipped.append(f"{part}: image {file}: {reason}")
            continue
        chosen = tuple(text for _, text in sorted(sentences[number])[:captions])
        present = tuple(label for label in classes if label in labels[number])
        items[number] = ImageTextItem(f"{part}/{file}", path, chosen, present)
    if not items:
        raise UserError(f"{directory / part}: none of the {len(images)} images of {caption_file.name} is there")
    return _Part(items, skipped, classes)


def _sentences(path: Path) -> tuple[dict[int, str], dict[int, list[tuple[int, str]]]]:
    """Return image files by image id, and (annotation id, caption) lists by image id."""
    values = read_json(path, ["images", "annotations"])
    sentences: dict[int, list[tuple[int, str]]] = collections.defaultdict(list)
    for record in values["annotations"]:
        caption = _field(path, record, "caption")
        if not isinstance(caption, str) or not has_word(caption):
            raise UserError(f"{path}: annotation {record.get('id')}: expected a caption, got {caption!r}")
        sentences[_field(path, record, "image_id")].append((_field(path, record, "id"), caption.strip()))
    return {_field(path, image, "id"): _field(path, image, "file_name") for image in values["images"]}, sentences


def _labels(path: Path) -> tuple[tuple[str, ...], dict[int, set[str]]]:
    """Return the category names in the order of their ids, and those of each image."""
    values = read_json(path, ["annotations", "categories"])
    categories = sorted(values["categories"], key=lambda record: _field(path, record, "id"))
    names = {record["id"]: _field(path, record, "name") for record in categories}
    labels: dict[int, set[str]] = collections.defaultdict(set)
    for record in values["annotations"]:
        category = _field(path, record, "category_id")
        if category not in names:
            raise UserError(f"{path}: annotation {record.get('id')}: unknown category {category}")
        labels[_field(path, record, "image_id")].add(names[category])
    return tuple(names.values()), labels


def _field(path: Path, record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise UserError(f"{path}: a record lacks {key!r}: {str(record)[:80]}")
    return record[key]
