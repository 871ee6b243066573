"""Clients of a model server, in a process of their own: `python -m benchmarks.load ADDRESS FILE ...`.

They send ready-made bytes over one channel and print JSON: `[time of the question, seconds until the answer, status]`
of each; the time is in seconds since 1970.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc

METHOD = "/tensorflow.serving.PredictionService/Predict"

#: Time, duration and status of a question.
Answer = tuple[float, float, str]


def closed_loop(address: str, request: bytes, clients: int, seconds: float) -> list[Answer]:
    """Let `clients` ask for `seconds`, each again as soon as it is answered."""
    answers: list[Answer] = []
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    begin = time.perf_counter()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)

        def send() -> None:
            start = time.perf_counter()
            call.future(request, timeout=60).add_done_callback(lambda answer: received(answer, start))

        def received(answer: grpc.Future, start: float) -> None:
            now = time.perf_counter()
            answers.append((time.time() - (now - start), now - start, answer.code().name))
            if now - begin < seconds:
                send()
            else:
                ended.put(None)

        for _ in range(clients):
            send()
        for _ in range(clients):
            ended.get()
    return answers


def open_loop(address: str, request: bytes, rate: float, seconds: float) -> list[Answer]:
    """Ask `rate` times a second for `seconds`, answered or not."""
    answers: list[Answer] = []
    count = int(rate * seconds)
    done = threading.Semaphore(0)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        begin = time.perf_counter()

        def received(answer: grpc.Future, start: float) -> None:
            taken = time.perf_counter() - start
            answers.append((time.time() - taken, taken, answer.code().name))
            done.release()

        for number in range(count):
            time.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            start = time.perf_counter()
            call.future(request, timeout=60).add_done_callback(lambda answer, start=start: received(answer, start))
        for _ in range(count):
            done.acquire()
    return answers


def start(address: str, request: Path, *options: object) -> subprocess.Popen:
    """Start the clients; `answers_of` waits for what they print."""
    command = [sys.executable, "-m", "benchmarks.load", address, str(request), *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answers_of(process: subprocess.Popen) -> list[Answer]:
    """Return the answers that the clients got."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the clients ended with code {process.returncode}")
    return [tuple(answer) for answer in json.loads(output)]


def main() -> None:
    """Ask, and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("request", type=Path, help="file with a serialized PredictRequest")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=1, help="that ask again as soon as they are answered")
    parser.add_argument("--rate", type=float, help="questions a second instead, answered or not")
    arguments = parser.parse_args()
    request = arguments.request.read_bytes()
    if arguments.rate:
        answers = open_loop(arguments.address, request, arguments.rate, arguments.seconds)
    else:
        answers = closed_loop(arguments.address, request, arguments.clients, arguments.seconds)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
