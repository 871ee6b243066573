"""Preset `tiny` of MMC-Net, trained as users train it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class TrainingProcess:
    """`python -m training.run` of preset `tiny` in a process of its own; what it writes stands in `log`."""

    def __init__(self, folder: Path, log: Path, arguments: tuple[str, ...], environment: dict[str, str]):
        self.folder, self._log = folder, log
        command = ["-m", "training.run", "--method", "mmc_net", "--preset", "tiny", "--run-dir", str(folder)]
        with open(log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def wait(self, seconds: float = 300.0) -> int:
        """Exit code, once the process has ended."""
        return self.process.wait(seconds)


@pytest.fixture
def start_training(tmp_path) -> Iterator[Callable[..., TrainingProcess]]:
    """Starts a training process: its run directory, options, and with `workers` its index and those of all."""
    started: list[TrainingProcess] = []

    def start(folder: Path, *arguments: str, worker: int = 0, workers: list[str] | None = None) -> TrainingProcess:
        environment = {}
        if workers:
            task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": worker}}
            environment["TF_CONFIG"] = json.dumps(task)
            arguments = ("--strategy", "multi_worker", *arguments)
        log = tmp_path / f"log-{len(started)}.txt"
        started.append(TrainingProcess(folder, log, arguments, environment))
        return started[-1]

    yield start
    for training in started:
        training.process.kill()
        training.process.wait()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Waits until the run that a process trains has its checkpoint `number`."""

    def wait(training: TrainingProcess, number: int, seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not (training.folder / "checkpoints" / f"checkpoint-{number:06d}").is_dir():
            assert training.process.poll() is None, training.log
            assert time.monotonic() < deadline, training.log
            time.sleep(0.005)

    return wait
