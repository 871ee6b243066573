"""What is asked of every index, and how long a query takes and what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.planted_search.collection import GROUP
from tfthesis.inverted_index.options import Scoring

#: Images that are asked for.
ASKED = 10
ALPHA = 8.0
KINDS = ("ratio", "log")
#: Without signatures, with those of all images that match, and with those of the images with the largest sums.
CANDIDATES = 512
SIGNATURES = ((0.0, 0), (ALPHA, 0), (ALPHA, CANDIDATES))
SCORINGS = tuple(
    Scoring(assignments, kind, alpha, candidates)
    for kind in KINDS
    for assignments in (1, 3)
    for alpha, candidates in SIGNATURES
)


def timed(ask: Callable[..., Any], queries: Iterable[tuple]) -> tuple[list[Any], np.ndarray]:
    """Return the answer to each query, and the milliseconds that it took by the clock and of the processor, `[Q, 2]`.

    On a machine that others use too, the processor's time leaves out the time that they had the processor.
    """
    queries = list(queries)
    for query in queries[:10]:
        ask(*query)
    answers, times = [], np.empty((len(queries), 2))
    for number, query in enumerate(queries):
        start, start_busy = time.perf_counter(), time.thread_time()
        answers.append(ask(*query))
        times[number] = time.perf_counter() - start, time.thread_time() - start_busy
    return answers, 1e3 * times


def figures(found: Iterable[np.ndarray], true: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """Return recall@4 of rows, best first, and the time of a query: the median and what 95% of them stay below."""
    recall = np.mean([np.isin(theirs, mine[:GROUP]).mean() for mine, theirs in zip(found, true, strict=True)])
    ms, ms_cpu = np.median(times, axis=0)
    values = {"ms": ms, "ms_p95": np.percentile(times[:, 0], 95), "ms_cpu": ms_cpu}
    return {"recall": round(float(recall), 4), **{name: round(float(value), 3) for name, value in values.items()}}


def rule_of(scoring: Scoring) -> str:
    """Return what a way to weigh matches is called in tables, whatever the multiple assignment."""
    return f"{scoring.idf} {_signatures_of(scoring)}"


def name_of(scoring: Scoring) -> str:
    """Return what a setting is called in tables."""
    return f"{scoring.idf} MA={scoring.assignments} {_signatures_of(scoring)}"


def _signatures_of(scoring: Scoring) -> str:
    if not scoring.alpha:
        return "no GIS"
    return f"GIS of {scoring.candidates}" if scoring.candidates else "GIS"
