"""What a run measured on the test split: `evaluation.json`, and `evaluation.npz` with a figure an item."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.errors import UserError
from tfthesis.method import Evaluation
from training.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from training.run_directory import RunDirectory

DIGITS = 4


def write_evaluation(run: RunDirectory, evaluation: Evaluation, split: str) -> None:
    """Keep an evaluation in the run directory; the JSON file is written last and stands for both."""
    import numpy as np

    with replacing(run.path / "evaluation.npz") as file:
        np.savez_compressed(file, **{name: np.asarray(array) for name, array in evaluation.samples.items()})
    values = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    values.pop("samples")
    run.write_json("evaluation.json", {"split": split, **plain(values)})


def read_samples(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of `evaluation.npz` in the run directory `path`.

    Raises:
        UserError: the file is missing, damaged, or holds objects.
    """
    import numpy as np

    try:
        with np.load(path / "evaluation.npz", allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path / 'evaluation.npz'}: expected arrays of numbers: {error}") from error


def plain(value: Any) -> Any:
    """Return numpy numbers and arrays inside `value` as JSON values; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_text(recipe: dict[str, Any], evaluation: dict[str, Any], folder: Path) -> str:
    """Return the result of a finished run for a terminal."""
    width = max((len(name) for name in evaluation["scalars"]), default=0)
    figures = [f"  {name:<{width}}  {figure(value)}" for name, value in evaluation["scalars"].items()]
    start = f"{recipe['preset']}, {recipe['variant']}" if recipe["variant"] else recipe["preset"]
    head = f"{recipe['title']} ({start}) on {recipe['fields']['dataset']}, seed {recipe['seed']}"
    return "\n".join(
        [
            head,
            f"{evaluation['split']} split, {evaluation['protocol']}:",
            *figures,
            f"report: {folder / 'report.html'}",
        ]
    )


def figure(value: float | int | None) -> str:
    """Return a number with four significant digits, counts in full, and a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if not math.isfinite(value):
        return str(value)
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(DIGITS - 1 - magnitude, 0)}f}" if -4 < magnitude < 7 else f"{value:.3g}"
