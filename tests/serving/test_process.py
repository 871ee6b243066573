"""`python -m serving.server` as an orchestrator ends it."""

from __future__ import annotations

import signal
import time

import grpc
import pytest


@pytest.fixture
def hold(everything, constants, published, eventually, tmp_path):
    """Return a function that sends a request, held by the file "go on", and returns once it is running."""
    models = tmp_path / "models" / "model"
    published(everything, models, 1)

    def send(stub):
        request, results = stub.hold("model", tmp_path / "go on")
        time.sleep(0.3)
        # A version that is replaced stays in memory for as long as a request runs in it.
        published(constants[2], models, 2)
        eventually(lambda: stub.status(name="model").get(2, ("",))[0] == "AVAILABLE")
        assert stub.status(name="model")[1][0] == "UNLOADING"
        return request, results

    return send


def test_sigterm_lets_running_requests_end_and_exits_0(hold, start_process, stub_of, eventually, tmp_path):
    server = start_process("--model_base_path", tmp_path / "models", "--file_system_poll_wait_seconds", 0.1)
    request, results = hold(stub_of(server.port()))
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "waiting for running requests" in server.log)
    time.sleep(0.3)
    assert server.process.poll() is None
    (tmp_path / "go on").touch()
    assert server.wait() == 0
    request.join(10)
    assert results == [1]


def test_request_that_outlasts_the_grace_is_cancelled(hold, start_process, stub_of, tmp_path):
    flags = ("--file_system_poll_wait_seconds", 0.1, "--shutdown_grace_seconds", 0.5)
    server = start_process("--model_base_path", tmp_path / "models", *flags)
    request, results = hold(stub_of(server.port()))
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    request.join(10)
    assert results[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_sigterm_while_waiting_for_a_model_exits_0(start_process, eventually, tmp_path):
    server = start_process("--model_base_path", tmp_path, "--model_name", "later")
    eventually(lambda: "no version in" in server.log, 60)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "listening" not in server.log
