"""Servers to ask: one that runs already, or processes that the tests start."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from tests.blackbox.client import Client, eventually
from tests.blackbox.models import Folder, default_flags

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
END_SECONDS = 60.0


class Process:
    """A server that was started with flags of tensorflow_model_server.

    Attributes:
        port: of gRPC.
        rest_port: of the REST API.
        process: itself.
    """

    def __init__(self, command: list[str], flags: list[str], log: Path):
        self.port, self.rest_port = free_port(), free_port()
        self._log = log
        ports = [f"--port={self.port}", f"--rest_api_port={self.rest_port}"]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *ports, *flags], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=dict(os.environ)
            )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def listens(self) -> bool:
        """Return whether both ports are open."""
        return all(is_open(port) for port in (self.port, self.rest_port))

    def wait_until_it_listens(self) -> None:
        """Return when both ports are open."""

        def listening():
            assert self.process.poll() is None, self.log
            return self.listens()

        eventually(listening, START_SECONDS)

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def command(pytestconfig: pytest.Config) -> list[str]:
    """Words that start a server."""
    text = pytestconfig.getoption("--server-command")
    return shlex.split(text) if text else [sys.executable, "-m", "serving.server"]


@pytest.fixture(scope="session")
def address(pytestconfig: pytest.Config) -> tuple[str, int, int] | None:
    """Host and ports of the server that runs already, if one does."""
    text = pytestconfig.getoption("--server-address")
    if not text:
        return None
    host, port, rest_port = text.rsplit(":", 2)
    return host, int(port), int(rest_port)


@pytest.fixture(scope="session")
def folder(pytestconfig: pytest.Config, address, tmp_path_factory) -> Folder:
    """The models and configuration files."""
    path = pytestconfig.getoption("--server-models")
    if bool(path) != bool(address):
        pytest.fail("--server-address and --server-models go together")
    if path:
        return Folder(pytestconfig.invocation_params.dir / path)
    made = Folder(tmp_path_factory.mktemp("blackbox"))
    made.write()
    return made


@pytest.fixture(scope="session")
def ours(pytestconfig: pytest.Config, address) -> None:
    """Skip a test of what the embedded server does differently on purpose, unless it is that server."""
    if address or pytestconfig.getoption("--server-command"):
        pytest.skip("differs on purpose: only the embedded server does this")


@pytest.fixture(scope="session")
def run(command, address, tmp_path_factory) -> Iterator[Callable[..., Process]]:
    """Start servers that end with the session."""
    if address:
        pytest.skip("needs a server with other flags than the one at --server-address")
    logs = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:

        def start(*flags: str) -> Process:
            process = Process(command, list(flags), logs / f"{len(list(logs.iterdir()))}.log")
            stack.callback(process.end)
            return process

        yield start


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[..., Client]]:
    """Return a client of a process."""
    with contextlib.ExitStack() as stack:

        def client(process: Process) -> Client:
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{process.port}"))
            return Client(channel, "127.0.0.1", process.port, process.rest_port)

        yield client


def batched_flags(folder: Path) -> list[str]:
    """Return the flags of a server that batches as its models say; other transport flags are on as well."""
    return [
        f"--model_config_file={folder / 'batched.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1500000",
        "--enable_batching=true",
        f"--batching_parameters_file={folder / 'batching.config'}",
        "--enable_per_model_batching_parameters=true",
        "--num_request_iterations_for_warmup=3",
        "--enable_serialization_as_tensor_content=true",
        "--enable_grpc_healthcheck_service=true",
        f"--grpc_socket_path={folder / 'socket'}",
        "--grpc_channel_arguments=grpc.absolute_max_metadata_size=2000,grpc.max_metadata_size=2000",
        "--rest_api_enable_cors_support=true",
        "--rest_api_timeout_in_ms=1500",
    ]


def encrypted_flags(folder: Path) -> list[str]:
    """Return the flags of a server of certificates and of its own batching, which looks once and warms nothing up."""
    return [
        f"--model_config_file={folder / 'rows.config'}",
        "--file_system_poll_wait_seconds=0",
        "--enable_batching=true",
        f"--batching_parameters_file={folder / 'batching.config'}",
        "--enable_model_warmup=false",
        f"--ssl_config_file={folder / 'ssl.config'}",
    ]


FLAVOURS = {"server": default_flags, "batched": batched_flags, "encrypted_process": encrypted_flags}


@pytest.fixture(scope="session")
def processes(request: pytest.FixtureRequest, run, folder, ssl_config) -> dict[str, Process]:
    """The servers that the selected tests need, started at the same time."""
    needed = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    return {name: run(*flags(folder.path)) for name, flags in FLAVOURS.items() if name in needed}


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, address, folder) -> Iterator[Client]:
    """The server of `models.config`: labels are allowed, there is a monitoring page, nothing else is switched on."""
    if address:
        host, port, rest_port = address
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            yield Client(channel, host, port, rest_port)
        return
    process = request.getfixturevalue("processes")["server"]
    process.wait_until_it_listens()
    yield request.getfixturevalue("connect")(process)


@pytest.fixture(scope="session")
def batched(processes, connect) -> Client:
    process = processes["batched"]
    process.wait_until_it_listens()
    return connect(process)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ssl_config(folder, authority) -> None:
    """Write what `encrypted_flags` names."""
    certificate = authority.issue_cert("localhost")
    fields = {
        "server_key": certificate.private_key_pem.bytes().decode(),
        "server_cert": "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems),
        "custom_ca": authority.cert_pem.bytes().decode(),
    }
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items()) + "client_verify: true\n"
    (folder.path / "ssl.config").write_text(text)


@pytest.fixture(scope="session")
def encrypted_process(processes) -> Process:
    process = processes["encrypted_process"]
    process.wait_until_it_listens()
    return process


@pytest.fixture(scope="session")
def encrypted_channel(encrypted_process, authority) -> Callable[..., grpc.Channel]:
    """Return a function that opens a channel with the certificate of a client, or without one."""

    def open_channel(client: trustme.LeafCert | None = None, trusted: trustme.CA = authority) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            trusted.cert_pem.bytes(),
            client.private_key_pem.bytes() if client else None,
            b"".join(pem.bytes() for pem in client.cert_chain_pems) if client else None,
        )
        return grpc.secure_channel(f"localhost:{encrypted_process.port}", credentials)

    return open_channel


@pytest.fixture(scope="session")
def encrypted(encrypted_process, encrypted_channel, authority) -> Iterator[Client]:
    with encrypted_channel(authority.issue_cert("client")) as channel:
        yield Client(channel, "127.0.0.1", encrypted_process.port, encrypted_process.rest_port)
