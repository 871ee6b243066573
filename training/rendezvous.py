"""Workers find each other with plain sockets before TensorFlow starts.

TensorFlow waits without end and without a word for a worker that never comes. Here each worker listens on
its own TensorFlow port and dials the others until every pair has met, or until a limit after which the
missing ones are named. The ports are free again when TensorFlow starts its own server on them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping

from tfthesis.errors import UserError

DIAL_SECONDS = 0.5
PAUSE_SECONDS = 0.05
LOOPBACK = ("localhost", "127.0.0.1")
HELLO_BYTES = 64
CONFIRMED = b"confirmed"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What `TF_CONFIG` says: the `host:port` of every worker, and which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Cluster:
        """Read `TF_CONFIG`.

        Raises:
            UserError: it is missing or not of the form `{"cluster": {"worker": [...]}, "task": {...}}`.
        """
        text = (os.environ if environment is None else environment).get("TF_CONFIG")
        form = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        if not text:
            raise UserError(f"TF_CONFIG is not set: strategy multi_worker needs it on every worker, as {form}")
        try:
            values = json.loads(text)
            workers, task = values["cluster"]["worker"], values["task"]
            index, kinds = int(task["index"]), {*values["cluster"], task["type"]}
            ports = [int(address.rpartition(":")[2]) for address in workers]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"TF_CONFIG: expected {form}, got {text!r} ({error})") from error
        if kinds != {"worker"} or not 0 <= index < len(workers) or not all(0 < port < 65536 for port in ports):
            raise UserError(
                f"TF_CONFIG: expected workers only, an index below {len(workers)} and ports below 65536, got {text!r}"
            )
        return cls(tuple(workers), index)

    def hello(self, index: int) -> bytes:
        """Return how worker `index` of this cluster introduces itself."""
        digest = hashlib.sha256(json.dumps(self.workers).encode()).hexdigest()[:16]
        return f"tfthesis worker {index} of {digest}".ljust(HELLO_BYTES).encode()


def meet(cluster: Cluster, wait_seconds: float = 60.0) -> None:
    """Return when every other worker has answered this one and has been answered by it.

    Raises:
        UserError: a worker did not answer within `wait_seconds`, has another `TF_CONFIG`, or the own port
            is taken.
    """
    others = set(range(len(cluster.workers))) - {cluster.index}
    answered: set[int] = set()
    deadline = time.monotonic() + wait_seconds
    with _listener(cluster) as listener, _Answers(cluster, listener) as answers:
        while answered != others or answers.met != others:
            if time.monotonic() > deadline:
                raise _no_answer(cluster, sorted(others - (answered & answers.met)), wait_seconds)
            answered |= {index for index in others - answered if _dial(cluster, index)}
            time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def _listener(cluster: Cluster) -> Iterator[socket.socket]:
    host, _, port = cluster.workers[cluster.index].rpartition(":")
    with socket.socket() as listener:
        # The port serves TensorFlow right afterwards, while these connections linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # The name in TF_CONFIG may be one that only the other machines know, hence all interfaces.
            listener.bind((host if host in LOOPBACK else "", int(port)))
        except OSError as error:
            raise UserError(
                f"worker {cluster.index} cannot listen on port {port}: {error.strerror}. "
                "Stop what uses it, or give another port in TF_CONFIG on every worker."
            ) from error
        listener.listen(len(cluster.workers))
        listener.settimeout(DIAL_SECONDS)
        yield listener


def _dial(cluster: Cluster, index: int) -> bool:
    """Introduce this worker to worker `index`; returns whether it answered."""
    host, _, port = cluster.workers[index].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=DIAL_SECONDS) as connection:
            connection.sendall(cluster.hello(cluster.index))
            answer = _read(connection, HELLO_BYTES)
            if answer == cluster.hello(index):
                connection.sendall(CONFIRMED)
                return True
    except OSError:
        return False
    if answer.startswith(b"tfthesis worker"):
        raise UserError(
            f"worker {cluster.index}: another TF_CONFIG is in use at {cluster.workers[index]}; give every "
            "worker the same list of workers, and each its own index"
        )
    return False


class _Answers(threading.Thread):
    """Answers the workers that dial this one, so that two that dial each other do not wait in turn.

    Attributes:
        met: the workers that have confirmed the answer; this process may close its port to them.
    """

    def __init__(self, cluster: Cluster, listener: socket.socket):
        super().__init__(daemon=True)
        self.met: set[int] = set()
        self._cluster, self._listener, self._open = cluster, listener, True
        self._known = {cluster.hello(index): index for index in range(len(cluster.workers))}

    def run(self) -> None:
        while self._open:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):  # a caller that hung up dials again
                connection.settimeout(DIAL_SECONDS)
                caller = self._known.get(_read(connection, HELLO_BYTES))
                connection.sendall(self._cluster.hello(self._cluster.index))
                if _read(connection, len(CONFIRMED)) == CONFIRMED and caller is not None:
                    self.met = self.met | {caller}

    def __enter__(self) -> _Answers:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self.join()


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (chunk := connection.recv(size - len(received))):
        received += chunk
    return received


def _no_answer(cluster: Cluster, missing: list[int], seconds: float) -> UserError:
    addresses = ", ".join(cluster.workers[index] for index in missing)
    return UserError(
        f"worker {cluster.index}: no answer from worker(s) {missing} ({addresses}) within "
        f"{seconds:g} s. Start every worker with the same command and its own TF_CONFIG."
    )
