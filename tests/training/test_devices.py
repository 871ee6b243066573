"""One device and several train the same model, in several processes too; a lost worker is no riddle."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

LOST_WORKER = 75


def test_one_two_and_four_devices_agree_also_when_resumed(start_toy, tmp_path):
    """Dropout, statistics and losses included, with batches that are uneven or smaller than the number of devices."""
    process = start_toy(str(tmp_path), file=Path(__file__).with_name("devices_check.py"))
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    found = json.loads(output.splitlines()[-1])
    for devices in ("2", "4"):
        weights, figures = found[devices]
        assert weights < 1e-5 and figures < 1e-5, (devices, weights, figures)


@pytest.fixture
def two_workers(start_toy, tmp_path):
    """Starts two workers on the toy; returns their exit codes and what they wrote to stderr."""

    def start(*more: dict) -> tuple[list[int], list[str]]:
        sockets = [socket.socket() for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        processes = []
        for index, options in enumerate(more):
            task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            options = {"run": str(tmp_path / "run"), "strategy": "multi_worker", "worker": index, **options}
            processes.append(start_toy(json.dumps(options), TF_CONFIG=json.dumps(task)))
        errors = [process.communicate()[1] for process in processes]
        return [process.returncode for process in processes], errors

    return start


def test_two_workers_equal_one_and_survive_the_loss_of_one(two_workers, toy, tmp_path):
    common = {"recipe": {"optimizer": "sgd", "prepare": True, "epochs": 2}, "rows": {"train": 33, "val": 18}}
    codes, errors = two_workers({**common, "checkpoint_every": 2}, {**common, "kill": 4})
    assert codes == [LOST_WORKER, -signal.SIGKILL], errors
    assert "worker 0: lost contact with another worker. Restart all workers" in errors[0]
    assert "Traceback" not in errors[0]
    saved = sorted((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert json.loads((saved[-1] / "state.json").read_text())["position"]["steps"] >= 3

    codes, errors = two_workers(common, common)
    assert codes == [0, 0], errors
    alone = toy.run_toy(tmp_path / "alone", toy.recipe_of(**common["recipe"]), rows=common["rows"])
    for index in range(2):
        with np.load(tmp_path / "run" / f"result-{index}.npz") as arrays:
            for variable, array in zip(alone.variables, arrays.values(), strict=True):
                np.testing.assert_allclose(array, variable.numpy(), rtol=1e-5, atol=1e-6, err_msg=variable.path)
    rows = [(tmp_path / name / "metrics.csv").read_text().split() for name in ("run", "alone")]
    assert rows[0][0] == rows[1][0] and len(rows[0]) == 3
    for ours, theirs in zip(rows[0][1:], rows[1][1:], strict=True):
        figures = [[float(value) for value in row.split(",")[1:]] for row in (ours, theirs)]
        np.testing.assert_allclose(*figures, rtol=1e-5)
