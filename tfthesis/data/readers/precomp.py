"""Precomputed features in the layout of VSE++ and SCAN: `{train,dev,test}_ims.npy` and `_caps.txt`.

Sources: Faghri et al., "VSE++", 2018; Lee et al., "Stacked Cross Attention", 2018, as released.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfthesis.data.files import check_width, read_captions, read_features, read_lines
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError

DATASETS = {"precomp": "{train,dev,test}_ims.npy and _caps.txt (also _ids.txt, _caps_NAME.npy), as VSE++ and SCAN have"}
# Rows that are compared or averaged at a time.
_CHUNK = 4096


def open_dataset(
    name: str,
    directory: Path | None,
    *,
    text: str | None = None,
    captions: int = 5,
    test: str = "test",
    image_dimension: int | None = None,
    text_dimension: int | None = None,
) -> ImageTextDataset:
    """Return precomputed image features with captions; there are no image files.

    Args:
        name: "precomp".
        directory: holds the files; the split "dev" becomes "val".
        text: NAME of the caption features `*_caps_NAME.npy`, one row a caption; None leaves text to an encoder.
        captions: of each image. The image file has one row an image, or each row so many times in a row. Features of
            regions `[N, R, D]` are averaged over the regions.
        test: prefix of the test files ("testall" for all 5000 of COCO).
        image_dimension, text_dimension: expected widths; None takes any.

    Raises:
        UserError: missing files, a broken caption line, unexpected widths, or counts that do not fit.
    """
    directory = required(directory, name, DATASETS[name])
    prefixes = {"train": "train", "val": "dev", "test": test}
    present = {s: p for s, p in prefixes.items() if (directory / f"{p}_ims.npy").is_file()}
    if "train" not in present:
        raise UserError(f"{directory / 'train_ims.npy'}: no such file; expected {DATASETS[name]}")
    splits, image, texts = {}, {}, {}
    for split, prefix in present.items():
        caption_file, image_file = directory / f"{prefix}_caps.txt", directory / f"{prefix}_ims.npy"
        lines = read_captions(caption_file)
        rows = read_features(image_file, image_dimension)
        image[split] = _one_row_an_image(image_file, rows, caption_file, len(lines), captions)
        ids = _ids(directory / f"{prefix}_ids.txt", len(image[split]), captions)
        splits[split] = [
            ImageTextItem(f"{split}/{number}", None, tuple(lines[i * captions : (i + 1) * captions]))
            for i, number in enumerate(ids)
        ]
        if text is not None:
            texts[split] = _text_features(directory / f"{prefix}_caps_{text}.npy", text_dimension, len(lines))
    _same_width({directory / f"{present[split]}_ims.npy": array for split, array in image.items()})
    _same_width({directory / f"{present[split]}_caps_{text}.npy": array for split, array in texts.items()})
    features = {"image": image, **({"text": texts} if text is not None else {})}
    return ImageTextDataset(name, splits, features=features, source={"text": text, "captions": captions, "test": test})


def _one_row_an_image(
    path: Path, rows: np.ndarray, caption_file: Path, caption_count: int, captions: int
) -> np.ndarray:
    """Return features `[N, D]` of the N distinct images."""
    if len(rows) * captions == caption_count:
        return _pooled(rows)
    if len(rows) != caption_count or caption_count % captions:
        raise UserError(
            f"{path}: {len(rows)} rows do not fit the {caption_count} captions of {caption_file.name}; expected "
            f"{caption_count / captions:g} rows ({captions} captions an image) or {caption_count} repeated ones"
        )
    for start in range(0, len(rows), captions * _CHUNK):
        block = rows[start : start + captions * _CHUNK]
        groups = block.reshape(-1, captions, *block.shape[1:])
        different = np.flatnonzero((groups != groups[:, :1]).reshape(len(groups), -1).any(axis=1))
        if len(different):
            row = start + int(different[0]) * captions
            raise UserError(
                f"{path}: expected each image {captions} times in a row, but rows {row} to {row + captions - 1} "
                "differ; give the option captions=1 if every row is an image of its own"
            )
    return _pooled(rows[::captions])


def _pooled(rows: np.ndarray) -> np.ndarray:
    """Return `[N, D]` unchanged, and the mean over the regions of `[N, R, D]`."""
    if rows.ndim == 2:
        return rows
    means = [rows[i : i + _CHUNK].mean(axis=1, dtype=np.float32) for i in range(0, len(rows), _CHUNK)]
    return np.concatenate(means)


def _ids(path: Path, count: int, captions: int) -> list[str]:
    """Return a name for each image: the lines of the file, of which there may be one a caption, or numbers."""
    if not path.is_file():
        return [str(index) for index in range(count)]
    lines = read_lines(path)
    if len(lines) not in (count, count * captions):
        raise UserError(f"{path}: expected {count} lines (images) or {count * captions} (captions), got {len(lines)}")
    return lines if len(lines) == count else lines[::captions]


def _text_features(path: Path, width: int | None, count: int) -> np.ndarray:
    rows = read_features(path, width)
    if rows.ndim != 2 or len(rows) != count:
        raise UserError(f"{path}: expected {count} rows, one a caption, got shape {rows.shape}")
    return rows


def _same_width(arrays: dict[Path, np.ndarray]) -> None:
    widths = [array.shape[1] for array in arrays.values()]
    for path, array in arrays.items():
        check_width(path, array, widths[0])
