"""What a run is told of its machine."""

from __future__ import annotations

import os

import pytest

from training.environment import usable_cores
from training.reproduction.commands import THREADS


@pytest.mark.parametrize(("share", "cores"), [(None, 4), ("", 4), ("2", 2), ("16", 4), ("0", 4), ("2,1", 4)])
def test_cores_are_those_of_the_affinity_and_the_share(share, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    if share is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", share)
    assert usable_cores() == cores


def test_a_run_of_several_is_told_its_share():
    assert "OMP_NUM_THREADS" in THREADS
