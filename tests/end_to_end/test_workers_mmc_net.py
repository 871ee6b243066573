"""Two workers train the MMC-Net of one, and survive the loss of either.

Eleven trainings in processes of their own; `python -m pytest --run-slow tests/end_to_end/test_workers_mmc_net.py`.
"""

from __future__ import annotations

import csv
import json
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

LOST_WORKER = 75
SHORT = ("--set", "matching_epochs=1", "--set", "classification_epochs=1", "--set", "joint_epochs=1")
EVERY = ("--checkpoint-every", "2")
LOSSES = ("loss", "matching", "classification")


def free_addresses() -> list[str]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


@pytest.fixture
def start_workers(start_training):
    """Starts two workers on one run directory."""

    def start(folder: Path) -> list:
        addresses = free_addresses()
        return [start_training(folder, *SHORT, *EVERY, worker=index, workers=addresses) for index in range(2)]

    return start


@pytest.fixture(scope="module")
def losses_of_one(tmp_path_factory) -> np.ndarray:
    from training.execution import execute
    from training.request import Request

    folder = tmp_path_factory.mktemp("one")
    execute(Request.create("mmc_net", "tiny", None, [part for part in SHORT if part != "--set"]), folder)
    return losses(folder)


def losses(folder: Path) -> np.ndarray:
    """Return the training losses `[epochs, 3]` of a run; NaN where a stage does not have one."""
    with open(folder / "metrics.csv", newline="") as file:
        return np.array([[float(row[name] or "nan") for name in LOSSES] for row in csv.DictReader(file)])


def finish(workers: list, expected: np.ndarray) -> None:
    """Wait for both workers and compare what they learnt."""
    codes = [worker.wait() for worker in workers]
    assert codes == [0, 0], [worker.log for worker in workers]
    folder = workers[0].folder
    assert (folder / "DONE").exists()
    assert expected.shape == (3, len(LOSSES))
    np.testing.assert_allclose(losses(folder), expected, rtol=1e-5)


@pytest.mark.slow
def test_two_workers_learn_what_one_does(start_workers, losses_of_one, tmp_path):
    workers = start_workers(tmp_path / "two")
    finish(workers, losses_of_one)
    assert json.loads((tmp_path / "two" / "evaluation.json").read_text())["split"] == "test"


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_is_said_and_both_resume(start_workers, wait_for, losses_of_one, tmp_path, lost):
    workers = start_workers(tmp_path / "two")
    wait_for(workers[0], 4)
    workers[lost].process.kill()
    assert workers[lost].wait() == -signal.SIGKILL
    other = workers[1 - lost]
    assert other.wait() == LOST_WORKER, other.log
    assert f"worker {1 - lost}: lost contact with another worker. Restart all workers" in other.log
    assert "Traceback" not in other.log
    assert not (tmp_path / "two" / "DONE").exists()

    workers = start_workers(tmp_path / "two")
    finish(workers, losses_of_one)
    assert "matching epoch 1 step 1/" not in workers[0].log, "it must resume, not begin again"
