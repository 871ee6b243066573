"""Contract section 6: ports, sizes, deadlines, encryption and health."""

from __future__ import annotations

import datetime
import subprocess
import time

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2

from tests.blackbox.client import Client, Code, eventually, refused, stopped
from tests.blackbox.conftest import ROOT, free_port
from tests.blackbox.models import HOLD_SECONDS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# More than the 4 MiB that a client of gRPC takes by itself.
LARGE = np.arange(2**21, dtype=np.float32)


def ask(client, model="kinds"):
    return client.predict(model, {"x": [[1.0]]}, timeout=5).model_spec.version.value


def test_large_request_is_answered(server):
    assert server.predict("kinds", {"x": LARGE}, "total").outputs["total"].float_val


def test_large_answer_breaks_the_client_s_own_limit(server):
    with refused(Code.RESOURCE_EXHAUSTED, "larger than max"):
        server.predict("kinds", {"x": LARGE}, "echo_float32")


def test_large_answer_arrives_where_the_client_allows_it(server):
    with grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)]) as channel:
        answer = Client(channel).predict("kinds", {"x": LARGE}, "echo_float32")
    np.testing.assert_array_equal(np.float32(answer.outputs["y"].float_val), LARGE)


def test_requests_do_not_wait_for_each_other(server, folder):
    held = server.hold("kinds", folder.marks / "at once")
    assert ask(server) == 7
    assert held.release().model_spec.version.value == 7


def test_deadline_passes_while_the_answer_is_computed(server, folder):
    started = time.monotonic()
    with refused(Code.DEADLINE_EXCEEDED):
        server.predict("kinds", {"path": str(folder.marks / "deadline")}, "hold", timeout=0.5)
    assert time.monotonic() - started < 5


def test_rest_timeout_cancels_the_run(batched, folder):
    body = {"signature_name": "hold", "instances": [str(folder.marks / "rest timeout")]}
    answer = batched.rest("POST", "/v1/models/unbatched:predict", body)
    assert answer.status == 504
    assert answer.error
    # Left alone it would run for a minute.
    eventually(lambda: stopped(folder.marks / "rest timeout.beat"), HOLD_SECONDS / 3)


def test_unix_socket(batched, folder):
    with grpc.insecure_channel(f"unix:{folder.path}/socket") as channel:
        assert ask(Client(channel), "unbatched") == 1


def test_channel_arguments_reach_the_server(server, batched):
    metadata = [("padding", "x" * 4000)]
    for client, model, code in ((server, "kinds", Code.OK), (batched, "merged", Code.RESOURCE_EXHAUSTED)):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        assert client.models.GetModelStatus.future(request, metadata=metadata, timeout=10).code() is code


def test_ports_have_to_differ(command, run, folder):
    port = free_port()
    flags = [f"--port={port}", f"--rest_api_port={port}", f"--model_config_file={folder.path / 'rows.config'}"]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode != 0


def health(client, service):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=10).status


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
def test_health(batched, service):
    assert health(batched, service) == SERVING


def test_health_of_an_unknown_service(batched):
    with refused(Code.NOT_FOUND):
        health(batched, "other")


def test_health_is_off_by_default(server):
    with refused(Code.UNIMPLEMENTED):
        health(server, "")


def test_health_follows_the_models(ours, batched, folder):
    version = folder.path / "batched" / "fleeting" / "1"
    version.rename(version.with_name("gone"))
    eventually(lambda: health(batched, "") == NOT_SERVING)
    version.with_name("gone").rename(version)
    eventually(lambda: health(batched, "") == SERVING)


def test_client_with_a_certificate_is_answered(encrypted):
    assert ask(encrypted, "rows") == 1


def unreachable(channel):
    with channel, pytest.raises(grpc.RpcError) as caught:
        ask(Client(channel), "rows")
    assert caught.value.code() in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def test_client_without_a_certificate_is_refused(encrypted_channel):
    unreachable(encrypted_channel())


def test_client_with_the_certificate_of_another_authority_is_refused(encrypted_channel):
    unreachable(encrypted_channel(trustme.CA().issue_cert("client")))


def test_client_with_a_certificate_of_the_past_is_refused(encrypted_channel, authority):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    unreachable(encrypted_channel(authority.issue_cert("client", not_after=yesterday)))


def test_client_that_trusts_another_authority_refuses_the_server(encrypted_channel, authority):
    unreachable(encrypted_channel(authority.issue_cert("client"), trustme.CA()))


def test_plain_text_is_refused_on_the_encrypted_port(encrypted_process):
    unreachable(grpc.insecure_channel(f"localhost:{encrypted_process.port}"))


def test_rest_is_plain_although_grpc_is_encrypted(encrypted):
    answer = encrypted.rest("POST", "/v1/models/rows:predict", {"instances": [[1.0]]})
    assert answer.value["predictions"][0]["y"] == [2.0]
