"""MMC-Net killed in mid-training by SIGKILL ends as if nothing had happened.

Four trainings in processes of their own; `python -m pytest --run-slow tests/end_to_end/test_killed_mmc_net.py`.
"""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from training.export import load_model
from training.request import Request

EVERY = ("--checkpoint-every", "3")
STEPS = 28
MOMENTS = ((3, 6), (8, 12))
"""Checkpoints between which the first and the second kill come; an undisturbed run writes fourteen."""


def weights(folder: Path) -> dict[str, np.ndarray]:
    model = load_model(folder, Request.create("mmc_net", "tiny"))
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.mark.slow
def test_a_run_killed_twice_equals_one_that_was_not(start_training, wait_for, tmp_path):
    undisturbed = start_training(tmp_path / "undisturbed", *EVERY)
    assert undisturbed.wait() == 0, undisturbed.log

    draw, killed_at = random.Random(7), []
    for first, last in MOMENTS:
        number, delay = draw.randint(first, last), draw.uniform(0, 0.05)
        training = start_training(tmp_path / "killed", *EVERY)
        wait_for(training, number)
        # Somewhere in the next steps, or in the writing of the next checkpoint.
        time.sleep(delay)
        training.process.kill()
        assert training.wait() == -signal.SIGKILL, training.log
        assert not (training.folder / "DONE").exists()
        newest = max((training.folder / "checkpoints").glob("checkpoint-*"))
        killed_at.append(json.loads((newest / "state.json").read_text())["position"]["steps"])
    assert 0 < killed_at[0] < killed_at[1] < STEPS, killed_at

    last = start_training(tmp_path / "killed", *EVERY)
    assert last.wait() == 0, last.log
    assert "matching epoch 1 step 1/" not in last.log, "it must resume, not begin again"

    for name in ("metrics.csv", "evaluation.json"):
        assert (last.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes(), name
    ours, theirs = weights(last.folder), weights(undisturbed.folder)
    assert list(ours) == list(theirs) and len(ours) > 20
    for path, array in theirs.items():
        assert array.tobytes() == ours[path].tobytes(), path
