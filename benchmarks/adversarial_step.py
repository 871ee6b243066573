"""The training step of CycleGAN, vanilla and Nest, and SwapGAN beside a bare tf.function and PyTorch: time and memory.

    python -m benchmarks.adversarial_step [--side 128] [--filters 16] [--repeats 3] [--one swap_gan]

A batch is one image of each domain for CycleGAN, as in section 8.1.3, and eight pairs for SwapGAN, as in 8.2.3. "the
library" is the step that the training loop takes, "bare TensorFlow" the same networks with losses, pools and updates in
one function, PyTorch the extra `bench` in its eager mode; without it its rows are left out. All run in this process, in
turn; ratios are those of one turn, and the middle of the turns is kept beside the smallest and the largest. Memory is
measured in a process for each: how far building the networks and three steps raise what it holds, at the highest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.adaptive import PeakMemory
from benchmarks.kept import add_json_option, keep
from benchmarks.steps import adversarial, cycle_gan, cycle_gan_pytorch, swap_gan, swap_gan_pytorch
from benchmarks.turns import take_turns, without_pytorch
from tfthesis.recipe import Recipe

OURS, BARE, PYTORCH = "the library", "bare TensorFlow", "PyTorch"


class Case(NamedTuple):
    """The modules with a method's step, without PyTorch and with it, and the variant of the method."""

    steps: ModuleType
    pytorch: ModuleType
    variant: str | None = None

    def recipe(self, side: int, **settings: Any) -> Recipe:
        """Return the method's recipe for images of `side` pixels; `settings` are fields of it."""
        return adversarial.recipe_of(self.steps.METHOD, self.variant, side, **settings)

    def settings(self, filters: int, blocks: int) -> dict[str, int]:
        """Return the fields of the recipe that are measured with."""
        return {"batch_size": self.steps.BATCH, **dict.fromkeys(self.steps.FILTERS, filters), "blocks": blocks}


CASES = {
    "vanilla": Case(cycle_gan, cycle_gan_pytorch, "vanilla"),
    "nest": Case(cycle_gan, cycle_gan_pytorch),
    "swap_gan": Case(swap_gan, swap_gan_pytorch),
}


def make(implementation: str, name: str, side: int, **settings: Any) -> Callable[[], None]:
    """Return the step of an implementation of the case `name`; `settings` are fields of the recipe."""
    case = CASES[name]
    recipe = case.recipe(side, **settings)
    data = case.steps.batch(recipe)
    if implementation == PYTORCH:
        _, take = case.pytorch.build(data, recipe)
        return lambda: take().item()
    model = adversarial.build(case.steps.METHOD, recipe, data)
    if implementation == OURS:
        return adversarial.taken(model, data)
    return adversarial.bare_taken(case.steps.Bare(model, recipe), data)


def measure(name: str, side: int, repeats: int, **settings: Any) -> list[dict[str, Any]]:
    """Return a row for each implementation: milliseconds, the library's over its own, and MiB."""
    implementations = (OURS, BARE) if without_pytorch() else (OURS, BARE, PYTORCH)
    turns = take_turns({one: make(one, name, side, **settings) for one in implementations}, repeats)
    rows = []
    for one in implementations:
        ratios = [turn[OURS][1] / turn[one][1] for turn in turns]
        row = {"model": name, "implementation": one, "side": side, **settings}
        row["milliseconds"] = _summary([1000 * turn[one][1] for turn in turns])
        row |= {"ours_over_this": _summary(ratios), "added_mib": memory(one, name, side, **settings)}
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
    """Measure, print a table, and write it as JSON; with `--one` a single model, of which nothing is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adversarial_step", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--filters", type=int, default=16, help="of the first convolutions; the thesis has 64")
    parser.add_argument("--blocks", type=int, default=6, help="residual blocks of a generator")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--one", choices=tuple(CASES), help="measure this model only, and keep nothing")
    add_json_option(parser, "adversarial_step")
    options = parser.parse_args(argv)
    rows = []
    for name in [options.one] if options.one else CASES:
        settings = CASES[name].settings(options.filters, options.blocks)
        for row in measure(name, options.side, options.repeats, **settings):
            rows.append(row)
            time, ratio = row["milliseconds"], row["ours_over_this"]
            print(
                f"{name:8} {row['implementation']:16} {time['median']:8.1f} ms ({time['range'][0]:.1f}-"
                f"{time['range'][1]:.1f}), the library takes {ratio['median']:.3f} times as long "
                f"({ratio['range'][0]:.3f}-{ratio['range'][1]:.3f}), {row['added_mib']} MiB",
                flush=True,
            )
    if reason := without_pytorch():
        print(f"PyTorch {reason}: its rows are left out.")
    if not options.one:
        keep(options.json, rows)


if __name__ == "__main__":
    main()
