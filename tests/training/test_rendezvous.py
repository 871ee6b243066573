"""Workers meet, or the missing one is named."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from tfthesis.errors import UserError
from training.rendezvous import Cluster, meet
from training.strategy import make_strategy


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def config(workers: list[str], index: object = 0, **more: object) -> dict[str, str]:
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers, **more}, "task": task})}


@pytest.fixture
def workers() -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(3)]


def test_workers_meet_however_late_they_come(workers):
    outcomes = {}

    def work(index: int) -> None:
        time.sleep(0.4 * index)
        outcomes[index] = meet(Cluster(tuple(workers), index), 20)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25)
    assert outcomes == {0: None, 1: None, 2: None}
    with socket.socket() as again:  # TensorFlow's server takes the port next
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(workers[0].rpartition(":")[2])))


def test_missing_workers_are_named_in_time(workers):
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"worker 0: no answer from worker\(s\) \[1, 2\] \({workers[1]}, .*within 1 s"):
        meet(Cluster(tuple(workers), 0), 1)
    assert time.monotonic() - start < 8


def test_a_worker_of_another_cluster_is_told(workers):
    other = Cluster((workers[0], workers[1], "elsewhere:1"), 1)
    errors = []

    def work() -> None:
        try:
            meet(other, 3)
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(UserError, match="another TF_CONFIG"):
        meet(Cluster(tuple(workers), 0), 10)
    thread.join()
    assert len(errors) == 1


def test_a_taken_port_is_named(workers):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(workers[0].rpartition(":")[2])))
        taken.listen()
        with pytest.raises(UserError, match="worker 0 cannot listen on port"):
            meet(Cluster(tuple(workers), 0), 1)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[]"},
        config(["a:1", "b:2"], 2),
        config(["a:1", "b:2"], -1),
        config(["a:1", "b"]),
        config(["a:1", "b:99999"]),
        config(["a:1"], ps=["c:3"]),
        config(["a:1"], "first"),
    ],
)
def test_bad_configurations_show_the_form(environment):
    with pytest.raises(UserError, match=r'TF_CONFIG.*"cluster"'):
        Cluster.from_environment(environment)


def test_a_good_configuration_is_read():
    assert Cluster.from_environment(config(["a:1", "b:2"], 1)) == Cluster(("a:1", "b:2"), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mirored",), "Did you mean 'mirrored'"),
        (("one", 2), "devices: expected"),
        (("mirrored", 0), "devices: expected"),
        (("multi_worker",), "TF_CONFIG is not set"),
        (("mirrored", 99), "99 were asked for, but TensorFlow already runs"),
    ],
)
def test_bad_strategies_are_explained(arguments, message):
    import tensorflow as tf

    tf.config.list_logical_devices()  # from here on the CPU cannot be split
    with pytest.raises(UserError, match=message):
        make_strategy(*arguments)
