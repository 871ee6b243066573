"""Write everything in the docs that comes from code and results: `python -m training.docs`.

Generated are a page for each method, the overview of all tables, the pages of `results/tables`, and what
stands between `<!-- results: ... -->` and `<!-- end of results -->` in README.md and docs/*.md, where the
marker holds options of `training.reproduce`. `--check` writes nothing and fails when a file would change.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tfthesis.discovery import all_methods
from tfthesis.errors import UserError
from training import reproduce
from training.command_line import Parser
from training.files import replacing
from training.method_page import method_page
from training.reproduction.comparison import Outcome, assess
from training.reproduction.pages import markdown, render
from training.reproduction.store import ResultStore
from training.reproduction.table_files import load_table, table_names
from training.statistics import Verdict

DRIFT, USER_ERROR = 1, 2
BLOCK = re.compile(r"(<!-- results: (?P<options>.*?) -->\n).*?(<!-- end of results -->)", re.DOTALL)
COMMAND = re.compile(r"<!-- python -m training\.reproduce (?P<options>.*) -->\n")
UNSTABLE = (".svg", ".html")
"""Endings that `--check` passes over: equal figures draw equal pictures under one version of matplotlib only."""
GENERATED = "<!-- Written by python -m training.docs; edit the code, the tables or the results instead. -->\n\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    parser = Parser(prog="python -m training.docs", description="Write the generated parts of the docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file would change")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="checkout (here)")
    try:
        options = parser.parse(argv)
        texts = generated(options.root)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    changed = [
        path
        for path, text in texts.items()
        if not path.exists()
        or (not (options.check and path.suffix in UNSTABLE) and path.read_text(encoding="utf-8") != text)
    ]
    for path in changed:
        print(f"{'differs' if options.check else 'wrote'}: {path}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(texts[path].encode())
    if options.check and changed:
        print("run python -m training.docs, and commit what it writes", file=sys.stderr)
        return DRIFT
    return 0


def generated(root: Path) -> dict[Path, str]:
    """Return the text of every file below the checkout `root` that is generated, or holds a generated part.

    Raises:
        UserError: a marker or a page of results names a table or an option that does not exist.
    """
    store = ResultStore(root / "results")
    docs = root / "docs"
    marked = [path for path in [root / "README.md", *sorted(docs.glob("*.md"))] if path.exists()]
    shown = {path: _marked(path, root, store) for path in marked}
    outcomes = editions(store, [outcome for made in shown.values() for outcome in made])
    texts = {
        store.root / "tables" / f"{outcome.edition.name}{ending}": text
        for outcome in outcomes
        for ending, text in render(outcome).items()
    }
    for name, method in all_methods():
        if isinstance(method, UserError):
            raise method
        path = docs / "methods" / f"{name}.md"
        ours = [outcome for outcome in outcomes if outcome.edition.table.method == name]
        images = os.path.relpath(store.root / "tables", path.parent) + "/"
        texts[path] = GENERATED + method_page(name, method, [markdown(o, "###", images) for o in ours])
    texts[docs / "results.md"] = GENERATED + overview(outcomes, os.path.relpath(store.root / "tables", docs))
    for path in marked:
        if path not in texts:
            texts[path] = with_results(path, shown[path], store)
    return texts


def editions(store: ResultStore, shown: Sequence[Outcome] = ()) -> list[Outcome]:
    """Return the outcome of every edition in `results/tables`, in the order of the tables.

    Args:
        store: of the results.
        shown: what other pages show; an edition among them that has runs gets its page too.

    Raises:
        UserError: the first line of a page is not the command that made it.
    """
    pages = {path.stem for path in (store.root / "tables").glob("*.md")}
    found = [outcome for outcome in shown if outcome.columns and outcome.edition.name not in pages]
    for path in (store.root / "tables").glob("*.md"):
        command = COMMAND.match(path.read_text(encoding="utf-8"))
        if not command:
            raise UserError(f"{path}: the first line is not the command of training.reproduce that made the page")
        found.append(_outcome(command["options"], store))
    order = table_names()
    return sorted(found, key=lambda outcome: (order.index(outcome.edition.table.name), outcome.edition.name))


def _outcome(options: str, store: ResultStore) -> Outcome:
    return assess(reproduce.edition(reproduce.parser().parse(shlex.split(options))), store)


def with_results(path: Path, shown: Sequence[Outcome], store: ResultStore) -> str:
    """Return the text of a page with the tables between its markers made new, from the outcome of each marker."""
    images = os.path.relpath(store.root / "tables", path.parent) + "/"
    outcomes = iter(shown)
    return BLOCK.sub(
        lambda block: f"{block[1]}\n{markdown(next(outcomes), '###', images)}\n{block[3]}",
        path.read_text(encoding="utf-8"),
    )


def _marked(path: Path, root: Path, store: ResultStore) -> list[Outcome]:
    """Return the outcome of each marker of a page.

    Raises:
        UserError: a marker names a table or an option that does not exist.
    """
    found = []
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        try:
            found.append(_outcome(block["options"], store))
        except UserError as error:
            raise UserError(f"{path.relative_to(root)}: results: {block['options']}: {error}") from error
    return found


def overview(outcomes: Sequence[Outcome], folder: str) -> str:
    """Return the page that lists every table with how its claims fared.

    Args:
        outcomes: of the editions that were run.
        folder: of their pages, relative to this page.
    """
    lines = [
        "# Tables",
        "Every table, sweep and curve of the theses that this project sets out to make again, and how the directions "
        "they claim fared on our runs. A direction holds or fails only where an interval says so; each page states the "
        "rule.",
        "| table | what | on | yes | no | undecided |\n| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for name in table_names():
        table = load_table(name)
        made = [outcome for outcome in outcomes if outcome.edition.table.name == name]
        for outcome in made:
            counts = Counter(claim.verdict for claim in outcome.claims if claim.column in outcome.columns)
            page = f"[{outcome.edition.name.removeprefix(name + '-')}]({folder}/{outcome.edition.name}.md)"
            cells = [name, table.title, page, *(str(counts[verdict]) for verdict in Verdict)]
            lines[-1] += "\n| " + " | ".join(cells) + " |"
        if not made:
            lines[-1] += f"\n| {name} | {table.title} | not run yet | | | |"
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
