"""Pascal Sentence features as published with DSCMR: VGG-19 fc7 and a sentence CNN, in MATLAB files.

Source: Zhen et al., "Deep Supervised Cross-modal Retrieval", 2019. One text an image, known by its features only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.files import check_width
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem, required
from tfthesis.errors import UserError

DATASETS = {"pascal_dscmr": "{train,test}_img.mat, _txt.mat and _img_lab.mat, as DSCMR has"}


def open_dataset(
    name: str,
    directory: Path | None,
    *,
    splits: Sequence[str] = ("train", "test"),
    image_dimension: int | None = 4096,
    text_dimension: int | None = 300,
) -> ImageTextDataset:
    """Return image and text features with one class label each; captions are empty sentences.

    Args:
        name: "pascal_dscmr".
        directory: holds the files.
        splits: which to read; all files of a split are needed.
        image_dimension, text_dimension: expected widths; None takes any.

    Raises:
        UserError: a file is missing or damaged, or has an unexpected width or number of rows.
    """
    directory = required(directory, name, DATASETS[name])
    image, text, label = {}, {}, {}
    for split in splits:
        image[split] = _matrix(directory, f"{split}_img", image_dimension)
        text[split] = _matrix(directory, f"{split}_txt", text_dimension)
        label[split] = _matrix(directory, f"{split}_img_lab", 1)[:, 0].astype(np.int64)
        counts = [len(array[split]) for array in (image, text, label)]
        if len(set(counts)) != 1:
            raise UserError(f"{directory}: split {split!r}: images, texts and labels differ in number: {counts}")
    known = sorted({int(value) for values in label.values() for value in values})
    return ImageTextDataset(
        name,
        {
            split: [ImageTextItem(f"{split}/{index}", None, ("",), (str(value),)) for index, value in enumerate(values)]
            for split, values in label.items()
        },
        classes=tuple(map(str, known)),
        features={"image": image, "text": text},
        source={"splits": list(splits)},
    )


def _matrix(directory: Path, variable: str, width: int | None) -> np.ndarray:
    from scipy.io import loadmat

    path = directory / f"{variable}.mat"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the splits that are complete with the option 'splits'")
    try:
        array = loadmat(path, variable_names=[variable]).get(variable)
    except (ValueError, NotImplementedError, OSError) as error:
        raise UserError(f"{path}: not a MATLAB 5 file: {error}") from error
    if array is None or array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
        raise UserError(f"{path}: expected a matrix of numbers named {variable!r}")
    check_width(path, array, width)
    return array
