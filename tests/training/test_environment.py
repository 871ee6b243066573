"""What a run is told of its machine."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from training.environment import source_commit, usable_cores
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


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_results_that_were_written_do_not_mark_a_commit(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert source_commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    for folder in ("results", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "figures.json").write_text("{}")
    assert source_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert source_commit(tmp_path) == f"{commit} with changes"
