"""Runs as commands: `python -m training.run`, each in a process of its own, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tfthesis.errors import UserError
from training.command_line import shown
from training.request import Request

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of an interrupted run, and of one that had not yet learnt to wait for a checkpoint."""


class Commands:
    """Starts the commands of runs, and ends those that still train.

    Each run starts from the same state as one that is typed by hand, and gives its memory back.

    Args:
        jobs: commands at a time. Of several, each gets its share of the cores: small models gain little from a
            second thread.
    """

    def __init__(self, jobs: int = 1):
        self._jobs = jobs
        share = str(max(1, len(os.sched_getaffinity(0)) // jobs))
        self._environment = {**os.environ, **(dict.fromkeys(THREADS, share) if jobs > 1 else {})}
        self._processes: set[subprocess.Popen] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, request: Request, folder: Path) -> None:
        """Train `request` into `folder`.

        Raises:
            UserError: the command failed; its own message is passed on.
            KeyboardInterrupt: it was interrupted.
        """
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command(request, folder),
                cwd=Path(__file__).resolve().parent.parent.parent,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C reaches this process alone, which passes it on once: a second signal would end the run at
                # once, without its checkpoint.
                start_new_session=True,
            )
            self._processes.add(process)
        last = ""
        for line in process.stderr:
            print(f"{self._mark(folder)}{line.rstrip()}", file=sys.stderr, flush=True)
            last = line.strip() or last
        code = process.wait()
        with self._lock:
            self._processes.discard(process)
        if code in STOPPED:
            raise KeyboardInterrupt
        if code:
            raise UserError(f"{last.removeprefix('error: ')} (exit code {code} of training.run)")

    def _mark(self, folder: Path) -> str:
        """Return what precedes a line of a run: its folder, where several runs speak at a time."""
        return "    " if self._jobs == 1 else f"    {folder.name}: "

    def stop(self) -> None:
        """Ask all commands to stop, which write a checkpoint first; none is started any more."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.terminate()


def command(request: Request, folder: Path) -> list[str]:
    """Return the command line that trains `request` into `folder`, as a person would type it."""
    start = request.method.recipe(request.preset, request.variant)
    changed = [name for name, value in vars(request.recipe).items() if value != getattr(start, name)]
    words = [sys.executable, "-m", "training.run", "--method", request.name, "--preset", request.preset]
    words += ["--variant", request.variant] if request.variant else []
    words += ["--data-dir", str(request.data_dir)] if request.data_dir else []
    words += ["--seed", str(request.seed), "--run-dir", str(folder.absolute())]
    for name in changed:
        words += ["--set", f"{name}={shown(getattr(request.recipe, name))}"]
    return words
