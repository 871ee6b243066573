"""The matrix products of a training step alone: what is left of the step when everything else is free."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import tensorflow as tf

from benchmarks.steps import pytorch

WIDTHS, DIMENSION = (2048, 512, 512, 512), 2048


def shapes(rows: int, inputs: tuple[int, int], classes: int) -> list[tuple[int, int, int, bool]]:
    """Return (m, k, n, whether the input needs a gradient) for each product `[m, k] x [k, n]` of the forward pass."""
    layers = [(rows, *pair, number > 0) for width in inputs for number, pair in enumerate(pairwise((width, *WIDTHS)))]
    return [*layers, (rows, DIMENSION, classes, True), (rows, WIDTHS[-1], rows, True)]


def flops(rows: int, inputs: tuple[int, int], classes: int) -> float:
    """Return the floating-point operations of a step's products: forward, weight gradients, input gradients."""
    return sum(2 * m * k * n * (2 + wanted) for m, k, n, wanted in shapes(rows, inputs, classes))


def in_tensorflow(rows: int, inputs: tuple[int, int], classes: int) -> Callable[[], None]:
    """Return a function that computes the products of one step in TensorFlow."""
    made = [
        (tf.random.normal([m, k]), tf.random.normal([k, n]), tf.random.normal([m, n]), wanted)
        for m, k, n, wanted in shapes(rows, inputs, classes)
    ]

    @tf.function
    def products() -> list[tf.Tensor]:
        found = []
        for x, w, g, wanted in made:
            found += [tf.matmul(x, w), tf.matmul(x, g, transpose_a=True)]
            found += [tf.matmul(g, w, transpose_b=True)] if wanted else []
        return found

    return lambda: products()[-1].numpy()


def in_pytorch(rows: int, inputs: tuple[int, int], classes: int) -> Callable[[], None]:
    """Return a function that computes the products of one step in PyTorch."""
    torch = pytorch.torch
    made = [
        (torch.randn(m, k), torch.randn(k, n), torch.randn(m, n), wanted)
        for m, k, n, wanted in shapes(rows, inputs, classes)
    ]

    def products() -> None:
        for x, w, g, wanted in made:
            (x @ w, x.T @ g)
            if wanted:
                g @ w.T

    return products
