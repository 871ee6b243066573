"""Export a finished run for serving: `python -m training.export --run-dir RUN --export-dir saved_models`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfthesis.errors import UserError
from tfthesis.method import Spec
from training.command_line import Parser, add_export_options
from training.request import Request, first_difference, without_places
from training.run_directory import RunDirectory

if TYPE_CHECKING:
    import keras


def load_model(folder: Path, request: Request) -> keras.Model:
    """Return the trained model of the run directory `folder`, read in safe mode.

    Raises:
        UserError: the file is missing or does not load.
    """
    from tfthesis import saving

    path = folder / "model.keras"
    if not path.exists():
        raise UserError(f"{folder}: no model.keras; run the same training command again to finish it")
    # A method outside of this library registers its own classes when it builds.
    request.method.build(request.recipe, read_spec(folder))
    try:
        return saving.load_model(path)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise UserError(f"{path} does not load in safe mode: {error}") from error


def read_spec(folder: Path) -> Spec:
    """Return the spec of a run."""
    return Spec.from_json(RunDirectory(folder).read_json("spec.json"))


def export_run(
    folder: Path, export_dir: Path, name: str | None = None, kind: str = "exact", split: str = "test"
) -> Path:
    """Export the finished run in `folder` as `export_dir/<name>/<version>`; returns that path.

    An export that was made before and still exists is not made again.

    Args:
        folder: a run directory with DONE.
        export_dir: folder of all served models.
        name: to serve under; method and preset unless given.
        kind: "exact" or "scann".
        split: whose items a served search finds.

    Raises:
        UserError: the run is not finished, its data changed since, or an argument does not fit.
    """
    if not (folder / "DONE").exists():
        raise UserError(f"{folder} is not a finished run: there is no DONE in it")
    run = RunDirectory(folder)
    request = Request.from_json(run.read_json("recipe.json"))
    name = name or request.served_name
    wanted = {"name": name, "kind": kind, "split": split, "root": str(export_dir.resolve())}
    made = run.read_json("exports.json", [])
    for entry in made:
        if wanted.items() <= entry.items() and Path(entry["path"]).is_dir():
            return Path(entry["path"])

    from training.execution import fits_of

    with fits_of(folder):
        path = _export(run, request, export_dir, name, kind, split)
    run.write_json("exports.json", [*made, {**wanted, "path": str(path.resolve())}])
    return path


def _export(run: RunDirectory, request: Request, export_dir: Path, name: str, kind: str, split: str) -> Path:
    data = request.open_data()
    difference = first_difference(without_places(run.read_json("spec.json")), without_places(data.spec.to_json()))
    if difference:
        raise UserError(f"{run.path}: the data changed since training, so the export would not match: {difference}")

    from tfthesis.export.exporter import export

    return export(
        request.method,
        name,
        load_model(run.path, request),
        request.recipe,
        data.spec,
        data,
        export_dir,
        kind=kind,
        split=split,
        model_card=(run.path / "model_card.md").read_text(encoding="utf-8"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Export a finished run for serving."""
    parser = Parser(prog="python -m training.export", description="Export a finished run for serving.")
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="folder of a finished run")
    parser.add_argument("--export-dir", type=Path, default=Path("saved_models"), metavar="DIR", help="(saved_models)")
    add_export_options(parser, "--name")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options = parser.parse(argv)
        print(export_run(options.run_dir, options.export_dir, options.name, options.index, options.index_split))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was exported", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
