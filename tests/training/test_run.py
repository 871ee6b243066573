"""The command line: lists, help, typed fields, mistakes, and runs that are made, resumed, finished and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfthesis.methods
from tfthesis.errors import UserError
from training.command_line import overrides, run_parser, typed
from training.request import Request, first_difference
from training.results import read_samples
from training.run import main

ROOT = Path(__file__).resolve().parents[2]
MINE = str(Path(__file__).parent / "mine.py")


@pytest.fixture(autouse=True)
def _signals():
    """Give back the signal handler that `main` sets."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command line in this process; returns exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["--method", MINE, "--preset", "tiny", "--runs-root", str(root), "--quiet"]) == 0
    return next(root.glob("mine/*"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_lists_and_help_answer_at_once_and_without_tensorflow():
    code = (
        "import sys, time; from training.run import main\n"
        "main(['--list', '--json']); main(['--method', 'mmc_net', '--preset', 'tiny', '--help'])\n"
        f"main(['--method', {MINE!r}, '--help'])\n"
        "print('loaded:', sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))\n"
        "print('seconds:', time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *_, loaded, seconds = done.stdout.splitlines()
    assert loaded == "loaded: []"
    assert float(seconds.removeprefix("seconds: ")) < 1.0
    methods = json.JSONDecoder().raw_decode(done.stdout)[0]["methods"]
    mmc_net = next(method for method in methods if method["name"] == "mmc_net")
    assert mmc_net["chapter"] == "Liu 2018, chapter 7" and {"thesis", "quick", "tiny"} <= set(mmc_net["presets"])
    assert mmc_net["variants"]["mm_net"] == {"classification": False}
    for line in (
        "rate = 0.05 per step  (float)",
        "learning rate. Source: Eq 2.",
        "widths = 3 units  (tuple[int, ...])",
        "Choices: square, absolute.",
    ):
        assert line in done.stdout, line


def test_list_reports_a_broken_method_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_one.py").write_text("import no_such_module\n")
    (tmp_path / "empty_one.py").write_text("")
    monkeypatch.setattr(tfthesis.methods, "__path__", [*tfthesis.methods.__path__, str(tmp_path)])
    code, out, _ = call(capsys, "--list")
    assert code == 0 and "mmc_net  MMC-Net" in out
    assert "broken_one  BROKEN: method 'broken_one' does not import: ModuleNotFoundError" in out
    assert "empty_one  BROKEN: empty_one: expected a module-level METHOD" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "mcm_net"], "unknown method 'mcm_net'. Did you mean 'mmc_net'?"),
        (["--method", MINE, "--preset", "tyni"], "Did you mean 'tiny'?"),
        (["--method", MINE, "--variant", "strait"], "Did you mean 'straight'?"),
        (["--method", MINE, "--set", "ratte=1"], "unknown recipe field 'ratte'. Did you mean 'rate'?"),
        (["--method", MINE, "--set", "rate=fast"], "recipe field 'rate' is float, now 0.05; 'fast' is not"),
        (["--method", MINE, "--set", "loss=squared"], "Did you mean 'square'?"),
        (["--method", MINE, "--set", "rate"], "expected FIELD=VALUE"),
        (["--method", MINE, "--data", "letters"], "unknown dataset 'letters'; known: numbers"),
        (["--method", MINE, "--sede", "1"], "unknown option '--sede'. Did you mean '--seed'?"),
        (["--method", MINE, "--seed", "one"], "invalid int value: 'one'"),
        (["--method", MINE, "--checkpoint-every", "0"], "expected a number from 1, got 0"),
        (["--method", MINE, "--strategy", "mirored"], "Did you mean 'mirrored'?"),
        (["--method", "nowhere.py"], "no method file nowhere.py"),
        (["--preset", "tiny"], "--method is missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, expected, capsys, tmp_path):
    code, out, err = call(capsys, *arguments, "--runs-root", tmp_path)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and expected in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected", "value"),
    [
        ("3", int, 3), ("1e-3", float, 1e-3), ("True", bool, True), ("off", bool, False), ("a=b", str, "a=b"),
        ("", str, ""),
        ("2048,512,512,512", tuple[int, int, int, int], (2048, 512, 512, 512)), ("0.5", tuple[float, ...], (0.5,)),
        ("", tuple[int, ...], ()), ("none", float | None, None), ("2", float | None, 2.0),
        ("[[1, 2], [3]]", tuple[tuple[int, ...], ...], ([1, 2], [3])),
    ],
)  # fmt: skip
def test_typed_values(text, expected, value):
    assert typed(text, expected) == value


@pytest.mark.parametrize(
    ("text", "expected"), [("1.5", int), ("maybe", bool), ("1,2,3", tuple[int, int]), ("x", tuple[float, ...])]
)
def test_values_of_another_type_are_refused(text, expected):
    with pytest.raises(ValueError):
        typed(text, expected)


def test_overrides_change_the_hash_and_the_folder():
    plain, changed = Request.create(MINE), Request.create(MINE, changes=["widths=5,4", "bias=false", "clip=2"])
    assert (changed.recipe.widths, changed.recipe.bias, changed.recipe.clip) == ((5, 4), False, 2.0)
    assert overrides(plain.recipe, ["rate=1"]) == {"rate": 1.0}
    assert plain.folder(Path("runs")) == Path(f"runs/mine/quick-numbers-0-{plain.recipe.hash()}")
    assert plain.recipe.hash() != changed.recipe.hash()
    named = Request.create(MINE, "tiny", "straight", seed=7)
    assert named.folder(Path("r")).name.startswith("tiny-straight-numbers-7-")
    assert named.served_name == "mine_tiny_straight"
    assert Request.from_json(json.loads(json.dumps(changed.to_json()))).to_json() == changed.to_json()


def test_first_difference():
    assert first_difference({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 3]}}) == "b.c: [1, 2] -> [1, 3]"
    assert first_difference({"a": 1}, {"a": 1, "d": 2}) == "d: None -> 2"
    assert first_difference({"a": {}}, {"a": {}}) is None


def test_every_option_is_explained():
    assert all(action.help for action in run_parser()._actions)


def test_dry_run_counts_and_trains_nothing(tmp_path, capsys):
    code, out, _ = call(capsys, "--method", MINE, "--preset", "tiny", "--dry-run", "--runs-root", tmp_path)
    assert code == 0 and not list(tmp_path.iterdir())
    for expected in (
        "rows      train 40, val 12, test 12; classes 0; skipped items 1", "train: row 40: <b>empty</b>",
        "inputs    x [4]",
        "outputs   y [1]", "weights   19 in all", "hidden: 15", "out: 4",
        "stage     fit: 40 rows, batch 16, 2 epochs, 6 steps, trains 19 weights", "memory    about 1 MiB",
    ):  # fmt: skip
        assert expected in out, expected


def test_a_run_leaves_everything_it_was_asked_for(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "recipe.json", "spec.json", "data.json", "items.json", "environment.json", "metrics.csv", "run.log", "events",
        "checkpoints", "model.keras", "evaluation.json", "evaluation.npz", "pictures.json", "report.html",
        "model_card.md", "DONE",
    }  # fmt: skip
    assert not [name for name in names if "partial" in name]
    recipe = json.loads((finished / "recipe.json").read_text())
    assert recipe["fields"]["widths"] == [3] and recipe["about"]["rate"]["source"] == "Eq 2"
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["tensorflow"].startswith("2.20") and "--preset tiny" in environment["command"]
    assert len(json.loads((finished / "items.json").read_text())["test"]) == 12
    assert "fit epoch 2: loss" in (finished / "run.log").read_text()
    assert "mean squared error" in (finished / "report.html").read_text()


def test_the_kept_model_is_the_measured_one(finished):
    from training.export import load_model

    request = Request.from_json(json.loads((finished / "recipe.json").read_text()))
    model, data = load_model(finished, request), request.open_data()
    measured = request.method.evaluate(model, data, request.recipe, "test")
    evaluation = json.loads((finished / "evaluation.json").read_text())
    assert evaluation["split"] == "test" and evaluation["curves"]["sorted_errors"][0] == list(range(12))
    assert evaluation["scalars"]["error"] == pytest.approx(measured.scalars["error"], rel=1e-6)
    np.testing.assert_allclose(read_samples(finished)["error"], measured.samples["error"], rtol=1e-6)


def test_a_finished_run_is_read_back(finished, capsys, monkeypatch):
    monkeypatch.setattr("training.loop.train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(Request, "open_data", lambda self: pytest.fail("opened the data"))
    before = (finished / "report.html").stat().st_mtime_ns
    arguments = ("--method", MINE, "--preset", "tiny", "--runs-root", finished.parent.parent)
    code, out, err = call(capsys, *arguments)
    error = json.loads((finished / "evaluation.json").read_text())["scalars"]["error"]
    assert code == 0 and err == "" and f"error  {error:.4g}"[:9] in out and str(finished / "report.html") in out
    code, out, _ = call(capsys, *arguments, "--json")
    assert json.loads(out)["scalars"]["error"] == error
    assert (finished / "report.html").stat().st_mtime_ns == before


def test_another_recipe_in_the_same_folder_is_refused_or_recorded(copy, capsys):
    arguments = ("--method", MINE, "--preset", "tiny", "--run-dir", copy, "--quiet")
    before = (copy / "recipe.json").read_bytes()
    code, _, err = call(capsys, *arguments, "--set", "rate=0.5")
    assert code == 2 and "another recipe: fields.rate: 0.05 -> 0.5" in err
    code, _, err = call(capsys, *arguments, "--seed", "1")
    assert code == 2 and "seed: 0 -> 1" in err
    assert (copy / "recipe.json").read_bytes() == before and (copy / "DONE").exists()
    evaluation = json.loads((copy / "evaluation.json").read_text())
    (copy / "evaluation.json").write_text(json.dumps({**evaluation, "protocol": "of the old recipe"}))
    code, out, _ = call(capsys, *arguments, "--set", "rate=0.5", "--allow-change")
    assert code == 0 and "of the old recipe" not in out
    assert json.loads((copy / "changes.json").read_text()) == ["fields.rate: 0.05 -> 0.5"]
    assert json.loads((copy / "recipe.json").read_text())["fields"]["rate"] == 0.5
    assert "fields.rate: 0.05 -&gt; 0.5" in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [("widths=5", "has shape (4, 5), saved was (4, 3)"), ("bias=false", "4 variables were saved")],
)
def test_a_change_that_the_checkpoint_does_not_fit_loses_nothing(copy, capsys, change, message):
    def content():
        files = [path for path in copy.rglob("*") if path.is_file() and path.name != "run.log"]
        # The events are a view of the metrics, which is written anew.
        return {path: path.read_bytes() for path in files if path.parent.name != "events"}

    arguments, before = ("--method", MINE, "--preset", "tiny", "--run-dir", copy, "--quiet"), content()
    code, _, err = call(capsys, *arguments, "--set", change, "--allow-change")
    assert code == 2 and message in err
    assert content() == before and (copy / "DONE").exists()
    assert call(capsys, *arguments)[0] == 0


def test_data_that_moved_is_the_same_and_data_that_changed_is_not(copy, tmp_path, capsys):
    for name, shift in (("same", "0"), ("other", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shift.txt").write_text(shift)
    arguments = ("--method", MINE, "--preset", "tiny", "--run-dir", copy, "--quiet", "--data-dir")
    assert call(capsys, *arguments, tmp_path / "same")[0] == 0
    code, _, err = call(capsys, *arguments, tmp_path / "other")
    assert code == 2 and "another spec: dataset.fingerprint: 'numbers 0.0' -> 'numbers 1.0'" in err


def test_a_changed_folder_is_not_passed_off_as_exported(copy, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shift.txt").write_text("0")
    arguments = ("--method", MINE, "--preset", "tiny", "--run-dir", copy, "--quiet", "--data-dir", tmp_path / "data")
    to_export = (*arguments, "--export-dir", tmp_path / "models")
    assert call(capsys, *arguments)[0] == 0
    assert call(capsys, *to_export)[0] == 0
    (tmp_path / "data" / "shift.txt").write_text("1")
    code, _, err = call(capsys, *to_export)
    assert code == 2 and "another spec: dataset.fingerprint: 'numbers 0.0' -> 'numbers 1.0'" in err
    assert call(capsys, *arguments, "--allow-change")[0] == 0
    assert json.loads((copy / "changes.json").read_text()) == ["dataset.fingerprint: 'numbers 0.0' -> 'numbers 1.0'"]


def test_a_run_that_was_killed_after_training_opens_the_test_split_no_second_time(copy, capsys):
    evaluation = json.loads((copy / "evaluation.json").read_text())
    (copy / "evaluation.json").write_text(json.dumps({**evaluation, "protocol": "as it was"}))
    for name in ("DONE", "report.html", "pictures.json"):
        (copy / name).unlink()
    code, out, _ = call(capsys, "--method", MINE, "--preset", "tiny", "--run-dir", copy, "--quiet")
    assert code == 0 and "as it was" in out
    assert {"DONE", "report.html", "pictures.json"} <= {path.name for path in copy.iterdir()}


def test_a_loss_that_is_never_finite_ends_with_exit_code_3(tmp_path, capsys):
    code, _, err = call(
        capsys, "--method", MINE, "--preset", "tiny", "--set", "rate=1e38", "--run-dir", tmp_path, "--quiet"
    )
    assert code == 3 and err.startswith("error: training stopped at stage 'fit', epoch 1") and "train-" in err
    assert not (tmp_path / "DONE").exists()


def test_a_terminated_run_says_so_and_resumes(tmp_path, capsys):
    arguments = ["--method", MINE, "--set", "epochs=100000", "--run-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "training.run", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            if line.startswith("fit epoch 1: "):
                process.send_signal(signal.SIGTERM)
                break
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 143 and "Run the same command again to resume" in last
    steps = len((tmp_path / "metrics.csv").read_text().splitlines()) - 1
    assert steps and not (tmp_path / "DONE").exists()
    end = ["--set", f"epochs={steps + 1}", "--allow-change", "--quiet"]
    assert call(capsys, *arguments, *end)[0] == 0
    rows = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [str(i) for i in range(1, steps + 2)]


def test_an_unfinished_run_is_not_exported(finished, tmp_path):
    from training.export import export_run

    with pytest.raises(UserError, match="not a finished run"):
        export_run(tmp_path / "nothing", tmp_path)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("attack", ["lambda", "torn"])
def test_a_hostile_or_damaged_model_file_is_refused(attack, copy, tmp_path, capsys):
    import keras

    from training import export

    if attack == "lambda":
        x = keras.Input((4,), name="x")
        keras.Model(x, keras.layers.Lambda(lambda value: value)(x)).save(copy / "model.keras")
    else:
        whole = (copy / "model.keras").read_bytes()
        (copy / "model.keras").write_bytes(whole[: len(whole) // 2])
    assert export.main(["--run-dir", str(copy), "--export-dir", str(tmp_path / "saved")]) == 2
    error = capsys.readouterr().err
    assert "model.keras does not load in safe mode" in error and error.count("\n") == 1
    assert not (tmp_path / "saved").exists()


def test_samples_with_objects_are_refused(copy):
    np.savez(copy / "evaluation.npz", error=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="expected arrays of numbers"):
        read_samples(copy)


def test_a_finished_run_is_exported_once(copy, tmp_path, capsys):
    from training import export

    saved = tmp_path / "saved"
    code, out, _ = call(capsys, "--method", MINE, "--preset", "tiny", "--run-dir", copy, "--export-dir", saved)
    assert code == 0 and f"export: {saved / 'mine_tiny/1'}" in out
    assert (saved / "mine_tiny/1/saved_model.pb").exists()
    assert export.main(["--run-dir", str(copy), "--export-dir", str(saved)]) == 0
    assert capsys.readouterr().out.strip() == str(saved / "mine_tiny/1")
    assert [path.name for path in (saved / "mine_tiny").iterdir()] == ["1"]
    assert export.main(["--run-dir", str(copy), "--index", "exakt"]) == 2
    assert "Did you mean 'exact'?" in capsys.readouterr().err
