"""The training step of CFN-A beside that of the plain CNN-A, in this library and in PyTorch.

    python -m benchmarks.cfn_step [--repeats 9] [--json benchmarks/results/cfn_step.json]

Images of CIFAR's size in batches of 100, as in section 2.4.1. All run in this process, in turn; ratios are those of one
turn, and the middle of the turns is kept beside the smallest and the largest. PyTorch is the extra `bench`, in its
eager mode; without it its rows are left out. The thesis reports 1.67 hours for CNN-B and 2.08 for CFN-B: 1.25 times.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.kept import add_json_option, keep
from benchmarks.steps import cfn, cfn_pytorch
from benchmarks.turns import take_turns, without_pytorch

SIDE, CLASSES, BATCH = 32, 10, 100
RATIOS = (
    ("CFN-A", "CNN-A"),
    ("CFN-A in PyTorch", "CNN-A in PyTorch"),
    ("CNN-A", "CNN-A in PyTorch"),
    ("CFN-A", "CFN-A in PyTorch"),
)


def batch(rows: int) -> dict[str, np.ndarray]:
    """Return images of noise, float32 `[rows, 32, 32, 3]` in 0..255, and labels."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (rows, SIDE, SIDE, 3)).astype(np.float32),
        "label": rng.integers(CLASSES, size=rows).astype(np.int64),
    }


def measure(rows: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row an implementation with its milliseconds, and a row a ratio, each the middle and the range."""
    data = batch(rows)
    steps = {"CFN-A": cfn.step(data, CLASSES, fused=True), "CNN-A": cfn.step(data, CLASSES, fused=False)}
    if without_pytorch() is None:
        steps |= {f"{name} in PyTorch": cfn_pytorch.step(data, CLASSES, fused=name == "CFN-A") for name in list(steps)}
    turns = take_turns(steps, repeats)
    result = []
    for name in steps:
        times = [1000 * turn[name][1] for turn in turns]
        rate = statistics.median(turn[name][0] for turn in turns) / 1e9
        result.append({"batch": rows, "implementation": name, "milliseconds": _summary(times), "gemm_gflops": rate})
    for above, below in RATIOS:
        if above in steps and below in steps:
            ratios = [turn[above][1] / turn[below][1] for turn in turns]
            result.append({"batch": rows, "ratio": f"{above} / {below}", "times": _summary(ratios)})
    return result


def _summary(values: Sequence[float]) -> dict[str, float | list[float]]:
    return {"median": statistics.median(values), "range": [min(values), max(values)]}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cfn_step", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=BATCH, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    add_json_option(parser, "cfn_step")
    arguments = parser.parse_args(argv)
    rows = measure(arguments.batch, arguments.repeats)
    for row in rows:
        name, unit, figures = (
            (row["ratio"], "times", row["times"])
            if "ratio" in row
            else (row["implementation"], "ms", row["milliseconds"])
        )
        low, high = figures["range"]
        print(f"{name:36} {figures['median']:8.3f} {unit:5} ({low:.3f}-{high:.3f})")
    if reason := without_pytorch():
        print(f"PyTorch {reason}: its rows are left out.")
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
