"""Recall and speed of one search against another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfthesis.retrieval.neighbours import Neighbours

CHUNK = 64


def found_rows(neighbours: Neighbours, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the gallery rows found for `queries` `[B, D]`, int32 `[B, k]`, a few queries at a time."""
    chunks = [queries[start : start + CHUNK] for start in range(0, len(queries), CHUNK)]
    return np.concatenate([neighbours.rows(tf.constant(chunk), k)[0].numpy() for chunk in chunks])


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """Return the mean share of the `true` `[B, k]` neighbours that were `found` `[B, k]`, in any order."""
    hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, true, strict=True)]
    return float(np.mean(hits) / true.shape[1])


def median_seconds(calls: Sequence[Callable[[], object]], repeats: int = 15, warm_up: int = 2) -> list[float]:
    """Return the median time of each call, in seconds.

    The calls take turns, so that a change of the machine's speed meets all of them.
    """
    times = np.zeros((repeats, len(calls)))
    for repeat in range(-warm_up, repeats):
        for column, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if repeat >= 0:
                times[repeat, column] = time.perf_counter() - start
    return [float(value) for value in np.median(times, axis=0)]
