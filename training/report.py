"""Render `report.html` and `model_card.md` from the files of a run directory, and from nothing else."""

from __future__ import annotations

import argparse
import base64
import csv
import html
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tfthesis.errors import UserError
from training.curves import draw_curves, draw_metrics
from training.files import replacing
from training.results import figure

TEMPLATES = Path(__file__).parent / "templates"


def render(folder: Path) -> list[Path]:
    """Write report and model card into the run directory `folder`; returns their paths.

    Raises:
        UserError: it is no run directory.
    """
    content = collect(folder)
    environment = _templates()
    written = []
    for name in ("report.html", "model_card.md"):
        text = environment.get_template(name).render(content)
        with replacing(folder / name) as file:
            file.write(text.encode())
        written.append(folder / name)
    return written


def collect(folder: Path) -> dict[str, Any]:
    """Return what the templates show, read from the files of a run."""
    recipe = _read(folder, "recipe.json")
    if recipe is None:
        raise UserError(f"{folder}: no recipe.json, so this is not the folder of a run")
    evaluation, data = _read(folder, "evaluation.json"), _read(folder, "data.json") or {}
    spec = _read(folder, "spec.json") or {"inputs": {}, "classes": [], "multi_label": False, "encoders": {}}
    training = draw_metrics(read_table(folder, "metrics.csv"))
    curves = draw_curves(evaluation["curves"]) if evaluation else []
    pictures = _read(folder, "pictures.json") or []
    return {
        "recipe": recipe,
        "spec": spec,
        "encoders": spec["encoders"],
        "environment": _read(folder, "environment.json") or {"packages": {}},
        "evaluation": evaluation,
        "data": {name: value for name, value in data.items() if name != "skipped"},
        "skipped": list(skipped_items(data.get("skipped"))),
        "batches": _read(folder, "skipped.json") or [],
        "changes": _read(folder, "changes.json") or [],
        "training": [_inline(image, "svg+xml", caption) for image, caption in training],
        "speed": speed(read_table(folder, "timings.csv")),
        "curves": [_inline(image, "svg+xml", caption) for image, caption in curves],
        "pictures": [_inline((folder / entry["file"]).read_bytes(), "png", entry["caption"]) for entry in pictures],
    }


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv` or `timings.csv`; none if the run has no gradient stage."""
    path = folder / name
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def speed(timings: Sequence[Mapping[str, str]]) -> dict[str, float] | None:
    """Return seconds of all steps, rows a second and the share of waiting for input, over all epochs."""
    seconds = sum(float(row["seconds"]) for row in timings)
    if not seconds:
        return None
    rows = sum(float(row["rows_per_second"]) * float(row["seconds"]) for row in timings)
    waited = sum(float(row["waiting"]) * float(row["seconds"]) for row in timings)
    return {"seconds": seconds, "rows_per_second": rows / seconds, "waiting": waited / seconds}


def skipped_items(skipped: Any) -> Iterator[str]:
    """Yield each skipped item as text, whether they are listed, listed beside their count, or by split or reason."""
    if isinstance(skipped, Mapping) and "items" in skipped:
        yield from skipped_items(skipped["items"])
    elif isinstance(skipped, Mapping):
        for name, items in skipped.items():
            yield from (f"{name}: {item}" for item in skipped_items(items))
    elif isinstance(skipped, list | tuple):
        yield from (item if isinstance(item, str) else json.dumps(item) for item in skipped)
    elif skipped:
        yield str(skipped)


def setting(value: Any) -> str:
    """Return a recipe value for reading."""
    if isinstance(value, list):
        return ", ".join(setting(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested facts as `(name, value)` pairs in order."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        name = f"{prefix} {name}".strip()
        if isinstance(value, Mapping):
            pairs += flat(value, name)
        else:
            pairs.append((name, setting(value) if isinstance(value, bool | list) else value))
    return pairs


def inputs(shapes: Mapping[str, Sequence[int | None]]) -> str:
    """Return the inputs of a model with their shapes."""
    sizes = {name: ", ".join("any" if size is None else str(size) for size in shape) for name, shape in shapes.items()}
    return ", ".join(f"{name} ({size})" for name, size in sizes.items())


def columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every key of the rows of a table, in order of appearance."""
    return list(dict.fromkeys(name for record in records for name in record))


def markdown(value: Any) -> str:
    """Return text that Markdown shows as it stands, inside a table too."""
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(str(value), quote=False))
    return " ".join(text.split())


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        figure=figure,
        setting=setting,
        flat=flat,
        columns=columns,
        md=markdown,
        words=lambda name: str(name).replace("_", " "),
        base=lambda name: Path(name).stem,
        inputs=inputs,
    )
    return environment


def _read(folder: Path, name: str) -> Any:
    path = folder / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _inline(image: bytes, kind: str, caption: str) -> dict[str, str]:
    return {"source": f"data:image/{kind};base64,{base64.b64encode(image).decode()}", "caption": caption}


def main(argv: Sequence[str] | None = None) -> int:
    """Render the report of a run again."""
    parser = argparse.ArgumentParser(prog="python -m training.report", description=main.__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="folder of the run")
    try:
        for path in render(parser.parse_args(argv).run_dir):
            print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
