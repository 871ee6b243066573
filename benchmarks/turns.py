"""Implementations that take turns in one process, because the speed of a machine drifts: they are compared by turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from benchmarks.steps import pytorch


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


def take_turns(steps: Mapping[str, Callable[[], None]], repeats: int) -> list[dict[str, tuple[float, float]]]:
    """Return for each turn the `gemm_rate` before each step and its `seconds`, after three steps of warming up."""
    for step in steps.values():
        for _ in range(3):
            step()
    turns = []
    for turn in range(repeats):
        # Each implementation leads in turn, so that none always runs on a rested machine.
        names = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        turns.append({name: (gemm_rate(), seconds(steps[name])) for name in names})
    return turns


def without_pytorch() -> str | None:
    """Return why PyTorch is not compared with, or None."""
    if not pytorch.AVAILABLE:
        return 'is not installed (pip install -e ".[bench]")'
    # Its step stays on the processor.
    return "is compared with on processors only" if tf.config.list_physical_devices("GPU") else None
