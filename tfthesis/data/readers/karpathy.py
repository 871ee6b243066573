"""Karpathy's JSON files of Flickr8k, Flickr30k and COCO, beside the images.

Source: Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfthesis.data.files import check_image, has_word, image_root, read_json
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError
from tfthesis.method import SPLITS

_LAYOUT = "Karpathy's {} and the images in images/, the folder itself, or {}"
_FILES = {
    "karpathy": ("dataset*.json", ()),
    "flickr8k": ("dataset_flickr8k.json", ("Flicker8k_Dataset", "Flickr8k_Dataset")),
    "flickr30k": ("dataset_flickr30k.json", ("flickr30k-images", "flickr30k_images")),
    "coco_karpathy": ("dataset_coco.json", ()),
}
DATASETS = {
    "karpathy": _LAYOUT.format("dataset*.json", "the folders that it names"),
    "flickr8k": _LAYOUT.format("dataset_flickr8k.json", "Flicker8k_Dataset/"),
    "flickr30k": _LAYOUT.format("dataset_flickr30k.json", "flickr30k-images/"),
    "coco_karpathy": _LAYOUT.format("dataset_coco.json", "train2014/ and val2014/"),
}
_PROBES = 20


def open_dataset(
    name: str, directory: Path | None, *, file: str | None = None, images: str | None = None, restval: bool = True
) -> ImageTextDataset:
    """Return the splits of a Karpathy file.

    Args:
        name: one of `DATASETS`.
        directory: holds the JSON file.
        file: its name; None takes the one that is there.
        images: folder of the images inside `directory`; None looks in the usual ones.
        restval: count the split "restval" (COCO) as training data; False leaves it out.

    Raises:
        UserError: missing or broken files, an unknown split, or a sentence without words. Missing and empty images
            are skipped and listed.
    """
    directory = required(directory, name, DATASETS[name])
    path = _json_file(directory, file or _FILES[name][0])
    records = read_json(path, ["images"])["images"]
    names = [_location(path, record) for record in records]
    folders = [images] if images else ["images", ".", *_FILES[name][1]]
    root = image_root(directory, folders, names[:_PROBES])
    splits: dict[str, list[ImageTextItem]] = {split: [] for split in SPLITS}
    skipped = []
    for record, location in zip(records, names, strict=True):
        split = _split(path, record, restval)
        if split is None:
            continue
        item = ImageTextItem(location, root / location, _captions(path, record, location))
        reason = check_image(root / location)
        if reason:
            skipped.append(f"{split}: image {location}: {reason}")
        else:
            splits[split].append(item)
    filled = {split: items for split, items in splits.items() if items}
    return ImageTextDataset(name, filled, skipped=skipped, source={"file": path.name, "restval": restval})


def _json_file(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        names = [path.name for path in found] or "none"
        raise UserError(f"{directory}: expected one file {pattern}, found {names}; choose with the option 'file'")
    return found[0]


def _location(path: Path, record: Mapping[str, Any]) -> str:
    if not isinstance(record, dict) or not record.get("filename"):
        raise UserError(f"{path}: expected images with a 'filename', got {str(record)[:80]}")
    return "/".join(part for part in (record.get("filepath"), record["filename"]) if part)


def _split(path: Path, record: Mapping[str, Any], restval: bool) -> str | None:
    split = record.get("split")
    if split == "restval":
        return "train" if restval else None
    if split not in SPLITS:
        raise UserError(f"{path}: image {record['filename']}: unknown split {split!r}")
    return split


def _captions(path: Path, record: Mapping[str, Any], location: str) -> tuple[str, ...]:
    captions = []
    for sentence in record.get("sentences") or ():
        raw = sentence.get("raw") or " ".join(sentence.get("tokens") or ())
        if not isinstance(raw, str) or not has_word(raw):
            raise UserError(f"{path}: image {location}: sentence {sentence.get('sentid')} has no words: {raw!r}")
        captions.append(raw.strip())
    if not captions:
        raise UserError(f"{path}: image {location} has no sentences")
    return tuple(captions)
