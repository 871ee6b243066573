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
#: Stands for every model that is not served, so that nobody can grow the page by asking for more.
UNKNOWN = "(unknown)"
# Upper ends in microseconds, from 10 us to about 30 minutes.
_BUCKETS = tuple(10.0 * 1.8**power for power in range(33))


class Metrics:
    """What was asked and how long it took; safe to use from several threads."""

    def __init__(self, known: Callable[[], Collection[str]] = tuple):
        """Count by model; `known` returns the names of those that are served, asked when one is new."""
        self._known = known
        self._lock = threading.Lock()
        self._models: set[str] = set()
        self._counts: dict[tuple[str, str], int] = {}
        self._latencies: dict[tuple[str, str, str], _Histogram] = {}

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

    def total(self, name: str) -> int | None:
        """Return the sum of a counter over its labels, None for an unknown name."""
        with self._lock:
            return sum(self._counts.values()) if name == COUNT else None

    def page(self) -> str:
        """Return the metrics in Prometheus' text format; slashes of names are colons there."""
        with self._lock:
            lines = [_type_line(COUNT, "counter")]
            for (model, status), count in sorted(self._counts.items()):
                lines.append(_line(COUNT, {"model_name": model, "status": status}, count))
            lines.append(_type_line(LATENCY, "histogram"))
            for (model, api, entrypoint), histogram in sorted(self._latencies.items()):
                labels = {"model_name": model, "API": api, "entrypoint": entrypoint}
                lines += histogram.lines(labels)
        return "\n".join(lines) + "\n"

    def _note(self, api: str, entrypoint: str, model: str, status: grpc.StatusCode, microseconds: float) -> None:
        if model not in self._models:
            known = set(self._known())
            with self._lock:
                self._models |= known
            model = model if model in known else UNKNOWN
        with self._lock:
            key = (model, status.name)
            self._counts[key] = self._counts.get(key, 0) + 1
            if status is grpc.StatusCode.OK:
                self._latencies.setdefault((model, api, entrypoint), _Histogram()).add(microseconds)


class _Histogram:
    """Counts of values up to the ends of `_BUCKETS`, and their sum."""

    def __init__(self):
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(_BUCKETS, value)] += 1
        self._sum += value

    def lines(self, labels: dict[str, str]) -> Iterator[str]:
        count = 0
        for end, own in zip([*map(repr, _BUCKETS), "+Inf"], self._counts, strict=True):
            count += own
            yield _line(f"{LATENCY}_bucket", {**labels, "le": end}, count)
        yield _line(f"{LATENCY}_sum", labels, self._sum)
        yield _line(f"{LATENCY}_count", labels, count)


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


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name.replace('/', ':')}{{{inside}}} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
