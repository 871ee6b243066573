"""Oxford's 102 flowers as a classification dataset, with the published labels and splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from tfthesis.data.image_text import required
from tfthesis.data.labelled_images import LabelledImages, LabelledSplit
from tfthesis.errors import UserError

LABELLED = {"flowers102": "imagelabels.mat, setid.mat and the images jpg/image_00001.jpg and so on"}
# Names of the arrays of setid.mat.
_SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


def open_labelled(name: str, directory: Path | None = None) -> LabelledImages:
    """Return the published splits: 1,020 training, 1,020 validation and 6,149 test images.

    Liu 2018, Table 2.5, counts training and validation images together (2,040). The files hold no names of classes,
    so they are called by their numbers, "001" to "102".

    Args:
        name: "flowers102".
        directory: with the files.

    Raises:
        UserError: a file is missing or damaged, or the splits name an image without a label.
    """
    folder = required(directory, name, LABELLED[name])
    labels = _read(folder / "imagelabels.mat", ["labels"], name)["labels"]
    sets = _read(folder / "setid.mat", list(_SPLITS.values()), name)
    if not len(labels) or labels.min() < 1:
        raise UserError(f"{folder / 'imagelabels.mat'}: expected classes from 1, got {labels[:5].tolist()}")
    classes = tuple(f"{number:03d}" for number in range(1, int(labels.max()) + 1))
    splits = {}
    for split, array in _SPLITS.items():
        numbers = sets[array]
        outside = numbers[(numbers < 1) | (numbers > len(labels))]
        if len(outside):
            raise UserError(
                f"{folder / 'setid.mat'}: {array} names image {outside[0]}, imagelabels.mat has {len(labels)}"
            )
        ids = [f"image_{number:05d}" for number in numbers.tolist()]
        files = [folder / "jpg" / f"{own}.jpg" for own in ids]
        splits[split] = LabelledSplit(ids, labels[numbers - 1] - 1, files)
    return LabelledImages(name, splits, classes)


def _read(file: Path, names: list[str], dataset: str) -> dict[str, np.ndarray]:
    """Return the named arrays of whole numbers of a MATLAB file, flat."""
    if not file.is_file():
        raise UserError(f"dataset {dataset!r}: {file} is missing; expected {LABELLED[dataset]}")
    try:
        arrays = loadmat(file, variable_names=names)
        return {name: arrays[name].ravel().astype(np.int64) for name in names}
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{file}: cannot be read as a MATLAB file: {error}") from error
    except KeyError as error:
        raise UserError(f"{file}: expected the arrays {', '.join(names)}; {error} is missing") from error
