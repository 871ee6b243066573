"""An edition as CSV, Markdown and HTML, and as a drawing where it is a sweep or a curve."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.files import replacing
from training.reproduction import cells
from training.reproduction.comparison import Outcome
from training.reproduction.drawing import draw
from training.reproduction.pictures import FOLDER as PICTURES
from training.statistics import Verdict

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
_FIGURE = re.compile(r"[-+]?\d|–$")
CELL_COLUMNS = ("row", "figure", "runs", "mean", "deviation", "low", "high")
CLAIM_COLUMNS = (
    *("better", "than", "figure", "source", "pairs", "difference", "low", "high", "p"),
    *("item_low", "item_high", "detectable", "comparison", "verdict"),
)


def write_pages(outcome: Outcome, folder: Path) -> list[Path]:
    """Write every page of `outcome` into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, text in render(outcome).items():
        path = folder / f"{outcome.edition.name}{ending}"
        with replacing(path) as file:
            file.write(text.encode())
        written.append(path)
    return written


def render(outcome: Outcome) -> dict[str, str]:
    """Return the text of every page of `outcome` by file ending."""
    drawing = draw(outcome)
    pages = {
        ".csv": cells_csv(outcome),
        ".claims.csv": claims_csv(outcome),
        # The first line is read back by training.docs.
        ".md": f"<!-- {outcome.edition.command} -->\n\n{markdown(outcome, heading='#')}",
        ".html": html(outcome, drawing),
    }
    return {**pages, ".svg": drawing} if drawing else pages


def cells_csv(outcome: Outcome) -> str:
    """Return one line a cell: ours with spread and interval, and what the thesis prints for each dataset."""
    table = outcome.edition.table
    lines: list[Sequence[Any]] = [[*CELL_COLUMNS, *(f"thesis {dataset}" for dataset in table.printed)]]
    for result in outcome.rows:
        for column in table.columns:
            s = result.summary(column.scalar)
            ours = [s.count, s.mean, s.deviation, s.low, s.high] if s else [0, None, None, None, None]
            printed = [rows.get(result.row.label, {}).get(column.scalar) for rows in table.printed.values()]
            lines.append([result.row.label, column.scalar, *ours, *printed])
    return _csv(lines)


def claims_csv(outcome: Outcome) -> str:
    """Return one line a comparison of a claim."""
    lines: list[Sequence[Any]] = [CLAIM_COLUMNS]
    for result in outcome.claims:
        for label in result.claim.than:
            c = result.comparisons.get(label)
            values = [0, *[None] * 7, Verdict.UNDECIDED.value]
            if c:
                intervals = [c.low, c.high, c.p, c.item_low, c.item_high]
                values = [c.count, c.difference, *intervals, c.detectable, c.verdict.value]
            head = [result.claim.better, label, result.column.scalar, result.claim.source]
            lines.append([*head, *values, result.verdict.value])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(
        [f"{value:.6g}" if isinstance(value, float) else value for value in line] for line in lines
    )
    return buffer.getvalue()


def markdown(outcome: Outcome, heading: str = "##", images: str = "") -> str:
    """Return the edition for a Markdown page.

    Args:
        outcome: what to show.
        heading: marks of the title's level.
        images: folder of the drawing, relative to the page, with a slash at its end.
    """
    table, edition = outcome.edition.table, outcome.edition
    made = bool(outcome.columns)
    parts = [f"{heading} {table.title}", cells.lead(outcome)]
    if made and table.kind != "table":
        parts.append(f"![{table.title}]({images}{edition.name}.svg)")
    if made:
        parts.append(_grid(*cells.our_cells(outcome)))
    parts += [_album(outcome, name, images) for name in _albums(outcome)]
    if table.printed:
        parts += ["Printed in the thesis:", _grid(*cells.printed_cells(outcome))]
    claims = cells.claim_cells(outcome)
    if claims[1]:
        parts += ["Claimed directions, tested on our runs:", _grid(*claims), cells.rule(outcome)]
    parts += [" ".join(table.note.split())] if table.note else []
    parts.append(
        f"Made by `{edition.command}`. {cells.provenance(outcome)}" if made else f"Make it: `{edition.command}`."
    )
    return "\n\n".join(parts) + "\n"


def _albums(outcome: Outcome) -> list[str]:
    """Return the names of the pictures that some row has."""
    return [name for name in outcome.edition.table.pictures if any(name in row.pictures for row in outcome.rows)]


def _album_lead(outcome: Outcome, name: str) -> str:
    return f"Picture {name} of the runs with seed {outcome.edition.seeds[0]}:"


def _album(outcome: Outcome, name: str, images: str) -> str:
    """Return the pictures of one name for a Markdown page, each below the labels of its rows."""
    parts = [_album_lead(outcome, name)]
    for label, path in _labelled(outcome, name):
        parts += [label, f"![{label}, {name}]({images}../{PICTURES}/{path.parent.name}/{path.name})"]
    return "\n\n".join(parts)


def _album_data(outcome: Outcome, name: str) -> list[tuple[str, str]]:
    """Return row labels and pictures of one name as addresses that hold them."""
    return [
        (label, "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode())
        for label, path in _labelled(outcome, name)
    ]


def _labelled(outcome: Outcome, name: str) -> list[tuple[str, Path]]:
    """Return labels and files; the picture of a run that several rows measure is shown once, with all their labels."""
    labels: dict[Path, list[str]] = {}
    for row in outcome.rows:
        if name in row.pictures:
            labels.setdefault(row.pictures[name], []).append(row.row.label)
    return [(", ".join(rows), path) for path, rows in labels.items()]


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; columns of figures are aligned to the right."""

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    figures = [all(_FIGURE.match(text) for text in column) for column in zip(*lines, strict=True)]
    marks = ["---:" if lines and figures[i] else "---" for i in range(len(header))]
    return "\n".join([line(header), line(marks), *map(line, lines)])


def html(outcome: Outcome, drawing: str | None) -> str:
    """Return the edition as one page that needs no other file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("table.html").render(
        table=outcome.edition.table,
        command=outcome.edition.command,
        lead=cells.lead(outcome).replace("`", ""),
        drawing=drawing,
        ours=cells.our_cells(outcome),
        albums=[(_album_lead(outcome, name), _album_data(outcome, name)) for name in _albums(outcome)],
        printed=cells.printed_cells(outcome),
        claims=cells.claim_cells(outcome),
        rule=cells.rule(outcome).replace("*", ""),
        provenance=cells.provenance(outcome),
    )
