"""Encryption, sockets, channel options and the health service."""

from __future__ import annotations

import datetime

import grpc
import numpy as np
import pytest
import tensorflow as tf
import trustme
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.config import Catalogue, ModelConfig
from serving.embedded import PortError
from serving.messages import SSLConfig
from serving.tls import read_credentials
from tfthesis.errors import UserError

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def base_path(constants, published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    published(constants[1], folder / "constant", 1)
    return folder


def pem(blob):
    return blob.bytes().decode()


def chain(certificate):
    return "".join(map(pem, certificate.cert_chain_pems))


def write_config(file, **fields):
    file.write_text(text_format.MessageToString(SSLConfig(**fields)))
    return file


@pytest.fixture
def config(authority, tmp_path):
    """Return a function that writes an SSLConfig of a certificate for localhost, with other fields as told."""

    def write(certificate=None, **fields):
        certificate = certificate or authority.issue_cert("localhost")
        own = {"server_key": pem(certificate.private_key_pem), "server_cert": chain(certificate)}
        return write_config(tmp_path / "ssl.config", **{**own, **fields})

    return write


def channel_to(stub, authority, client=None):
    credentials = grpc.ssl_channel_credentials(
        pem(authority.cert_pem).encode(),
        pem(client.private_key_pem).encode() if client else None,
        chain(client).encode() if client else None,
    )
    return grpc.secure_channel(f"localhost:{stub.port}", credentials)


def ask(channel):
    request = predict_pb2.PredictRequest(model_spec={"name": "constant"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(1, np.float32)))
    with channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=5)
    return response.outputs["y"].float_val[0]


def unreachable(channel):
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel)
    assert caught.value.code() in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def test_encrypted_port_answers_those_who_trust_it_and_nobody_in_plain_text(authority, config, serve, base_path):
    with serve(base_path, credentials=read_credentials(config())) as stub:
        assert ask(channel_to(stub, authority)) == 1
        unreachable(channel_to(stub, trustme.CA()))
        unreachable(grpc.insecure_channel(f"localhost:{stub.port}"))


def test_clients_have_to_show_a_certificate_of_the_authority(authority, config, serve, base_path):
    file = config(custom_ca=pem(authority.cert_pem), client_verify=True)
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    with serve(base_path, credentials=read_credentials(file)) as stub:
        assert ask(channel_to(stub, authority, authority.issue_cert("client"))) == 1
        unreachable(channel_to(stub, authority))
        unreachable(channel_to(stub, authority, trustme.CA().issue_cert("client")))
        unreachable(channel_to(stub, authority, authority.issue_cert("client", not_after=yesterday)))


def test_key_of_another_certificate_is_refused(authority, config):
    other = authority.issue_cert("localhost")
    with pytest.raises(UserError, match="cannot be used"):
        read_credentials(config(server_key=pem(other.private_key_pem)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_key": ""}, "server_key is missing"),
        ({"server_cert": ""}, "server_cert is missing"),
        ({"server_key": "/etc/key.pem"}, "cannot be used"),
        ({"custom_ca": "nothing"}, "cannot be used"),
        ({"client_verify": True}, "client_verify needs custom_ca"),
    ],
)
def test_incomplete_configuration_is_refused(config, fields, message):
    with pytest.raises(UserError, match=message):
        read_credentials(config(**fields))


def test_encrypted_key_is_refused(authority, config):
    from cryptography.hazmat.primitives import serialization

    certificate = authority.issue_cert("localhost")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    with pytest.raises(UserError, match="expected a key without a password"):
        read_credentials(config(certificate, server_key=secret))


def test_file_that_is_no_configuration(tmp_path):
    file = tmp_path / "ssl.config"
    with pytest.raises(UserError, match="No such file"):
        read_credentials(file)
    file.write_text("server_key 1")
    with pytest.raises(UserError, match="ssl_config_file"):
        read_credentials(file)


def test_process_with_a_bad_configuration_does_not_start(config, base_path, start_process):
    file = config(server_key="nothing")
    server = start_process("--model_base_path", base_path, "--ssl_config_file", file)
    assert server.wait() == 2
    assert "listening" not in server.log


def test_unix_socket(serve, base_path, tmp_path):
    path = tmp_path / "socket"
    with serve(base_path, socket_path=str(path)):
        assert ask(grpc.insecure_channel(f"unix:{path}")) == 1


def test_unix_socket_that_cannot_be_had(serve, base_path, tmp_path):
    with pytest.raises(PortError, match="unix:"), serve(base_path, socket_path=str(tmp_path / "no" / "socket")):
        pass


def test_channel_arguments_reach_the_server(serve, base_path):
    with serve(base_path, channel_arguments={"grpc.max_receive_message_length": 10}) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            ask(grpc.insecure_channel(f"localhost:{stub.port}"))
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED


def health(stub, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(stub.channel).Check(request, timeout=10).status


def test_health_follows_the_models(constants, published, serve, eventually, tmp_path):
    published(constants[1], tmp_path / "a", 1)
    published(constants[1], tmp_path / "b", 1)
    configs = [ModelConfig(name, tmp_path / name) for name in ("a", "b")]
    with serve(Catalogue(lambda: configs, named=True), health=True) as stub:
        for service in ("", "ModelService", "PredictionService"):
            assert health(stub, service) == health_pb2.HealthCheckResponse.SERVING
        (tmp_path / "b" / "1").rename(tmp_path / "b" / "gone")
        eventually(lambda: health(stub) == health_pb2.HealthCheckResponse.NOT_SERVING)
        with pytest.raises(grpc.RpcError) as caught:
            health(stub, "other")
        assert caught.value.code() is Code.NOT_FOUND


def test_no_health_service_unless_asked_for(serve, base_path):
    with serve(base_path) as stub, pytest.raises(grpc.RpcError) as caught:
        health(stub)
    assert caught.value.code() is Code.UNIMPLEMENTED
