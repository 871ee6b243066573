"""MMC-Net's joint training step beside the same mathematics in bare TensorFlow and in PyTorch.

    python -m benchmarks.step [--batches 128 1500] [--repeats 7] [--json benchmarks/results/step.json]

All three run in this process, in turn, with a matrix product timed before each turn: the machine's speed
drifts, so compare a step with the product beside it and with the other steps of its turn, by ratio.
`products alone` computes the matrix products of a step and nothing else: the part of its time that belongs
to the library's kernels for these shapes. PyTorch is the extra `bench`; without it its rows are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.kept import add_json_option, keep
from benchmarks.steps import bare, ours, products, pytorch
from benchmarks.turns import take_turns, without_pytorch

IMAGE, TEXT, CLASSES = 2048, 300, 20


def batch(rows: int) -> dict[str, np.ndarray]:
    """Return a batch of the thesis's widths, five captions an image."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(rows, IMAGE)).astype(np.float32),
        "text": rng.normal(size=(rows, TEXT)).astype(np.float32),
        "image_id": (np.arange(rows) // 5).astype(np.int64),
        "label": rng.integers(CLASSES, size=rows).astype(np.int64),
    }


def measure(rows: int, repeats: int) -> list[dict]:
    """Return one row an implementation for a batch size."""
    data = batch(rows)
    sizes = (rows, (IMAGE, TEXT), CLASSES)
    steps = {
        "ours": ours.step(data, CLASSES),
        "bare TensorFlow": bare.step(data, CLASSES),
        "TensorFlow, products alone": products.in_tensorflow(*sizes),
    }
    if without_pytorch() is None:
        steps["PyTorch"] = pytorch.step(data, CLASSES)
        steps["PyTorch, products alone"] = products.in_pytorch(*sizes)
    turns = take_turns(steps, repeats)
    result = []
    for name in steps:
        rates, times = zip(*(turn[name] for turn in turns), strict=True)
        ratios = [turn["ours"][1] / turn[name][1] for turn in turns]
        floor = [products.flops(*sizes) / rate / t for rate, t in zip(rates, times, strict=True)]
        result.append(
            {
                "batch": rows,
                "implementation": name,
                "milliseconds": 1000 * statistics.median(times),
                "gemm_gflops": statistics.median(rates) / 1e9,
                "share_of_gemm_floor": statistics.median(floor),
                "ours_over_this": statistics.median(ratios),
                "ours_over_this_range": [min(ratios), max(ratios)],
            }
        )
    return result


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 1500])
    parser.add_argument("--repeats", type=int, default=7)
    add_json_option(parser, "step")
    arguments = parser.parse_args()
    rows = [row for size in arguments.batches for row in measure(size, arguments.repeats)]
    print(f"{'batch':>6} {'implementation':26} {'ms':>8} {'GEMM GFLOP/s':>13} {'of floor':>9} {'ours/this':>9}  range")
    for row in rows:
        low, high = row["ours_over_this_range"]
        print(
            f"{row['batch']:6} {row['implementation']:26} {row['milliseconds']:8.1f} {row['gemm_gflops']:13.0f} "
            f"{row['share_of_gemm_floor']:9.0%} {row['ours_over_this']:9.3f}  {low:.3f}-{high:.3f}"
        )
    if reason := without_pytorch():
        print(f"PyTorch {reason}: its rows are left out.")
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
