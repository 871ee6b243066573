"""The text files of the Berkeley benchmark: written, read and compared.

`eval_bdry.txt` is one line: threshold, recall, precision and F of ODS, those three of OIS, and AP. `eval_bdry_img.txt`
has a line an image: its number from 1, its best threshold, recall, precision and F. `eval_bdry_thr.txt` has a line a
threshold: threshold, recall, precision and F. Numbers have six digits.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tfthesis.edges.scores import EdgeScores
from tfthesis.errors import UserError

SUMMARY, IMAGES, CURVE = "eval_bdry.txt", "eval_bdry_img.txt", "eval_bdry_thr.txt"
FIGURES = ("ods_threshold", "ods_recall", "ods_precision", "ods_f", "ois_recall", "ois_precision", "ois_f", "ap")


@dataclasses.dataclass(frozen=True)
class OfficialResults:
    """What the three files say.

    Attributes:
        summary: `[8]`, in the order of `FIGURES`.
        images: `[N, 4]`, best threshold, recall, precision and F of each image, in the order of their names.
        curve: `[T, 4]`, threshold, recall, precision and F.
    """

    summary: np.ndarray
    images: np.ndarray
    curve: np.ndarray

    @classmethod
    def of(cls, scores: EdgeScores) -> OfficialResults:
        """Return scores in this shape."""
        ods, ois = dataclasses.astuple(scores.ods), dataclasses.astuple(scores.ois)
        return cls(
            np.array([*ods, *ois[1:], scores.average_precision]),
            np.array([dataclasses.astuple(one) for one in scores.images]),
            np.stack([scores.thresholds, scores.recall, scores.precision, scores.f], axis=1),
        )

    @classmethod
    def read(cls, folder: Path) -> OfficialResults:
        """Return the results of a folder.

        Raises:
            UserError: a file is missing or of another form.
        """
        images = _table(folder / IMAGES, 5)
        if not np.array_equal(images[:, 0], np.arange(1, len(images) + 1)):
            raise UserError(f"{folder / IMAGES}: expected lines that are numbered from 1")
        return cls(_table(folder / SUMMARY, 8)[0], images[:, 1:], _table(folder / CURVE, 4))

    def texts(self) -> dict[str, str]:
        """Return the content of each file by its name."""
        return {
            SUMMARY: _lines(self.summary[None]),
            IMAGES: _lines(np.column_stack([np.arange(1, len(self.images) + 1), self.images])),
            CURVE: _lines(self.curve),
        }

    def expect(self, images: int, thresholds: np.ndarray) -> None:
        """Raise `UserError` unless these are results of so many images at `thresholds` `[T]`, to the digits of a file.

        Whoever wants to compare learns so before anything is counted.
        """
        if (len(self.images), len(self.curve)) != (images, len(thresholds)):
            raise UserError(
                f"expected results of as many images and thresholds, got {images} and {len(thresholds)} beside "
                f"{len(self.images)} and {len(self.curve)}"
            )
        if np.abs(self.curve[:, 0] - thresholds).max() > 1e-5:
            raise UserError("expected results at the same thresholds")

    def differences(self, other: OfficialResults) -> dict[str, float]:
        """Return the absolute difference of each of `FIGURES`, and the largest ones of images and curve.

        `image_f` and `image_threshold` are maxima over images, `curve_recall`, `curve_precision` and `curve_f` over
        thresholds.

        Raises:
            UserError: the numbers of images or the thresholds differ.
        """
        other.expect(len(self.images), self.curve[:, 0])
        found = dict(zip(FIGURES, np.abs(self.summary - other.summary).tolist(), strict=True))
        images, curve = (np.abs(a - b).max(axis=0) for a, b in ((self.images, other.images), (self.curve, other.curve)))
        found["image_threshold"], found["image_f"] = float(images[0]), float(images[3])
        for place, name in enumerate(("curve_recall", "curve_precision", "curve_f"), start=1):
            found[name] = float(curve[place])
        return found


def _lines(table: np.ndarray) -> str:
    return "".join(" ".join(f"{value:10.6g}" for value in row) + "\n" for row in table)


def _table(path: Path, columns: int) -> np.ndarray:
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        table = np.array([[float(word) for word in row] for row in rows])
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    if table.ndim != 2 or table.shape[1] != columns:
        raise UserError(f"{path}: expected lines of {columns} numbers, got an array of shape {list(table.shape)}")
    return table
