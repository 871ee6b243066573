"""Make a table of a thesis again: `python -m training.reproduce --table 7.2`.

A table is a data file in `training/tables`. Its runs are made by the same command as a run typed by hand, one
after another or several at a time, and kept in `results/runs` as they finish; runs that are there, from this table or
another, are not made again. The pages in `results/tables` are written from what is kept.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.errors import UserError
from training.command_line import Parser
from training.reproduction.edition import Edition
from training.reproduction.store import Record, ResultStore
from training.reproduction.table import Table
from training.reproduction.table_files import FOLDER, load_table, table_names

if TYPE_CHECKING:
    from training.reproduction.execution import Trainer

USER_ERROR, INCOMPLETE, INTERRUPTED = 2, 1, 130


def parser() -> Parser:
    """Return the options of `python -m training.reproduce`."""
    made = Parser(
        prog="python -m training.reproduce",
        description="Make the tables, sweeps and curves of the theses again, beside their printed figures.",
        epilog="Exit codes: 0 all runs are there, 1 some could not be made, 2 a mistake in what was asked, "
        "130 interrupted. Run the same command again to go on.",
    )
    made.add_argument("--list", action="store_true", help="list the tables with what they need and cost")
    made.add_argument("--table", metavar="NAME", help="a table of --list, such as 7.2")
    made.add_argument("--scale", metavar="PRESET", help="preset of the rows that name none (the table's own)")
    made.add_argument("--seeds", metavar="N,N,...", type=_seeds, default=(), help="seeds of the runs (the table's own)")
    made.add_argument("--data", metavar="NAME", help="dataset instead of the recipes'")
    made.add_argument("--data-dir", type=Path, metavar="DIR", help="folder that holds the data")
    made.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a recipe field in every row"
    )
    made.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="results and pages (results)")
    made.add_argument("--runs-root", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs (runs)")
    made.add_argument("--tables", type=Path, default=FOLDER, metavar="DIR", help="folder of the table files")
    made.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=1,
        help="runs at a time, each with its share of the cores (1); one a core is fastest for small models",
    )
    made.add_argument("--again", action="store_true", help="repeat runs whose results are kept")
    made.add_argument("--render-only", action="store_true", help="write the pages from what is kept; run nothing")
    return made


def main(argv: Sequence[str] | None = None, train: Trainer | None = None) -> int:
    """Do what the command line says; returns the exit code. `train` stands in for `training.run` in tests."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parser().parse(argv)
        if options.list:
            print(listing_text(ResultStore(options.out), options.tables))
            return 0
        if not options.table:
            raise UserError("--table is missing; python -m training.reproduce --list shows the tables")
        if options.jobs < 1:
            raise UserError(f"--jobs: expected at least 1, got {options.jobs}")
        return _reproduce(options, train)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; finished runs are kept, and the same command goes on", file=sys.stderr)
        return INTERRUPTED


def edition(options: argparse.Namespace) -> Edition:
    """Return the edition that parsed options ask for.

    Raises:
        UserError: the table or the scale is unknown, or an option does not fit the table.
    """
    table = load_table(options.table, options.tables)
    return Edition(
        table,
        options.scale or table.preset,
        data=options.data,
        data_dir=options.data_dir,
        seeds=options.seeds,
        changes=tuple(options.set),
    )


def _reproduce(options: argparse.Namespace, train: Trainer | None) -> int:
    # Imported here, so that --list does not wait for scipy.
    from training.reproduction.comparison import assess
    from training.reproduction.execution import fill
    from training.reproduction.pages import markdown, write_pages
    from training.reproduction.pictures import keep_pictures

    wanted, store = edition(options), ResultStore(options.out)
    failures: dict[str, str] = {}
    if not options.render_only:
        signal.signal(signal.SIGTERM, _terminate)
        failures = fill(
            wanted, store, runs_root=options.runs_root, say=_say, train=train, again=options.again, jobs=options.jobs
        )
        keep_pictures(wanted, store, options.runs_root)
    outcome = assess(wanted, store)
    written = write_pages(outcome, options.out / "tables") if outcome.columns else []
    print(markdown(outcome, heading="#"))
    for path in written:
        _say(f"wrote {path}")
    for label, reason in failures.items():
        _say(f"not made: {label}: {reason}")
    return 0 if outcome.complete else INCOMPLETE


def _terminate(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _seeds(text: str) -> tuple[int, ...]:
    """Return `0,1,2` as numbers."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas, got {text!r}") from error
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"a seed stands twice in {text!r}")
    return seeds


def listing_text(store: ResultStore, folder: Path = FOLDER) -> str:
    """Return every table with its method, runs and cost for a terminal; a broken file shows its mistake."""
    lines = []
    for name in table_names(folder):
        try:
            lines += _entry(load_table(name, folder), store)
        except UserError as error:
            lines += [f"{name}  BROKEN: {error}", ""]
    return "\n".join([*lines, "python -m training.reproduce --table NAME makes one."])


def _entry(table: Table, store: ResultStore) -> Iterator[str]:
    wanted = {planned.stem: planned for row in table.rows for planned in Edition(table, table.preset).planned(row)}
    kept = {stem for stem, planned in wanted.items() if store.find(planned)}
    runs = f"{len(table.rows)} rows x {len(table.seeds)} seeds, {len(wanted)} runs"
    yield f"{table.name}  {table.title}"
    yield f"    {table.source}; {table.kind}; method {table.method}, scale {table.preset}"
    yield f"    {runs}, {len(kept)} kept{cost_text(store.records, table, len(wanted) - len(kept))}"
    yield ""


def cost_text(records: Sequence[Record], table: Table, missing: int) -> str:
    """Return what the missing runs may take, by the kept runs of this method and scale."""
    kinds = {row.kind for row in table.rows if row.trained}
    alike = [r for r in records if r.kind in kinds and r.method == Path(table.method).stem and r.preset == table.preset]
    if not missing:
        return ""
    if not alike:
        return "; cost not known: no run of this scale is kept"
    mean = sum(record.seconds for record in alike) / len(alike)
    cores = sorted({record.cores for record in alike})
    return f"; about {mean * missing / 60:.0f} min for the rest at {mean:.0f} s a run on {cores[0]} cores"


if __name__ == "__main__":
    sys.exit(main())
