"""Small files are whole, tables can be rewound, and two processes do not share a folder."""

from __future__ import annotations

import os

import pytest

from tfthesis.errors import UserError
from training.run_directory import RunDirectory


def row(epoch: int, **more: float) -> tuple[dict, dict]:
    place = {"stage": "body", "epoch": epoch, "step": 10 * epoch}
    return {**place, "loss": 1 / 3 / epoch, **more}, {**place, "seconds": 0.5}


def test_json_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "deep" / "run")
    run.write_json("a.json", {"x": [1, "é"]})

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        run.write_json("a.json", {"x": 2})
    assert run.read_json("a.json") == {"x": [1, "é"]}
    assert [path.name for path in run.path.iterdir()] == ["a.json"]
    assert run.read_json("missing.json", default=7) == 7


def test_a_broken_json_file_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "recipe.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"recipe\.json: not a JSON file"):
        run.read_json("recipe.json")


def test_rewinding_gives_the_table_as_it_was(tmp_path):
    run = RunDirectory(tmp_path)
    tables = []
    for values in (row(1), row(2), row(3, extra=2.0)):
        run.append_metrics(*values)
        tables.append([(tmp_path / name).read_bytes() for name in ("metrics.csv", "timings.csv")])
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("body,4,4")  # a killed process wrote half a row
    for rows in (3, 2, 1):
        run.rewind_metrics(rows)
        assert [(tmp_path / name).read_bytes() for name in ("metrics.csv", "timings.csv")] == tables[rows - 1]
    assert [float(values["loss"]) for values in run.metrics()] == [1 / 3]
    run.rewind_metrics(0)
    run.append_metrics(*row(1))
    assert (tmp_path / "metrics.csv").read_bytes() == tables[0][0]


def test_events_follow_the_table(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RunDirectory(tmp_path, events=True)
    for epoch in (1, 2, 3):
        run.append_metrics(*row(epoch))
    run.rewind_metrics(1)
    run.append_metrics(*row(2, extra=5.0))
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert sorted(events.Tags()["tensors"]) == ["body/extra", "body/loss", "body/seconds"]
    assert [event.step for event in events.Tensors("body/loss")] == [10, 20]


def test_one_process_trains_in_a_folder(tmp_path):
    refusal = pytest.raises(UserError, match="another process is training")
    with RunDirectory(tmp_path).locked(), refusal, RunDirectory(tmp_path).locked():
        pass
    with RunDirectory(tmp_path).locked():
        pass


def test_done_is_a_mark(tmp_path):
    run = RunDirectory(tmp_path)
    assert not run.done
    run.mark_done()
    assert run.done and (tmp_path / "DONE").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run: cannot be created"):
        RunDirectory(tmp_path / "file" / "run")
