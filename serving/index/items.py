"""What goes into an index: a folder of images, or a file that lists images and texts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfthesis.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
MODALITIES = ("image", "text")


@dataclasses.dataclass(frozen=True)
class Item:
    """An item before it is encoded: the file of an image, or a text.

    Attributes:
        payload: what a search returns with the id, such as a caption.
    """

    id: str
    modality: str
    content: Path | str
    payload: str


def read_items(source: Path) -> list[Item]:
    """Return the items of a folder or a `.jsonl` file.

    In a folder every image is an item, named by its path inside. A line of a file is an object with an `id`, an
    `image` (a path beside the file) or a `text`, and optionally a `payload`; a text is its own payload.

    Raises:
        UserError: there is nothing, a line is not such an object, or two items of a modality share an id.
    """
    source = Path(source)
    if source.is_dir():
        items = _read_folder(source)
    elif source.suffix == ".jsonl":
        items = _read_lines(source)
    else:
        raise UserError(f"--items {source}: expected a folder of images or a .jsonl file")
    if not items:
        raise UserError(f"--items {source}: no items; images end in {', '.join(IMAGES)}")
    seen = set()
    for item in items:
        if (item.modality, item.id) in seen:
            raise UserError(f"--items {source}: two {item.modality}s have the id {item.id!r}")
        seen.add((item.modality, item.id))
    return items


def is_of_shard(name: str, shard: Sequence[int]) -> bool:
    """Return whether the item `name` belongs to shard K of N, `shard`; that follows from the name alone."""
    number, count = shard
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count == number - 1


def of_shard(items: Sequence[Item], shard: Sequence[int]) -> list[Item]:
    """Return the items that belong to `shard`."""
    return [item for item in items if is_of_shard(item.id, shard)]


def _read_folder(folder: Path) -> list[Item]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    return [Item(name, "image", path, name) for name, path in zip(names, files, strict=True)]


def _read_lines(file: Path) -> list[Item]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--items {file}: {error}") from error
    return [_read_line(line, f"--items {file}, line {number}", file) for number, line in enumerate(lines, 1) if line]


def _read_line(line: str, where: str, file: Path) -> Item:
    try:
        values: Mapping[str, Any] = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UserError(f"{where}: expected an object of strings")
    given = [modality for modality in MODALITIES if values.get(modality)]
    unknown = set(values) - {"id", "payload", *MODALITIES}
    if not values.get("id") or len(given) != 1 or unknown:
        raise UserError(
            f"{where}: expected 'id', one of 'image' and 'text', and perhaps 'payload'; got {sorted(values)}"
        )
    content = values[given[0]]
    payload = values.get("payload", content)
    return Item(values["id"], given[0], file.parent / content if given[0] == "image" else content, payload)
