"""Tables from runs to pages, with a trainer that writes the files of a run without training."""

import concurrent.futures
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tfthesis.errors import UserError
from tfthesis.method import Evaluation
from training import reproduce
from training.reproduction import commands
from training.reproduction.cells import difference, our_cells
from training.reproduction.commands import Commands
from training.reproduction.comparison import ClaimResult, assess, item_scores
from training.reproduction.edition import Edition
from training.reproduction.execution import epoch_columns
from training.reproduction.pages import markdown
from training.reproduction.store import Planned, ResultStore, compact, effective
from training.reproduction.table import Claim, Column
from training.reproduction.table_files import load_table
from training.request import Request
from training.results import write_evaluation
from training.run_directory import RunDirectory
from training.statistics import combine, compare

HERE = Path(__file__).parent
TOY = HERE / "toy_method.py"
IMAGES, CAPTIONS = 60, 3

TABLE = f"""
title = "Toys"
source = "Nobody 2000, Table 1"
method = "{TOY}"
seeds = [0, 1, 2, 3]
note = "A | note."

[[columns]]
scalar = "r5"
label = "R@5"
items = "rank < 5"

[[columns]]
scalar = "loss"
label = "loss"
better = "smaller"
digits = 3

[[rows]]
label = "weak"
variant = "weak"

[[rows]]
label = "strong"
overrides = {{ skill = 0.8 }}

[[claims]]
better = "strong"
than = ["weak"]

[printed."Dots"]
"weak" = {{ r5 = 40.0 }}
"strong" = {{ r5 = 47.5 }}
"""

SWEEP = f"""
title = "Skill"
source = "Nobody 2000, Figure 1"
method = "{TOY}"
kind = "sweep"
parameter = "skill"
values = [0.3, 0.5, 0.8]
seeds = [0, 1, 2, 3]

[[columns]]
scalar = "r5"
label = "R@5"
items = "rank < 5"

[[rows]]
label = "toy"

[[claims]]
better = "skill = 0.8"
than = ["skill = 0.3", "skill = 0.5"]

[[claims]]
better = "skill = 0.5"
than = ["skill = 0.3", "skill = 0.8"]
"""

CURVE = f"""
title = "Learning"
source = "Nobody 2000, Figure 2"
method = "{TOY}"
kind = "curve"
stages = ["late"]
seeds = [0, 1, 2, 3]

[[columns]]
scalar = "r5"
label = "R@5"

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


class Trainer:
    """Stands in for `training.run`: writes what a finished run leaves, and counts its calls."""

    def __init__(self):
        self.runs = []
        self.broken = None
        self.fingerprint = "abc"
        self.also = {}
        self.drawn = []

    def __call__(self, request, folder):
        self.runs.append((request.recipe.skill, request.seed))
        if self.broken == self.runs[-1]:
            raise UserError("no weights for this one")
        run = RunDirectory(folder)
        run.write_json("recipe.json", request.to_json())
        dataset = {"name": request.recipe.dataset, "fingerprint": self.fingerprint, **self.also}
        run.write_json("spec.json", {"inputs": {}, "classes": [], "dataset": dataset})
        run.write_json("environment.json", {"cores": 2, "processor": "P", "commit": "0123456789abcdef", "packages": {}})
        write_evaluation(run, self.evaluation(request), "test")
        for epoch, stage in enumerate(["early", "late", "late"]):
            figure = request.recipe.skill * 10 * epoch + request.seed / 1000
            row = {"stage": stage, "epoch": epoch, "val_r5": figure, "selection": [9, 2, 1][epoch]}
            run.append_metrics(row, {"stage": stage, "epoch": epoch, "seconds": 20.0})
        for number, colour in enumerate(self.drawn):
            (folder / "pictures").mkdir(exist_ok=True)
            PIL.Image.new("RGBA", (1000, 500), colour).save(folder / "pictures" / f"grid_{number}.png")
        run.mark_done()

    @staticmethod
    def evaluation(request):
        random = np.random.default_rng((request.seed, round(100 * request.recipe.skill)))
        owner = np.repeat(np.arange(IMAGES), CAPTIONS)
        rank = np.where(random.random(len(owner)) < request.recipe.skill, 0, 9)
        r5 = 100 * float(np.mean(rank < 5))
        samples = {"rank": rank, "owner": owner, "score": random.random(len(owner))}
        half = np.where(np.cumsum(rank < 5) <= np.sum(rank < 5) / 2, rank, 9)
        samples["half.rank"] = half
        scalars = {"r5": r5, "loss": 1 - r5 / 100}
        scalars |= {"half.r5": 100 * float(np.mean(half < 5)), "half.loss": 1.0}
        # What no seed moves.
        scalars["fixed.loss"] = request.recipe.skill
        return Evaluation("toy protocol", scalars, r5, samples=samples)


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, text in (("toys", TABLE), ("skill", SWEEP), ("learning", CURVE)):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def trainer():
    return Trainer()


@pytest.fixture
def make(tables, tmp_path, trainer):
    """Return a function that runs the command with options and returns its exit code."""

    def run(*options):
        place = ["--tables", tables, "--out", tmp_path / "results", "--runs-root", tmp_path / "runs"]
        return reproduce.main([str(word) for word in (*options, *place)], train=trainer)

    return run


def outcome(tables, tmp_path, name, **options):
    return assess(Edition(load_table(name, tables), "quick", **options), ResultStore(tmp_path / "results"))


def test_a_table_is_made_and_not_made_twice(make, tables, tmp_path, trainer, capsys):
    assert make("--table", "toys") == 0
    assert len(trainer.runs) == 8
    assert "| strong | " in capsys.readouterr().out
    assert make("--table", "toys") == 0
    assert len(trainer.runs) == 8
    found = outcome(tables, tmp_path, "toys")
    values = [Trainer.evaluation(planned.request).scalars["r5"] for planned in found.edition.planned(found.rows[1].row)]
    assert found.rows[1].summary("r5").mean == pytest.approx(np.mean(values))
    assert found.rows[1].summary("r5").deviation == pytest.approx(np.std(values, ddof=1))
    assert found.rows[1].records[0].seconds == 60


def test_pages(make, tmp_path):
    make("--table", "toys")
    folder = tmp_path / "results" / "tables"
    text = (folder / "toys-quick-dots.md").read_text()
    assert text.startswith("<!-- python -m training.reproduce --table toys --scale quick --seeds 0,1,2,3 -->")
    assert "4 seeds" in text and "Nobody 2000, Table 1" in text and "40.0" in text and "+7.5 Dots" in text
    assert "8 runs, 8 min in all, the longest 60 s, on 2 cores of P; commit 0123456789." in text
    claims = list(csv.DictReader((folder / "toys-quick-dots.claims.csv").open()))
    assert [(line["figure"], line["verdict"]) for line in claims] == [("r5", "yes"), ("loss", "yes")]
    assert claims[0]["item_low"] and not claims[1]["item_low"]
    cells = list(csv.DictReader((folder / "toys-quick-dots.csv").open()))
    assert cells[2]["row"] == "strong" and cells[2]["thesis Dots"] == "47.5" and cells[2]["runs"] == "4"
    page = (folder / "toys-quick-dots.html").read_text()
    assert "<th>strong</th>" in page and "A | note." in page


def test_pictures_of_the_first_seed_are_kept_and_shown(make, tables, tmp_path, trainer):
    (tables / "toys.toml").write_text('pictures = ["grid_1", "grid_2"]\n' + TABLE, encoding="utf-8")
    trainer.drawn = ["red", "blue"]
    make("--table", "toys")
    kept = sorted((tmp_path / "results" / "pictures" / "toy_method").iterdir())
    assert len(kept) == 2 and all(path.name.endswith("-0-grid_1.jpg") for path in kept)
    with PIL.Image.open(kept[0]) as picture:
        assert picture.size == (800, 400)
        assert np.abs(np.subtract(picture.getpixel((400, 200)), (0, 0, 255))).max() < 4
    folder = tmp_path / "results" / "tables"
    text = (folder / "toys-quick-dots.md").read_text()
    places = re.findall(r"!\[(.*)\]\((.*)\)", text)
    assert [label for label, _ in places] == ["weak, grid_1", "strong, grid_1"]
    assert {(folder / place).resolve() for _, place in places} == set(kept)
    assert (folder / "toys-quick-dots.html").read_text().count("data:image/jpeg;base64,") == 2
    # Run directories may go; a repetition brings other pictures.
    shutil.rmtree(tmp_path / "runs")
    before = kept[0].read_bytes()
    make("--table", "toys")
    assert kept[0].read_bytes() == before and (folder / "toys-quick-dots.md").read_text() == text
    trainer.drawn = ["red", "lime"]
    make("--table", "toys", "--again")
    make("--table", "toys", "--again")
    assert kept[0].read_bytes() != before


def test_rows_of_one_run_show_its_pictures_once(make, tables, tmp_path, trainer):
    (tables / "toys.toml").write_text(
        'pictures = ["grid_0"]\n' + TABLE.replace("overrides = { skill = 0.8 }", 'variant = "weak"'), encoding="utf-8"
    )
    trainer.drawn = ["red"]
    make("--table", "toys")
    text = (tmp_path / "results" / "tables" / "toys-quick-dots.md").read_text()
    assert re.findall(r"!\[(.*)\]", text) == ["weak, strong, grid_0"]


def test_pictures_of_other_peoples_data_are_not_kept(make, tables, tmp_path, trainer):
    (tables / "toys.toml").write_text('pictures = ["grid_0"]\n' + TABLE, encoding="utf-8")
    trainer.drawn = ["red"]
    make("--table", "toys", "--data-dir", tmp_path)
    assert list((tmp_path / "runs").glob("*/*/pictures/grid_0.png"))
    assert not (tmp_path / "results" / "pictures").exists()


def test_results_outlive_the_run_directories(make, tmp_path, trainer):
    """Another machine has the committed results and nothing else."""
    import shutil

    make("--table", "toys", "--seeds", "0,1")
    shutil.rmtree(tmp_path / "runs")
    assert make("--table", "toys", "--seeds", "0,1,2") == 0
    assert sorted(trainer.runs) == sorted((skill, seed) for skill in (0.3, 0.8) for seed in (0, 1, 2))


def test_equal_recipes_share_runs_between_tables(make, trainer):
    make("--table", "toys")
    assert make("--table", "skill") == 0
    assert len(trainer.runs) == 12
    assert {skill for skill, _ in trainer.runs[8:]} == {0.5}


def test_a_stopped_table_goes_on(make, tmp_path, trainer):
    def stopping(request, folder):
        if len(trainer.runs) == 3:
            raise KeyboardInterrupt
        trainer(request, folder)

    place = ["--tables", str(tmp_path / "tables"), "--out", str(tmp_path / "results")]
    roots = ["--runs-root", str(tmp_path / "runs")]
    assert reproduce.main(["--table", "toys", *place, *roots], train=stopping) == 130
    assert len(ResultStore(tmp_path / "results").records) == 3
    assert make("--table", "toys") == 0
    assert len(trainer.runs) == 8


def test_several_runs_at_a_time_give_the_same_results(make, tables, tmp_path, trainer):
    """Each of the first two runs waits for the other one to start."""
    both = threading.Barrier(2, timeout=20)

    def meeting(request, folder):
        if request.seed < 2 and request.recipe.skill == 0.3:
            both.wait()
        trainer(request, folder)

    place = ["--tables", str(tables), "--out", str(tmp_path / "two"), "--runs-root", str(tmp_path / "runs")]
    assert reproduce.main(["--table", "toys", "--jobs", "2", *place], train=meeting) == 0
    assert make("--table", "toys") == 0
    pages = [tmp_path / name / "tables" / "toys-quick-dots.csv" for name in ("two", "results")]
    assert pages[0].read_text() == pages[1].read_text()


def test_a_stop_reaches_every_command(tmp_path, monkeypatch):
    """One run ends by a signal; the other, still training, is told to stop too, and nothing is started after."""
    monkeypatch.setattr(commands, "command", lambda request, folder: [sys.executable, "-c", request])
    made = Commands(2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(made.run, f"open({str(tmp_path / 'up')!r}, 'w'); import time; time.sleep(60)", tmp_path)
        with pytest.raises(KeyboardInterrupt):
            made.run("raise SystemExit(130)", tmp_path)
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        made.stop()
        with pytest.raises(KeyboardInterrupt):
            slow.result(timeout=20)
    with pytest.raises(KeyboardInterrupt):
        made.run("pass", tmp_path)


COUNTING = """
import pathlib, signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda received, _: got.append(int(received)))
pathlib.Path(sys.argv[1], "up").touch()
end = time.monotonic() + 30
while not got and time.monotonic() < end:
    time.sleep(0.05)
time.sleep(1)
pathlib.Path(sys.argv[1], "got").write_text(repr(got))
sys.exit(143)
"""
STARTING = """
import contextlib, signal, sys, threading, time
from training.reproduction import commands
# Ignored where a shell without job control started the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
commands.command = lambda request, folder: [sys.executable, *sys.argv[1:]]
made = commands.Commands()
def run():
    with contextlib.suppress(KeyboardInterrupt):
        made.run(None, None)
thread = threading.Thread(target=run)
thread.start()
try:
    time.sleep(60)
except KeyboardInterrupt:
    made.stop()
thread.join()
"""


def test_an_interrupted_terminal_reaches_a_run_once(tmp_path):
    """Ctrl-C goes to a whole process group; a run that hears it twice would end without its checkpoint."""
    (tmp_path / "counting.py").write_text(COUNTING)
    command = [sys.executable, "-c", STARTING, str(tmp_path / "counting.py"), str(tmp_path)]
    process = subprocess.Popen(command, cwd=HERE.parent.parent, start_new_session=True)
    while not (tmp_path / "up").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    assert (tmp_path / "got").read_text() == f"[{int(signal.SIGTERM)}]"


def test_a_row_that_cannot_run_does_not_stop_the_others(make, tmp_path, trainer, capsys):
    trainer.broken = (0.3, 1)
    assert make("--table", "toys") == 1
    assert "not made: weak: no weights for this one" in capsys.readouterr().err
    assert sorted(trainer.runs) == [(0.3, 0), (0.3, 1), (0.8, 0), (0.8, 1), (0.8, 2), (0.8, 3)]
    text = (tmp_path / "results" / "tables" / "toys-quick-dots.md").read_text()
    assert "Some runs are missing." in text and "undecided" in text


def test_rows_that_share_a_failed_run_are_both_named(make, tables, trainer, capsys):
    (tables / "toys.toml").write_text(TABLE.replace('variant = "weak"', "overrides = { skill = 0.8 }"))
    trainer.broken = (0.8, 1)
    assert make("--table", "toys") == 1
    said = capsys.readouterr().err
    assert "not made: weak: no weights" in said and "not made: strong: no weights" in said
    assert trainer.runs == [(0.8, 0), (0.8, 1)]


def test_nothing_made_leaves_no_page(make, tmp_path, trainer):
    trainer.broken = (0.3, 0)
    assert make("--table", "toys", "--set", "skill=0.3") == 1
    assert not (tmp_path / "results" / "tables").exists()


def test_no_seed_in_common_is_said(make, tables, tmp_path, trainer):
    trainer.broken = (0.3, 0)
    make("--table", "toys")
    found = outcome(tables, tmp_path, "toys").claims[0]
    assert (found.verdict, found.remark) == ("undecided", "no runs of both strong and weak")


def test_a_run_is_kept_with_what_it_was_measured_on(make, tables, tmp_path, trainer):
    trainer.also = {"measured": "only this"}
    make("--table", "toys", "--seeds", "0")
    (kept,) = (tmp_path / "results" / "runs" / "toy_method").glob(f"*-{_hash(tables, 'strong')}-0.json")
    assert json.loads(kept.read_text())["fingerprint"] == "only this"


def test_a_claim_on_the_measure_decides_whether_others_count(make, tables, tmp_path):
    for name, gate, against, size in (
        ("open", "strong", "weak", 0), ("shut", "weak", "strong", 0), ("near", "strong", "weak", 99)
    ):  # fmt: skip
        text = TABLE + f'\n[[claims]]\nbetter = "{gate}"\nthan = ["{against}"]\ncolumns = ["r5"]\ngate = {size}\n'
        (tables / f"{name}.toml").write_text(text, encoding="utf-8")
        assert make("--table", name) == 0
    found = {name: outcome(tables, tmp_path, name) for name in ("open", "shut", "near")}
    assert [claim.verdict for claim in found["open"].claims] == ["yes", "yes", "yes"]
    r5, loss, gate = found["shut"].claims
    # The gate speaks of one figure; its own verdict and the difference of the other claim stay.
    assert (r5.verdict, loss.verdict, gate.verdict) == ("undecided", "yes", "no")
    assert (r5.remark, loss.remark) == ("the figure cannot rank here", "") and r5.comparisons["weak"].verdict == "yes"
    page = markdown(found["shut"])
    assert "the figure cannot rank here | " in page
    assert "Where weak is not found to be better than strong, a figure cannot rank, and the other verdicts" in page
    assert "cannot rank" not in markdown(outcome(tables, tmp_path, "toys"))
    # Better, but not by as much as was asked for.
    assert [claim.verdict for claim in found["near"].claims] == ["undecided", "yes", "yes"]
    assert "Where strong is not found to be better than weak by more than 99, a figure" in markdown(found["near"])


def test_what_no_seed_moves_is_one_measurement(make, tables, tmp_path):
    text = TABLE.replace('label = "weak"\n', 'label = "weak"\nmeasure = "fixed"\n')
    text = text.replace('label = "strong"\n', 'label = "strong"\nmeasure = "fixed"\n')
    text = text.replace('than = ["weak"]\n', 'than = ["weak"]\ncolumns = ["loss"]\n')
    (tables / "still.toml").write_text(text, encoding="utf-8")
    assert make("--table", "still") == 0
    (claim,) = outcome(tables, tmp_path, "still").claims
    (compared,) = claim.comparisons.values()
    assert (compared.count, round(abs(compared.difference), 9), claim.verdict) == (1, 0.5, "undecided")
    assert "or where no seed moves either row." in markdown(outcome(tables, tmp_path, "still"))


def test_the_least_favourable_comparison_is_the_one_that_decides():
    claim, column = Claim("a", ("sure", "unsure"), ("r5",)), Column("r5", "R@5")
    left = [10.0, 10.1, 9.9]
    compared = {"sure": compare(left, [9.0, 9.1, 8.9]), "unsure": compare(left, [2.0, 12.0, 6.0])}
    assert compared["sure"].difference < compared["unsure"].difference
    result = ClaimResult(claim, column, compared, combine(list(compared.values())), {})
    assert result.verdict == "undecided"
    assert difference(result).endswith("(unsure)")


def test_runs_on_other_data_are_not_compared(make, tables, tmp_path, trainer):
    make("--table", "toys", "--seeds", "0,1,2")
    (skewed,) = (tmp_path / "results" / "runs" / "toy_method").glob(f"*-{_hash(tables, 'strong')}-1.json")
    values = json.loads(skewed.read_text())
    skewed.write_text(json.dumps({**values, "fingerprint": "other"}))
    found = outcome(tables, tmp_path, "toys", seeds=(0, 1, 2)).claims[0]
    assert (found.verdict, found.remark) == ("undecided", "strong and weak were run on different data")


def _hash(tables, label):
    table = load_table("toys", tables)
    return table.recipe(table.row(label), "quick").hash()


def test_again_repeats_each_run_once(make, trainer, tmp_path):
    make("--table", "toys")
    assert make("--table", "toys", "--again") == 0
    assert len(trainer.runs) == 16
    assert len(ResultStore(tmp_path / "results").records) == 8
    folders = sorted(path.name for path in (tmp_path / "runs" / "toy_method").glob("quick-weak-dots-0-*"))
    assert len(folders) == 2 and folders[1] == f"{folders[0]}-2"


def test_a_row_may_take_another_recipe_for_each_seed(make, tables, trainer, tmp_path):
    """Such as the fold of a cross-validation; a baseline without a seed then differs by it too."""
    text = TABLE.replace("overrides = { skill = 0.8 }", 'overrides = { skill = 0.8, dataset = "fold-{seed}" }')
    (tables / "toys.toml").write_text(text, encoding="utf-8")
    make("--table", "toys")
    found = outcome(tables, tmp_path, "toys")
    assert [record.recipe["dataset"] for record in found.rows[1].records.values()] == [f"fold-{k}" for k in range(4)]
    (tables / "toys.toml").write_text(text.replace('label = "strong"', 'label = "strong"\nkind = "ridge"', 1))
    row = load_table("toys", tables).row("strong")
    planned = Edition(load_table("toys", tables), "quick").planned(row)
    assert row.varies and [each.data for each in planned] == [f"fold-{k}" for k in range(4)]


def test_a_sweep_is_drawn_and_its_peak_judged(make, tables, tmp_path):
    assert make("--table", "skill") == 0
    found = outcome(tables, tmp_path, "skill")
    assert [claim.verdict for claim in found.claims] == ["yes", "no"]
    assert len(found.claims[0].comparisons) == 2
    drawing = (tmp_path / "results" / "tables" / "skill-quick-dots.svg").read_text()
    assert drawing.lstrip().startswith("<?xml") and "R@5" in drawing
    assert "(results/skill-quick-dots.svg)" in markdown(found, images="results/")
    assert "+" not in (tmp_path / "results" / "tables" / "skill-quick-dots.csv").read_text()


def test_a_curve_takes_validation_figures_of_its_stages(make, tables, tmp_path):
    assert make("--table", "learning") == 0
    found = outcome(tables, tmp_path, "learning")
    assert found.rows[1].values["r5"][1] == pytest.approx(0.8 * (10 + 20) / 2 + 0.001)
    assert (found.claims[0].verdict, found.claims[0].remark) == ("yes", "ahead in 2 of 2 epochs")
    assert (tmp_path / "results" / "tables" / "learning-quick-dots.svg").exists()


def test_a_validation_column_shows_the_epoch_that_the_run_kept(make, tables, tmp_path):
    text = (tables / "toys.toml").read_text().replace('"r5"', '"val_r5"').replace("{ r5", "{ val_r5")
    (tables / "kept.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("items")))
    make("--table", "kept")
    found = outcome(tables, tmp_path, "kept")
    # The last stage scores 10 and 20 times the skill and prefers the first.
    row = next(row for row in found.rows if row.row.label == "strong")
    assert row.values["val_r5"][1] == pytest.approx(0.8 * 10 + 0.001)
    for record in row.records.values():
        assert record.epochs["selection"] == [9.0, 2.0, 1.0]


def test_a_cited_row_shows_printed_figures_and_runs_nothing(make, tables, tmp_path, trainer):
    text = (tables / "toys.toml").read_text().replace('variant = "weak"', 'kind = "cited"')
    (tables / "cited.toml").write_text(text.split("[[claims]]")[0] + text[text.index("[printed") :])
    assert make("--table", "cited") == 0
    assert {skill for skill, _ in trainer.runs} == {0.8}
    found = outcome(tables, tmp_path, "cited")
    assert found.complete and [cells[0] for cells in our_cells(found)[1]] == ["strong"]
    assert "| Dots | weak | 40.0 |" in markdown(found)


def test_rows_may_show_parts_of_one_evaluation(make, tables, tmp_path, trainer):
    """Two rows of one run: the figures, and the items, of the whole and of a part of it."""
    text = (tables / "toys.toml").read_text()
    text = text.replace('variant = "weak"', 'overrides = { skill = 0.8 }\nmeasure = "half"')
    (tables / "parts.toml").write_text(text)
    assert make("--table", "parts") == 0
    assert len(trainer.runs) == 4
    weak, strong = outcome(tables, tmp_path, "parts").rows
    assert weak.values["r5"][0] == pytest.approx(strong.values["r5"][0] / 2, abs=1)
    (claim,) = (claim for claim in outcome(tables, tmp_path, "parts").claims if claim.column.scalar == "r5")
    assert claim.comparisons["weak"].item_low is not None


def test_curves_are_compared_over_common_epochs(make, tables, tmp_path):
    """The strong toy stops an epoch earlier; its mean is not held against a longer one."""
    make("--table", "learning")
    for path in (tmp_path / "results" / "runs").glob(f"*/*-{_hash(tables, 'strong')}-*.json"):
        values = json.loads(path.read_text())
        values["epochs"] = {name: column[:2] for name, column in values["epochs"].items()}
        path.write_text(json.dumps(values))
    found = outcome(tables, tmp_path, "learning")
    assert found.rows[0].values["r5"][0] == pytest.approx(3)
    assert found.rows[1].values["r5"][0] == pytest.approx(8)
    assert found.claims[0].remark == "ahead in 1 of 1 epochs"


def test_single_seed_is_undecided(make, tables, tmp_path):
    make("--table", "toys", "--seeds", "0")
    found = outcome(tables, tmp_path, "toys", seeds=(0,))
    assert found.claims[0].verdict == "undecided"
    assert "± " not in markdown(found).split("Printed")[0].split("|", 1)[1]


def test_listing_shows_cost_and_broken_files(make, tables, capsys):
    assert make("--list") == 0
    assert "8 runs, 0 kept; cost not known" in capsys.readouterr().out
    make("--table", "toys", "--seeds", "0,1,2")
    (tables / "broken.toml").write_text("rows = 3")
    capsys.readouterr()
    assert make("--list") == 0
    text = capsys.readouterr().out
    assert "2 rows x 4 seeds, 8 runs, 6 kept; about 2 min for the rest at 60 s a run on 2 cores" in text
    assert "broken  BROKEN: broken.toml" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--table is missing"),
        (("--table", "toyz"), "unknown table 'toyz'. Did you mean 'toys'?"),
        (("--table", "toys", "--scale", "quik"), "unknown preset 'quik'. Did you mean 'quick'?"),
        (("--table", "toys", "--seeds", "0,x"), "expected whole numbers with commas, got '0,x'"),
        (("--table", "toys", "--seeds", "1,1"), "a seed stands twice"),
        (("--table", "toys", "--set", "widht=3"), "unknown recipe field 'widht'. Did you mean 'width'?"),
        (("--tabel", "toys"), "Did you mean '--table'?"),
    ],
)
def test_mistakes_are_named(make, trainer, capsys, options, message):
    assert make(*options) == 2
    assert message in capsys.readouterr().err
    assert not trainer.runs


def test_a_run_made_with_another_recipe_is_refused(make, tmp_path, trainer, capsys):
    def wrong(request, folder):
        trainer(request, folder)
        values = json.loads((folder / "recipe.json").read_text())
        values["fields"]["width"] = 99
        (folder / "recipe.json").write_text(json.dumps(values))

    place = ["--tables", str(tmp_path / "tables"), "--out", str(tmp_path / "results")]
    assert reproduce.main(["--table", "toys", *place, "--runs-root", str(tmp_path / "runs")], train=wrong) == 1
    assert "was made with another recipe" in capsys.readouterr().err
    assert not ResultStore(tmp_path / "results").records


def test_items_that_do_not_give_the_figure_are_refused(make, tables, tmp_path):
    make("--table", "toys", "--seeds", "0,1,2")
    text = (tables / "toys.toml").read_text().replace('"rank < 5"', '"rank < 100"')
    (tables / "toys.toml").write_text(text)
    with pytest.raises(UserError, match=r"give 100\.000, but the run recorded .*mend 'items' in toys\.toml"):
        outcome(tables, tmp_path, "toys", seeds=(0, 1, 2))


def test_a_damaged_record_is_named(make, tmp_path):
    make("--table", "toys", "--seeds", "0")
    path = sorted((tmp_path / "results" / "runs").glob("*/*.json"))[0]
    path.write_text("{")
    with pytest.raises(UserError, match=path.name):
        _ = ResultStore(tmp_path / "results").records


def test_fields_that_were_added_later_count_as_their_default():
    request = Request.create(str(TOY), "thesis")
    recorded = request.recipe.to_json()
    del recorded["style"]
    assert effective(request.recipe, recorded) == request.recipe.to_json()
    del recorded["width"]
    assert effective(request.recipe, recorded)["width"] == 4


def test_idle_fields_do_not_make_a_run_another_one():
    mm_net, mmc_net = (Request.create("mmc_net", "tiny", variant) for variant in ("mm_net", None))
    other = {"classification_epochs": 9, "pooling": "full"}
    assert effective(mm_net.recipe, {**mm_net.recipe.to_json(), **other}) == effective(mm_net.recipe, {})
    assert effective(mmc_net.recipe, {**mmc_net.recipe.to_json(), **other}) != effective(mmc_net.recipe, {})
    assert effective(mm_net.recipe, {**mm_net.recipe.to_json(), "margin": 0.3}) != effective(mm_net.recipe, {})


def test_data_folders_are_part_of_what_a_run_is(tmp_path):
    store = ResultStore(tmp_path)
    request = Request.create(str(TOY))
    planned = [Planned("run", request, label) for label in ("dots@a", "dots@b")]
    store.add(planned[0], _record(planned[0]), {})
    assert store.find(planned[0]) is not None
    assert store.find(planned[1]) is None
    assert ResultStore(tmp_path).find(planned[0]).scalars == {"r5": 1.0}


def _record(planned):
    from training.reproduction.store import Record

    request = planned.request
    return Record(
        planned.kind, request.short_name, request.preset, None, planned.data, request.seed, request.recipe.to_json(),
        {}, "f", "p", {"r5": 1.0}, {}, 1.0, 2, "P", None, {},
    )  # fmt: skip


def test_samples_are_kept_small_and_whole():
    assert compact(np.array([0, 5, 70000])).tolist() == [0, 5, 65535]
    assert compact(np.array([0, 5])).dtype == np.uint16
    assert compact(np.array([True])).dtype == bool
    assert compact(np.array([0.5])) is None
    assert compact(np.zeros((2, 2), int)) is None


def test_item_scores_follow_the_owners():
    column = Column("s", "s", items="image_rank < 1, text_rank < 1")
    samples = {
        "image_rank": np.array([0, 3, 0], np.uint16),
        "text_rank": np.array([0, 1, 0, 0, 2], np.uint16),
        "owner": np.array([0, 0, 1, 1, 1], np.uint16),
    }
    scores = item_scores(column, samples)
    assert scores.sums.tolist() == [[100, 100], [0, 200], [100, 0]]
    assert scores.counts.tolist() == [[1, 2], [1, 3], [1, 0]]
    assert scores.value == pytest.approx(100 * 2 / 3 + 100 * 3 / 5)
    del samples["owner"]
    assert item_scores(column, samples) is None
    alone = item_scores(Column("s", "s", items="correct"), {"correct": np.array([True, False])})
    assert alone.value == 50


def test_captions_are_grouped_by_whichever_run_says_whose_they_are(make, tables, tmp_path):
    """As a classifier that does not match beside one that does; their bootstrap draws images, not captions."""
    make("--table", "toys")
    grouped = outcome(tables, tmp_path, "toys").claims[0].comparisons["weak"]
    store = ResultStore(tmp_path / "results")
    for record in store.records:
        if record.recipe["skill"] == 0.8:
            path = store.root / "runs" / record.method / f"{record.stem}.npz"
            kept = {name: array for name, array in store.samples(record).items() if name != "owner"}
            np.savez_compressed(path, **kept)
    again = outcome(tables, tmp_path, "toys").claims[0].comparisons["weak"]
    assert (again.item_low, again.item_high) == (grouped.item_low, grouped.item_high)


def test_epochs_keep_validation_figures():
    rows = [{"stage": "a", "loss": "1", "val_x": "0.123456789"}, {"stage": "b", "loss": "2", "val_x": ""}]
    assert epoch_columns(rows) == {"stage": ["a", "b"], "val_x": [0.123457, None]}
    scored = [{"stage": "a", "val_x": "1", "selection": "3"}]
    assert epoch_columns(scored) == {"stage": ["a"], "val_x": [1.0], "selection": [3.0]}
    assert epoch_columns([{"stage": "a", "loss": "1"}]) == {}


def test_runs_go_through_the_command_line(tmp_path, monkeypatch):
    """The command is the one a person would type, and its message is passed on."""
    seen = []

    class Process:
        def __init__(self, command, **_):
            seen.append(command)
            self.stderr = iter(["note\n", "error: nothing there\n"])

        def wait(self):
            return 2

        poll = wait

    monkeypatch.setattr(subprocess, "Popen", Process)
    request = Request.create(str(TOY), "quick", "weak", {"width": 7}, data="stars", data_dir=tmp_path, seed=3)
    with pytest.raises(UserError, match=r"^nothing there \(exit code 2"):
        Commands().run(request, tmp_path / "run")
    words = seen[0][1:]
    assert words[:4] == ["-m", "training.run", "--method", str(TOY)]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    assert pairs["--variant"] == "weak" and pairs["--seed"] == "3" and pairs["--run-dir"] == str(tmp_path / "run")
    changes = {words[i + 1] for i, word in enumerate(words) if word == "--set"}
    assert changes == {"width=7", "dataset=stars"}


def test_listing_does_not_load_tensorflow():
    code = (
        "import sys; from training import reproduce; reproduce.main(['--list']); sys.exit('tensorflow' in sys.modules)"
    )
    checkout = HERE.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "7.2  Image-to-text retrieval" in done.stdout
