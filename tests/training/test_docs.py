"""The generated parts of the docs: written, checked, and up to date in this checkout."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tfthesis.discovery import load_method
from training import docs, reproduce
from training.reproduction.comparison import assess
from training.reproduction.edition import Edition
from training.reproduction.pages import write_pages
from training.reproduction.store import Record, ResultStore
from training.reproduction.table_files import load_table

TOY = Path(__file__).with_name("toy_method.py")
TABLE = f"""
title = "Toys"
source = "Nobody 2000, Table 1"
method = "{TOY}"
seeds = [0, 1, 2]

[[columns]]
scalar = "score"
label = "score"

[[rows]]
label = "weak"
variant = "weak"

[[rows]]
label = "strong"
overrides = {{ skill = 0.8 }}

[[claims]]
better = "strong"
than = ["weak"]
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with results of a toy table, and a README that shows it."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("toys", "others"):
        (folder / f"{name}.toml").write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(docs, "table_names", lambda: ["others", "toys"])
    monkeypatch.setattr(docs, "load_table", lambda name: load_table(name, folder))
    monkeypatch.setattr(reproduce, "load_table", lambda name, _: load_table(name, folder))
    edition, store = Edition(load_table("toys", folder), "quick"), ResultStore(tmp_path / "results")
    for planned in (planned for row in edition.table.rows for planned in edition.planned(row)):
        store.add(planned, _record(planned), {})
    write_pages(assess(edition, store), tmp_path / "results" / "tables")
    (tmp_path / "docs").mkdir()
    text = "Before.\n<!-- results: --table toys -->\nstale\n<!-- end of results -->\nAfter.\n"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    return tmp_path


def _record(planned):
    request = planned.request
    return Record(
        kind="run",
        method=request.short_name,
        preset=request.preset,
        variant=request.variant,
        data=planned.data,
        seed=request.seed,
        recipe=request.recipe.to_json(),
        settings={},
        fingerprint="f",
        protocol="p",
        scalars={"score": 100 * request.recipe.skill + request.seed},
        epochs={},
        seconds=30.0,
        cores=2,
        processor="P",
        commit=None,
        versions={},
    )


def test_docs_are_written_and_checked(checkout, capsys):
    options = ["--root", str(checkout)]
    assert docs.main([*options, "--check"]) == 1
    assert "differs: " in (said := capsys.readouterr().out) and "README.md" in said
    assert "stale" in (checkout / "README.md").read_text()
    assert docs.main(options) == 0
    assert docs.main([*options, "--check"]) == 0
    text = (checkout / "README.md").read_text()
    assert text.startswith("Before.") and text.endswith("After.\n")
    assert "| strong | 81.0 ± 1.0 [" in text and "(results/tables/" not in text and "stale" not in text


def test_the_overview_counts_verdicts(checkout):
    docs.main(["--root", str(checkout)])
    lines = (checkout / "docs" / "results.md").read_text().splitlines()
    assert "| toys | Toys | [quick-dots](../results/tables/toys-quick-dots.md) | 1 | 0 | 0 |" in lines
    assert "| others | Toys | not run yet | | | |" in lines


def test_what_the_readme_shows_is_in_the_overview_too(checkout):
    """Without the pages that training.reproduce wrote, they are written from the kept runs."""
    shutil.rmtree(checkout / "results" / "tables")
    docs.main(["--root", str(checkout)])
    assert "../results/tables/toys-quick-dots.md) | 1 | 0 | 0 |" in (checkout / "docs" / "results.md").read_text()
    assert (checkout / "results" / "tables" / "toys-quick-dots.md").exists()
    assert docs.main(["--root", str(checkout), "--check"]) == 0


def test_method_pages_hold_recipe_and_docstrings(checkout):
    docs.main(["--root", str(checkout)])
    page = (checkout / "docs" / "methods" / "mmc_net.md").read_text()
    assert page.startswith(docs.GENERATED)
    method = load_method("mmc_net")
    assert f"# {method.title}" in page and method.summary in page
    for field in dataclasses.fields(method.presets["thesis"]):
        assert f"| `{field.name}` | {field.metadata['help'].rstrip('.')}" in page
    for stage in method.stages(method.presets["thesis"]):
        assert f"| {stage.name} | {stage.epochs} | {stage.batch_size} |" in page
    for name in (*method.variants, *method.presets):
        assert f"`{name}`" in page


def test_a_changed_result_is_drift(checkout, capsys):
    options = ["--root", str(checkout)]
    docs.main(options)
    path = sorted((checkout / "results" / "runs").glob("*/*.json"))[0]
    values = json.loads(path.read_text())
    values["scalars"]["score"] += 5
    path.write_text(json.dumps(values))
    capsys.readouterr()
    assert docs.main([*options, "--check"]) == 1
    said = capsys.readouterr().out
    assert "README.md" in said and "toys-quick-dots.csv" in said


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("--table toyz", "unknown table 'toyz'"),
        ("--table toys --scale hug", "unknown preset 'hug'"),
        ("--table toys --sead 1", "--sead"),
    ],
)
def test_a_wrong_marker_is_named(checkout, capsys, marker, message):
    (checkout / "README.md").write_text(f"<!-- results: {marker} -->\n<!-- end of results -->\n")
    assert docs.main(["--root", str(checkout)]) == 2
    said = capsys.readouterr().err
    assert f"README.md: results: {marker}" in said and message in said


def test_a_page_without_its_command_is_named(checkout, capsys):
    page = checkout / "results" / "tables" / "toys-quick-dots.md"
    page.write_text("# Toys\n")
    assert docs.main(["--root", str(checkout)]) == 2
    assert "toys-quick-dots.md: the first line is not the command" in capsys.readouterr().err


def test_generated_parts_of_this_checkout_are_up_to_date(capsys):
    assert docs.main(["--check", "--root", str(TOY.parents[2])]) == 0, capsys.readouterr().out
