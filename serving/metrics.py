"""Counts and latencies of requests, as the Prometheus page of TensorFlow Serving names them."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import grpc
from google.protobuf import text_format

from serving.errors import ServingError
from serving.messages import MonitoringConfig
from tfthesis.errors import UserError

DEFAULT_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain"
COUNT = "/tensorflow/serving/request_count"
LATENCY = "/tensorflow/serving/request_latency"
RUNTIME = "/tensorflow/serving/runtime_latency"
WARM_UP = "/tensorflow/serving/model_warmup_latency"
EXAMPLES = "/tensorflow/serving/request_example_counts"
EXAMPLE_TOTAL = "/tensorflow/serving/request_example_count_total"
#: Stands for every model that is not served, so that nobody can grow the page by asking for more.
UNKNOWN = "(unknown)"
# Upper ends in microseconds, from 10 us to about 30 minutes; and of numbers of examples.
_TIMES = tuple(10.0 * 1.8**power for power in range(33))
_SIZES = tuple(2.0**power for power in range(15))
_COUNTERS = (COUNT, EXAMPLE_TOTAL)
_HISTOGRAMS = {LATENCY: _TIMES, RUNTIME: _TIMES, WARM_UP: _TIMES, EXAMPLES: _SIZES}
# So many versions stay listed; their paths would grow the page for ever.
_WARM_UPS_KEPT = 100
# How TensorFlow Serving names a Session.
_RUNTIME_NAME = "TF1"

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What was asked and how long it took; safe to use from several threads."""

    def __init__(self, known: Callable[[], Collection[str]] = tuple):
        """Count by model; `known` returns the names of those that are served, asked when one is new."""
        self._known = known
        self._lock = threading.Lock()
        self._models: set[str] = set()
        self._counters: dict[str, dict[_Labels, int]] = {name: {} for name in _COUNTERS}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {name: {} for name in _HISTOGRAMS}

    @contextlib.contextmanager
    def measure(self, api: str, entrypoint: str, model: str) -> Iterator[None]:
        """Count a request that is answered in a `with` block, by the status that it ends with.

        Args:
            api: call, such as "Predict".
            entrypoint: "GRPC" or "REST".
            model: name in the request.
        """
        start, status = time.perf_counter(), grpc.StatusCode.INTERNAL
        try:
            yield
            status = grpc.StatusCode.OK
        except ServingError as error:
            status = error.code
            raise
        finally:
            self._note(api, entrypoint, model, status, (time.perf_counter() - start) * 1e6)

    def note_run(self, model: str, api: str, seconds: float) -> None:
        """Note the time that a request of a served model spent in TensorFlow, the wait for others included."""
        with self._lock:
            self._add(RUNTIME, (("model_name", model), ("API", api), ("runtime", _RUNTIME_NAME)), seconds * 1e6)

    def note_warm_up(self, path: Path, status: grpc.StatusCode, seconds: float) -> None:
        """Note how long the warm-up records of the version in `path` took."""
        with self._lock:
            self._add(WARM_UP, (("model_path", str(path)), ("status", status.name)), seconds * 1e6)
            listed = self._histograms[WARM_UP]
            for labels in list(listed)[:-_WARM_UPS_KEPT]:
                del listed[labels]

    def note_examples(self, model: str, count: int) -> None:
        """Note the number of examples in a request of a served model."""
        labels = (("model", model),)
        with self._lock:
            self._add(EXAMPLES, labels, count)
            self._count(EXAMPLE_TOTAL, labels, count)

    def total(self, name: str) -> int | None:
        """Return the sum of a counter over its labels, None for an unknown name."""
        with self._lock:
            return sum(self._counters[name].values()) if name in self._counters else None

    def page(self) -> str:
        """Return the metrics in Prometheus' text format; slashes of names are colons there."""
        lines = []
        with self._lock:
            for name, counts in self._counters.items():
                lines.append(_type_line(name, "counter"))
                lines += [_line(name, labels, count) for labels, count in sorted(counts.items())]
            for name, histograms in self._histograms.items():
                lines.append(_type_line(name, "histogram"))
                for labels, histogram in sorted(histograms.items(), key=lambda item: item[0]):
                    lines += histogram.lines(name, labels)
        return "\n".join(lines) + "\n"

    def _note(self, api: str, entrypoint: str, model: str, status: grpc.StatusCode, microseconds: float) -> None:
        if model not in self._models:
            known = set(self._known())
            with self._lock:
                self._models |= known
            model = model if model in known else UNKNOWN
        with self._lock:
            self._count(COUNT, (("model_name", model), ("status", status.name)), 1)
            if status is grpc.StatusCode.OK:
                labels = (("model_name", model), ("API", api), ("entrypoint", entrypoint))
                self._add(LATENCY, labels, microseconds)

    def _count(self, name: str, labels: _Labels, count: int) -> None:
        self._counters[name][labels] = self._counters[name].get(labels, 0) + count

    def _add(self, name: str, labels: _Labels, value: float) -> None:
        histogram = self._histograms[name].get(labels)
        if histogram is None:
            histogram = self._histograms[name][labels] = _Histogram(_HISTOGRAMS[name])
        histogram.add(value)


class _Histogram:
    """Counts of values up to the `ends` of buckets, and their sum."""

    def __init__(self, ends: tuple[float, ...]):
        self._ends = ends
        self._counts = [0] * (len(ends) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._ends, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: _Labels) -> Iterator[str]:
        count = 0
        for end, own in zip([*map(repr, self._ends), "+Inf"], self._counts, strict=True):
            count += own
            yield _line(f"{name}_bucket", (*labels, ("le", end)), count)
        yield _line(f"{name}_sum", labels, self._sum)
        yield _line(f"{name}_count", labels, count)


def read_path(file: Path) -> str | None:
    """Return the path of the page that a `MonitoringConfig` in protobuf text format asks for, None for no page.

    Raises:
        UserError: the file cannot be read, or the path does not begin with a slash.
    """
    try:
        config = text_format.Parse(file.read_text(encoding="utf-8"), MonitoringConfig()).prometheus_config
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(f"--monitoring_config_file {file}: {error}") from error
    path = config.path or DEFAULT_PATH
    if not path.startswith("/"):
        raise UserError(f"--monitoring_config_file {file}: path: expected a slash first, got {path!r}")
    return path if config.enable else None


def _type_line(name: str, kind: str) -> str:
    return f"# TYPE {name.replace('/', ':')} {kind}"


def _line(name: str, labels: _Labels, value: float) -> str:
    inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    return f"{name.replace('/', ':')}{{{inside}}} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
