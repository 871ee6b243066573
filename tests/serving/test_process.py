"""`python -m serving.server` as an orchestrator ends it."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc


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


def test_flags_of_tensorflow_model_server(constants, published, start_process, stub_of, free_port, tmp_path):
    published(constants[1], tmp_path / "models" / "constant", 1)
    files = {
        "models.config": f'model_config_list {{ config {{ name: "constant" base_path: "{tmp_path}/models/constant" '
        'model_platform: "tensorflow" version_labels { key: "best" value: 1 } } }',
        "monitoring.config": 'prometheus_config { enable: true path: "/metrics" }',
        "batching.config": "max_batch_size { value: 2 }",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    server = start_process(
        *("--model_config_file", tmp_path / "models.config", "--allow_version_labels_for_unavailable_models=true"),
        *("--rest_api_port", free_port, "--monitoring_config_file", tmp_path / "monitoring.config"),
        *("--enable_batching", "--batching_parameters_file", tmp_path / "batching.config"),
        *("--enable_grpc_healthcheck_service", "--grpc_socket_path", tmp_path / "socket"),
    )
    stub = stub_of(server.port())
    assert stub.value("constant") == 1
    health = health_pb2_grpc.HealthStub(stub.channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(f"unix:{tmp_path}/socket") as channel:
        grpc.channel_ready_future(channel).result(20)
    url = f"http://127.0.0.1:{free_port}"
    labelled = f"{url}/v1/models/constant/labels/best:predict"
    with urllib.request.urlopen(labelled, data=b'{"instances": [0, 0]}', timeout=20) as response:
        assert json.loads(response.read()) == {"predictions": [1.0, 1.0]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(labelled, data=b'{"instances": [0, 0, 0]}', timeout=20)
    assert "larger than maximum input batch size 2" in json.loads(caught.value.read())["error"]
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as response:
        assert 'model_name="constant",status="OK"} 2' in response.read().decode()
