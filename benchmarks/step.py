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
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks.kept import add_json_option, keep
from benchmarks.steps import bare, ours, products, pytorch

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


def gemm_rate(size: int = 2048) -> float:
    """Return the speed of a float32 matrix product, in floating-point operations a second."""
    a = tf.random.normal([size, size])
    product = tf.function(lambda x: tf.matmul(x, x))
    product(a)
    start = time.perf_counter()
    for _ in range(4):
        result = product(a)
    result.numpy()
    return 4 * 2 * size**3 / (time.perf_counter() - start)


def seconds(step: Callable[[], None], least: float = 1.0) -> float:
    """Return the median time of a step over at least `least` seconds and five steps."""
    times = []
    while sum(times) < least or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def without_pytorch() -> str | None:
    """Return why PyTorch is not compared with, or None."""
    if not pytorch.AVAILABLE:
        return 'is not installed (pip install -e ".[bench]")'
    # Its step stays on the processor.
    return "is compared with on processors only" if tf.config.list_physical_devices("GPU") else None


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
    for step in steps.values():
        for _ in range(3):
            step()
    turns = []
    for turn in range(repeats):
        # Each implementation leads in turn, so that none always runs on a rested machine.
        names = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        turns.append({name: (gemm_rate(), seconds(steps[name])) for name in names})
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
