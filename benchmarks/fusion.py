"""Locally-connected fusion, forward and backward, beside einsum and a dense layer of the same width.

    python -m benchmarks.fusion

Three branches of 192 features (CFN on CIFAR) and four of 1,024 (on ImageNet), and two maps of 70 x 70 x 21 (the second
fusion of FCFN). Each is compiled alike; the three take turns, and the middle of the turns is kept.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import add_json_option, keep
from tfthesis.layers import LocallyConnectedFusion

CASES = {
    "3 x 192, batch 100": (3, (100, 192)),
    "4 x 1024, batch 64": (4, (64, 1024)),
    "2 x 70 x 70 x 21, batch 1": (2, (1, 70, 70, 21)),
}
# A dense layer over all positions of a map would have more weights than memory has room for.
MAX_DENSE = 5000


def step(function: Callable, variables: list, inputs: list[tf.Tensor]) -> Callable[[], tf.Tensor]:
    """Return a compiled function that takes the gradient of the sum of squares by inputs and variables."""

    @tf.function
    def run() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(function(inputs) ** 2)
        return tape.gradient(loss, [*inputs, *variables])

    return run


def contenders(branches: int, shape: tuple[int, ...]) -> dict[str, Callable]:
    """Return what is measured on one case, by name."""
    generator = np.random.default_rng(0)
    inputs = [tf.constant(generator.normal(size=shape).astype(np.float32)) for _ in range(branches)]
    layer = LocallyConnectedFusion()
    layer(inputs)
    kernel, bias = (tf.Variable(weight.value) for weight in layer.weights)

    def einsum(values: list[tf.Tensor]) -> tf.Tensor:
        return tf.nn.relu(tf.einsum("b...s,...s->b...", tf.stack(values, axis=-1), kernel) + bias)

    steps = {"layer": step(layer, [weight.value for weight in layer.weights], inputs)}
    steps["einsum"] = step(einsum, [kernel, bias], inputs)
    width = int(np.prod(shape[1:]))
    if width <= MAX_DENSE:
        dense = keras.layers.Dense(width, activation="relu")
        dense.build((None, branches * width))
        joined = lambda values: dense(tf.concat(values, axis=1))  # noqa: E731
        steps["dense"] = step(joined, [weight.value for weight in dense.weights], inputs)
    return steps


def measure(steps: dict[str, Callable], turns: int, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each step over `turns`, each the mean of `repeats` calls."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in steps.values():
        run()
    for _ in range(turns):
        for name, run in steps.items():
            start = time.perf_counter()
            for _ in range(repeats):
                gradients = run()
            gradients[0].numpy()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion", description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=20, help="calls in a turn")
    add_json_option(parser, "fusion")
    arguments = parser.parse_args(argv)
    rows = []
    for case, (branches, shape) in CASES.items():
        times = measure(contenders(branches, shape), arguments.turns, arguments.repeats)
        ratios = {name: value / times["layer"] for name, value in times.items() if name != "layer"}
        text = ", ".join(
            f"{name} {value:.3f} ms ({ratios[name]:.1f} times)" for name, value in times.items() if name in ratios
        )
        print(f"{case}: layer {times['layer']:.3f} ms, {text}", flush=True)
        rows.append({"case": case, "ms": {name: round(value, 4) for name, value in times.items()}})
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
