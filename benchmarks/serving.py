"""How many questions a second the embedded server answers, how long one takes, and what a new version costs.

    python -m benchmarks.serving

Two models: a perceptron (300-2048-512-512-512, one row a question) and a search among 100,000 vectors. Each is
served by `python -m serving.server --enable_batching`, with the same flags for every number of clients, which
ask from a process of their own with ready-made bytes. In the same run: the same SavedModel as a callable of a
Session in this process, for one, two and eight threads, and a gRPC server that answers without any work, which tells
how much of the difference is the transport's. Then 200 questions a second: those from a second before
a new version of the perceptron appears to a second after it is served, and the same when it is taken back.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks import load
from benchmarks.kept import add_json_option, keep
from serving.client import Client
from serving.codec import encode
from tfthesis.export.session import open_session

WIDTHS = (300, 2048, 512, 512, 512)
ITEMS, RESULTS = 100_000, 20
CLIENTS = (1, 8, 32)
RATE = 200
WARM_UP_SECONDS = 0.5
LISTENING = re.compile(r"listening on (\S+)")

Row = dict[str, str | float]


def write_perceptron(folder: Path, seed: int = 0) -> None:
    """Write a multilayer perceptron with random weights and a normalised output."""
    generator = np.random.default_rng(seed)
    module = tf.Module()
    shapes = list(itertools.pairwise(WIDTHS))
    module.weights = [tf.Variable((generator.normal(size=s) / s[0] ** 0.5).astype(np.float32)) for s in shapes]

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTHS[0]], tf.float32, name="x")])
    def embed(x):
        for weights in module.weights:
            x = tf.nn.relu(tf.matmul(x, weights))
        return {"embedding": tf.math.l2_normalize(x, -1)}

    tf.saved_model.save(module, str(folder), signatures=embed)


def write_search(folder: Path) -> None:
    """Write an exact search among random unit vectors of 128 components."""
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 128)).astype(np.float32)
    module = tf.Module()
    module.vectors = tf.Variable(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="x")])
    def search(x):
        best = tf.math.top_k(tf.matmul(x, module.vectors, transpose_b=True), RESULTS)
        return {"ids": best.indices, "scores": best.values}

    tf.saved_model.save(module, str(folder), signatures=search)


@contextlib.contextmanager
def served(base_path: Path) -> Iterator[tuple[str, int]]:
    """Run the server; yields its address and process id."""
    command = [sys.executable, "-m", "serving.server", "--model_base_path", str(base_path), "--port", "0"]
    flags = ["--enable_batching", "--file_system_poll_wait_seconds", "0.1"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            match = next(filter(None, map(LISTENING.search, lines)), None)
            if match is None:
                raise SystemExit(f"the server ended with code {process.wait()}")
            # A full pipe would stop the server at its next message.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield match[1], process.pid
        finally:
            process.terminate()


def ask(address: str, request: Path, clients: int, seconds: float) -> np.ndarray:
    """Return the seconds of each answer that `clients` closed loops got in `seconds`, after a warm-up."""
    process = load.start(address, request, "--clients", clients, "--seconds", WARM_UP_SECONDS + seconds)
    answers = load.answers_of(process)
    failed = {status for _, _, status in answers} - {"OK"}
    if failed:
        raise SystemExit(f"questions failed: {failed}")
    first = min(time for time, _, _ in answers)
    return np.array([taken for time, taken, _ in answers if time > first + WARM_UP_SECONDS])


def repeat(function: Callable[[], object], threads: int, seconds: float) -> tuple[np.ndarray, float]:
    """Return the seconds of each call of `function` and the calls a second, from `threads` that call at once."""
    times: list[float] = []

    def run(record: bool, end: float) -> None:
        while (start := time.perf_counter()) < end:
            function()
            if record:
                times.append(time.perf_counter() - start)

    for record, length in ((False, WARM_UP_SECONDS), (True, seconds)):
        end = time.perf_counter() + length
        workers = [threading.Thread(target=run, args=(record, end)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return np.array(times), len(times) / seconds


def row_of(name: str, times: np.ndarray, rate: float) -> Row:
    """Print a row of the table and return it."""
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    print(f"{name:44} {rate:9.0f} {p50:9.3f} {p99:9.3f}", flush=True)
    return {"what": name, "a_second": round(rate, 1), "p50_ms": round(p50, 4), "p99_ms": round(p99, 4)}


def measure(name: str, write: Callable[[Path], None], width: int, seconds: float, folder: Path) -> list[Row]:
    """Measure a model in a server and in this process; returns the rows of the table and of what follows from it."""
    export = folder / name / "1"
    write(export)
    x = np.random.default_rng(1).normal(size=(1, width)).astype(np.float32)
    request = predict_pb2.PredictRequest(model_spec={"name": name})
    encode(x, request.inputs["x"])
    file = folder / f"{name}.request"
    file.write_bytes(request.SerializeToString())
    rows = []
    with served(folder) as (address, _):
        for clients in CLIENTS:
            times = ask(address, file, clients, seconds)
            rows.append(row_of(f"{name}, server, {clients} clients", times, len(times) / seconds))
    with open_session(export) as model:
        call = model.callable("serving_default")
        for threads in (1, 2, 8):
            times, rate = repeat(lambda: call({"x": x}), threads, seconds)
            rows.append(row_of(f"{name}, Session callable, {threads} threads", times, rate))
    by_name = {row["what"]: row for row in rows}
    one, alone = by_name[f"{name}, server, 1 clients"], by_name[f"{name}, Session callable, 1 threads"]
    many, floor = by_name[f"{name}, server, 32 clients"], by_name[f"{name}, Session callable, 8 threads"]
    added, share = one["p50_ms"] - alone["p50_ms"], many["a_second"] / floor["a_second"]
    print(f"{name}: the server adds {added:.3f} ms at the median; 32 clients get {share:.2f} of 8 threads")
    shutil.rmtree(folder / name)
    return [*rows, {"what": f"{name}, ratios", "added_ms": round(added, 4), "share": round(share, 4)}]


def measure_transport(seconds: float, request: Path) -> list[Row]:
    """Measure a server that answers `request` without looking at it."""
    rows = []
    command = [sys.executable, "-m", "benchmarks.bare"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            for clients in CLIENTS:
                times = ask(address, request, clients, seconds)
                rows.append(row_of(f"bare gRPC, {clients} clients", times, len(times) / seconds))
        finally:
            process.terminate()
    return rows


def swap(folder: Path) -> list[Row]:
    """Ask while a version appears and while it is taken back; returns a row for each."""
    write_perceptron(folder / "perceptron" / "1")
    write_perceptron(folder / "next", seed=1)
    request, rows = folder / "perceptron.request", []
    with served(folder) as (address, process):
        for name, version, source, target in (
            ("new version", 2, "next", "perceptron/2"),
            ("version taken back", 1, "perceptron/2", "perceptron/.taken-back"),
        ):
            asking = load.start(address, request, "--rate", RATE, "--seconds", 6)
            # Until they have started, and a second before the change.
            time.sleep(3.0)
            changed = time.time()
            os.rename(folder / source, folder / target)
            _wait_until_served(address, version)
            end = time.time() + 1.0
            answers = [answer for answer in load.answers_of(asking) if changed - 1.0 < answer[0] < end]
            times = np.array([taken for _, taken, _ in answers])
            failures = sum(status != "OK" for _, _, status in answers)
            row = row_of(f"{RATE} a second, {name}", times, len(answers) / (end - changed + 1.0))
            row |= {"max_ms": round(times.max() * 1e3, 4), "failures": failures, "peak_mib": _peak_mib(process)}
            print(f"  longest {row['max_ms']:.1f} ms, {failures} failures, peak memory {row['peak_mib']} MiB")
            rows.append(row)
    return rows


def _wait_until_served(address: str, version: int) -> None:
    host, _, port = address.rpartition(":")
    with Client(host, int(port), model="perceptron") as client:
        states = {}
        while states.get(version) != "AVAILABLE":
            time.sleep(0.02)
            states = {entry.version: entry.state for entry in client.status()}


def _peak_mib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell (3)")
    add_json_option(parser, "serving")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{'':44} {'a second':>9} {'p50 ms':>9} {'p99 ms':>9}")
        rows = [
            *measure("perceptron", write_perceptron, WIDTHS[0], arguments.seconds, folder),
            *measure_transport(arguments.seconds, folder / "perceptron.request"),
            *measure("search", write_search, 128, arguments.seconds, folder),
            *swap(folder),
        ]
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
