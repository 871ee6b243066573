"""Cross-validation inside the training and validation splits."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from tfthesis.data.image_text import ImageTextDataset
from tfthesis.errors import UserError


def take_fold(dataset: ImageTextDataset, fold: str) -> ImageTextDataset:
    """Return the images of `train` and `val` divided anew, so that choices can be measured without the test split.

    The images are shuffled, the same way for every fold, and cut into pieces. Of fold `k/n` the piece k becomes `test`,
    the next one `val`, and the others `train`. The dataset's own test split is left out.

    Args:
        dataset: with `train` and `val`, and features of them, if any.
        fold: `k/n` with `0 <= k < n` and `n >= 3`, such as "0/5".

    Raises:
        UserError: `fold` is no such pair, a split is missing, or there are fewer images than pieces.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", str(fold))
    number, count = (int(part) for part in found.groups()) if found else (0, 0)
    if count < 3 or number >= count:
        raise UserError(f"option fold: expected k/n with 0 <= k < n and n >= 3, such as 0/5, got {fold!r}")
    items = [*dataset.items("train"), *dataset.items("val")]
    if len(items) < count:
        raise UserError(f"option fold: {dataset.name} has {len(items)} images to divide into {count} pieces")
    pieces = np.array_split(np.random.default_rng(0).permutation(len(items)), count)
    held_out = {number, (number + 1) % count}
    rows = {
        "train": np.concatenate([piece for i, piece in enumerate(pieces) if i not in held_out]),
        "val": pieces[(number + 1) % count],
        "test": pieces[number],
    }
    lengths = [len(item.captions) for item in items]
    starts = np.cumsum([0, *lengths])
    captions = {
        split: np.concatenate([np.arange(starts[row], starts[row + 1]) for row in chosen])
        for split, chosen in rows.items()
    }
    chosen_rows = {"image": rows, "text": captions}
    return dataclasses.replace(
        dataset,
        splits={split: [items[row] for row in chosen] for split, chosen in rows.items()},
        features=dataset.features
        and {
            modality: {split: _pooled(arrays)[chosen] for split, chosen in chosen_rows[modality].items()}
            for modality, arrays in dataset.features.items()
        },
        source={**dataset.source, "fold": fold},
    )


def _pooled(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays["train"], arrays["val"]])
