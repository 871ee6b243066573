"""CycleGAN's training step, vanilla and Nest, beside a bare tf.function and PyTorch: time and memory.

    python -m benchmarks.adversarial_step [--side 128] [--filters 16] [--repeats 3]

A batch is one image of each domain, as in section 8.1.3. "the library" is the step that the training loop takes, "bare
TensorFlow" the same networks with losses, pools and updates in one function, PyTorch the extra `bench` in its eager
mode; without it its rows are left out. All run in this process, in turn; ratios are those of one turn, and the middle
of the turns is kept beside the smallest and the largest. Memory is measured in a process for each: how far building the
networks and three steps raise what it holds, at the highest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.adaptive import PeakMemory
from benchmarks.kept import add_json_option, keep
from benchmarks.steps import adversarial, adversarial_pytorch
from benchmarks.turns import take_turns, without_pytorch

OURS, BARE, PYTORCH = "the library", "bare TensorFlow", "PyTorch"
VARIANTS = {"vanilla": "vanilla", "nest": None}


def batch(side: int) -> dict[str, np.ndarray]:
    """Return an image of noise of each domain, float32 `[1, side, side, 3]` in -1..1."""
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 1, side, side, 3)).astype(np.float32)
    return {"a": a, "b": b}


def make(implementation: str, variant: str, side: int, **settings: Any) -> Callable[[], None]:
    """Return the step of an implementation on a batch; `settings` are fields of the recipe."""
    data = batch(side)
    if implementation == OURS:
        return adversarial.step(data, VARIANTS[variant], **settings)
    if implementation == BARE:
        return adversarial.bare_step(data, VARIANTS[variant], **settings)
    return adversarial_pytorch.step(data, adversarial.recipe_of(data, VARIANTS[variant], **settings))


def measure(variant: str, side: int, repeats: int, **settings: Any) -> list[dict[str, Any]]:
    """Return a row for each implementation: milliseconds, its own and the library's over them, and MiB."""
    names = (OURS, BARE) if without_pytorch() else (OURS, BARE, PYTORCH)
    turns = take_turns({name: make(name, variant, side, **settings) for name in names}, repeats)
    rows = []
    for name in names:
        ratios = [turn[OURS][1] / turn[name][1] for turn in turns]
        row = {"model": variant, "implementation": name, "side": side, **settings}
        row["milliseconds"] = _summary([1000 * turn[name][1] for turn in turns])
        row |= {"ours_over_this": _summary(ratios), "added_mib": memory(name, variant, side, **settings)}
        rows.append(row)
    return rows


def memory(*case: Any, **settings: Any) -> int:
    """Return by how many MiB building and three steps raise the memory of a process of their own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory, case, settings)


def _memory(*case: Any, **settings: Any) -> int:
    with PeakMemory() as peak:
        take = make(*case, **settings)
        for _ in range(3):
            take()
    return round(peak.added)


def _summary(values: Sequence[float]) -> dict[str, float | list[float]]:
    return {"median": statistics.median(values), "range": [min(values), max(values)]}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adversarial_step", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--filters", type=int, default=16, help="of the first convolutions; the thesis has 64")
    parser.add_argument("--blocks", type=int, default=6, help="residual blocks of a generator")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    add_json_option(parser, "adversarial_step")
    options = parser.parse_args(argv)
    settings = {"filters": options.filters, "discriminator_filters": options.filters, "blocks": options.blocks}
    rows = []
    for variant in VARIANTS:
        for row in measure(variant, options.side, options.repeats, **settings):
            rows.append(row)
            time, ratio = row["milliseconds"], row["ours_over_this"]
            print(
                f"{variant:8} {row['implementation']:16} {time['median']:8.1f} ms ({time['range'][0]:.1f}-"
                f"{time['range'][1]:.1f}), the library takes {ratio['median']:.3f} times as long "
                f"({ratio['range'][0]:.3f}-{ratio['range'][1]:.3f}), {row['added_mib']} MiB",
                flush=True,
            )
    if reason := without_pytorch():
        print(f"PyTorch {reason}: its rows are left out.")
    keep(options.json, rows)


if __name__ == "__main__":
    main()
