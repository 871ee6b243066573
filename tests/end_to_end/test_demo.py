"""scripts/demo.sh answers queries from a bare checkout, and does so again without training.

Two runs of the script in a copy of the checkout; `python -m pytest --run-slow tests/end_to_end/test_demo.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMP = "tfthesis-installed"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of this checkout, without what git ignores."""
    folder = tmp_path / "checkout"
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def environment(tmp_path, checkout) -> Path:
    """The running environment by links, with a stamp that says that the copied checkout is installed in it.

    So setup finds nothing to do: it needs no network, and the environment goes on naming the checkout it named.
    """
    folder = tmp_path / "environment"
    folder.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != STAMP:
            (folder / path.name).symlink_to(path)
    installed = [checkout / name for name in ("requirements.lock", "setup.py", "pyproject.toml")]
    (folder / STAMP).write_text(f"{checkout}\n" + "".join(path.read_text("utf-8") for path in installed))
    return folder


def demo(checkout: Path, environment: Path) -> tuple[str, str]:
    """Run the script; returns what it printed, and how it showed its progress."""
    done = subprocess.run(
        [checkout / "scripts/demo.sh", "--preset", "tiny"],
        env={**os.environ, "VIRTUAL_ENV": str(environment)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "setup: already installed" in done.stdout
    return done.stdout, done.stderr


def written(checkout: Path) -> dict[Path, int]:
    """Return when each file of the run and of the export was written."""
    files = [*checkout.glob("runs/mmc_net/**/*"), *checkout.glob("saved_models/mmc_net_tiny/**/*")]
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}


@pytest.mark.slow
def test_demo_answers_every_query_and_again_without_training(checkout, environment):
    questions = re.findall(r'^  "(.+)"$', (checkout / "scripts/demo.sh").read_text("utf-8"), flags=re.M)
    assert len(questions) == 4
    progress, states = [], []
    for _ in range(2):
        output, shown = demo(checkout, environment)
        progress.append(shown)
        states.append(written(checkout))
        for query, count in [*((question, 3) for question in questions), ("runs/query.png", 5)]:
            _, _, answers = output.partition(f"\n{query}\n")
            scored = [re.match(r"  \d\.  -?\d\.\d{4}  test-\S+  \w", line) for line in answers.splitlines()[:count]]
            assert len(scored) == count and all(scored), f"{query}: {answers}"
    assert "matching epoch 1" in progress[0] and "epoch" not in progress[1]
    assert states[0] == states[1] and any(path.name == "model.keras" for path in states[0])
