"""How many questions a second the embedded server answers, and how long one takes.

    python -m benchmarks.serve --clients 1 8 --seconds 3

A small model (300-2048-512-512-512, one row a question) is written, served by `python -m serving.server`, and
asked by this process over one channel with ready-made bytes, each client asking again as soon as it is
answered. Printed beside it: the same Session in this process without gRPC, and the codec alone.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.kept import add_json_option, keep
from serving.codec import decode, encode
from serving.servable import Limits, Servable

METHOD = "/tensorflow.serving.PredictionService/Predict"
WIDTHS = (300, 2048, 512, 512, 512)
WARM_UP_SECONDS = 0.5
LISTENING = re.compile(r"listening on (\S+)")


def write_model(folder: Path) -> None:
    """Write a multilayer perceptron with random weights and a normalised output."""
    generator = np.random.default_rng(0)
    module = tf.Module()
    shapes = list(itertools.pairwise(WIDTHS))
    module.weights = [tf.Variable((generator.normal(size=s) / s[0] ** 0.5).astype(np.float32)) for s in shapes]

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTHS[0]], tf.float32, name="text")])
    def embed(text):
        for weights in module.weights:
            text = tf.nn.relu(tf.matmul(text, weights))
        return {"embedding": tf.math.l2_normalize(text, -1)}

    tf.saved_model.save(module, str(folder), signatures=embed)


def make_request() -> predict_pb2.PredictRequest:
    """Return a question with one random row."""
    request = predict_pb2.PredictRequest(model_spec={"name": "mlp"})
    encode(np.random.default_rng(1).normal(size=(1, WIDTHS[0])).astype(np.float32), request.inputs["text"])
    return request


@contextlib.contextmanager
def served(base_path: Path) -> Iterator[str]:
    """Run the server; yields its address."""
    command = [sys.executable, "-m", "serving.server", "--model_base_path", str(base_path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            match = next(filter(None, map(LISTENING.search, lines)), None)
            if match is None:
                raise SystemExit(f"the server ended with code {process.wait()}")
            yield match[1]
        finally:
            process.terminate()


def ask(address: str, request: bytes, clients: int, seconds: float) -> np.ndarray:
    """Return the seconds of each answer that `clients` closed loops got in `seconds`."""
    times: list[tuple[float, float]] = []
    ended: queue.SimpleQueue[grpc.RpcError | None] = queue.SimpleQueue()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)

        def send() -> None:
            start = time.perf_counter()
            call.future(request, timeout=60).add_done_callback(lambda answer: received(answer, start))

        def received(answer: grpc.Future, start: float) -> None:
            now = time.perf_counter()
            times.append((start, now - start))
            if answer.exception() is None and now < end:
                send()
            else:
                ended.put(answer.exception())

        begin = time.perf_counter()
        end = begin + WARM_UP_SECONDS + seconds
        for _ in range(clients):
            send()
        for _ in range(clients):
            error = ended.get()
            if error is not None:
                raise SystemExit(f"a question failed: {error}")
    return np.array([taken for start, taken in times if start > begin + WARM_UP_SECONDS])


def repeat(function: Callable[[], object], seconds: float) -> np.ndarray:
    """Return the seconds of each call of `function`."""
    times = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        function()
        times.append(time.perf_counter() - start)
    return np.array(times[len(times) // 10 :])


def row_of(name: str, times: np.ndarray, rate: float) -> dict[str, str | float]:
    """Print a row of the table and return it."""
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    print(f"{name:34} {rate:9.0f} {p50:9.3f} {p99:9.3f}", flush=True)
    return {"what": name, "a_second": round(rate, 1), "p50_ms": round(p50, 4), "p99_ms": round(p99, 4)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=3.0)
    add_json_option(parser, "serve")
    arguments = parser.parse_args(argv)
    request = make_request()
    answer, rows = np.zeros((1, WIDTHS[-1]), np.float32), []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder, "mlp", "1"))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{'':34} {'a second':>9} {'p50 ms':>9} {'p99 ms':>9}")
        with served(Path(folder)) as address:
            for clients in arguments.clients:
                times = ask(address, request.SerializeToString(), clients, arguments.seconds)
                rows.append(row_of(f"server, {clients} clients", times, len(times) / arguments.seconds))
        servable = Servable("mlp", 1, Path(folder, "mlp", "1"), Limits(2**27))
        calls = {
            "in this process": lambda: servable.predict(request),
            "in this process, with a deadline": lambda: servable.predict(request, 30.0),
            "decode [1, 300]": lambda: decode(request.inputs["text"], 2**27),
            "encode [1, 512]": lambda: encode(answer, predict_pb2.PredictResponse().outputs["embedding"]),
        }
        for name, call in calls.items():
            times = repeat(call, arguments.seconds / 3)
            rows.append(row_of(name, times, 1 / times.mean()))
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
