"""What a run ran on: versions, processor, devices, command and commit, kept as `environment.json`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What figures of speed depend on.
MACHINE = ("processor", "cores", "memory_gib", "devices", "python", "packages", "commit")
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-text", "scann", "scipy", "scikit-learn")


def describe_environment(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Return versions, processor, memory, devices, command line and source commit as JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "devices": _devices(),
        "command": shlex.join(sys.orig_argv if argv is None else argv),
        "commit": source_commit(Path(__file__).resolve().parent.parent),
    }


def describe_machine() -> dict[str, Any]:
    """Return the part of `describe_environment` that figures of speed depend on."""
    environment = describe_environment()
    return {name: environment[name] for name in MACHINE}


def usable_cores() -> int:
    """Return how many cores this process may use: those that it is bound to, and no more than `OMP_NUM_THREADS`.

    That is how `python -m training.reproduce --jobs N` gives each run its share.
    """
    share = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores


def package_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the model name of the first processor; `platform.processor` is empty on most Linux systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _devices() -> list[str]:
    """Return the accelerators that TensorFlow uses; empty when it is not loaded or has none."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return []
    gpus = tensorflow.config.list_physical_devices("GPU")
    return [tensorflow.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]


def source_commit(folder: Path) -> str | None:
    """Return the commit of the source, marked when files but those of results differ; None outside a checkout."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None
    head = subprocess.run([git, "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    # What a table or a benchmark has written already would mark all that it measures afterwards.
    sources = ["--", ".", ":(exclude)results", ":(exclude)benchmarks/results"]
    asked = [git, "-C", folder, "status", "--porcelain", *sources]
    changes = subprocess.run(asked, capture_output=True, text=True, check=False)
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")
