"""Progress: what lines and bars show, how rates are counted, and that losses are read only when shown."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import types

import pytest

from training import progress as module
from training.progress import BarProgress, LineProgress, Progress, listening, make_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A clock that the test moves."""
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    return clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class CountedLoss:
    """A loss that knows how often it was read, as reading waits for the device."""

    reads = 0

    def __float__(self) -> float:
        CountedLoss.reads += 1
        return 0.25


def test_figures_are_rates_of_the_last_steps(clock):
    progress = Progress()
    progress.stage("matching", 10)
    for _ in range(4):
        clock.now += 0.5
        progress.step(rows=50, waiting=0.1)
    assert progress.figures(1.5) == "loss 1.5000, 100 rows/s, waiting for input 20 %, 0:00:03 left"


def test_the_first_step_of_a_stage_compiles_and_is_no_measure(clock):
    progress = Progress()
    progress.stage("matching", 3)
    clock.now += 60
    progress.step(rows=10)
    assert progress.figures(2.0) == "loss 2.0000"
    clock.now += 1
    progress.step(rows=10)
    assert progress.figures() == "10 rows/s, waiting for input 0 %, 0:00:01 left"


def test_counted_items_show_rate_and_time_left_when_they_take_long(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, interval=5)
    for done in range(32, 161, 32):
        progress.count("features", done, 160)
    assert stream.getvalue() == ""
    for done in range(100, 1001, 100):
        clock.now += 2
        progress.count("features", done, 1000)
    assert stream.getvalue().splitlines()[0] == "features 400/1000: 50 rows/s, 0:00:12 left"


def test_what_the_library_logs_becomes_a_note(tmp_path):
    stream = io.StringIO()
    progress = LineProgress(stream)
    with listening(progress):
        logging.getLogger("tfthesis.data.files").warning("skipped item %d", 3)
        logging.getLogger("other").warning("not ours")
    logging.getLogger("tfthesis.data.files").info("too late")
    assert stream.getvalue() == "skipped item 3\n"


def test_validation_time_is_no_step_time(clock):
    progress = Progress()
    progress.stage("matching", 4)
    clock.now += 1
    progress.step(rows=10)
    clock.now += 500
    progress.epoch({"loss": 1.0})
    clock.now += 1
    progress.step(rows=10)
    assert "10 rows/s" in progress.figures() and "0:00:02 left" in progress.figures()


def test_lines_come_at_an_interval_and_read_the_loss_only_then(clock):
    stream, CountedLoss.reads = io.StringIO(), 0
    progress = LineProgress(stream, interval=5)
    progress.stage("matching", 100)
    for _ in range(10):
        clock.now += 1
        progress.step(loss=CountedLoss(), rows=8)
    lines = stream.getvalue().splitlines()
    assert len(lines) == CountedLoss.reads == 2
    assert lines[1].startswith("matching epoch 1 step 6/100: loss 0.2500, 8 rows/s, waiting for input 0 %,")


def test_last_step_and_first_epoch_are_always_shown(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, interval=1e9)
    progress.stage("joint", 4, done=2)
    progress.step()
    progress.epoch({"loss": 2.0, "val_r_sum": 31.25, "stage": "joint"})
    progress.step()
    assert "joint epoch 1: loss 2, val_r_sum 31.25" in stream.getvalue().splitlines()
    assert "joint epoch 2 step 4/4" in stream.getvalue().splitlines()[-1]


def test_notes_and_epochs_are_logged_although_nothing_is_shown(tmp_path, capsys):
    with make_progress(quiet=True) as progress:
        progress.log_to(tmp_path / "run.log")
        progress.stage("matching", 1)
        progress.note("3 items skipped")
        progress.step(loss=1.0)
        progress.epoch({"loss": 0.5})
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["3 items skipped", "matching epoch 1: loss 0.5"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines():
    assert isinstance(make_progress(stream=Terminal()), BarProgress)
    assert isinstance(make_progress(stream=io.StringIO()), LineProgress)
    assert type(make_progress(quiet=True, stream=Terminal())) is Progress


def test_the_bar_counts_from_where_the_run_resumed():
    stream = Terminal()
    with BarProgress(stream) as progress:
        progress.stage("matching", 8, done=6, epoch=3)
        progress.step(loss=1.0, rows=4)
        progress.note("a note")
        progress.step(loss=0.5, rows=4)
        progress.epoch({"loss": 0.75})
    shown = stream.getvalue()
    assert "8/8" in shown and "6/8" in shown and "matching epoch 4" in shown
    assert "a note" in shown and "matching epoch 4: loss 0.75" in shown and "rows/s" in shown


def test_quiet_progress_loads_neither_tqdm_nor_tensorflow():
    code = (
        "import sys; from training.progress import Progress; p = Progress(); p.stage('s', 1); p.step(loss=1.0); "
        "print({'tqdm', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
