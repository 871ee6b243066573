"""Small SavedModels, servers in this process and in others, and the official stubs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.config import Catalogue, catalogue_below
from serving.embedded import EmbeddedServer, Options

ROOT = Path(__file__).parents[2]


class Everything(tf.Module):
    """One signature for each thing that a request can run into."""

    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)
        self.weights = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def scale(self, x):
        return {"y": x * self.factor, "z": x + 1.0}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def project(self, x):
        return {"y": tf.matmul(x, self.weights)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="text")])
    def echo(self, text):
        return {"text": tf.identity(text), "length": tf.strings.length(text)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="a"),
            tf.TensorSpec([None], tf.int64, name="b"),
        ]
    )
    def add(self, a, b):
        return {"sum": a + tf.cast(b, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def hold(self, path):
        """Answer when there is a file `path`, or after a minute, so that a failed test ends."""
        end = tf.timestamp() + 60.0

        def missing(count):
            # The count stands in the pattern, though not in its text, so that no optimiser looks only once.
            pattern = tf.strings.join([path, tf.strings.substr(tf.strings.as_string(count), 0, 0)])
            return tf.equal(tf.size(tf.io.matching_files(pattern)), 0) & (tf.timestamp() < end)

        return {"count": tf.while_loop(missing, lambda count: [count + 1], [tf.constant(0)])[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def fail(self, index):
        message = tf.strings.join(["x" * 2000])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(index < 3), [message], summarize=1)]):
            return {"row": tf.gather(self.weights, index)}


def save_everything(folder: Path) -> Path:
    """Write the `Everything` model to `folder`."""
    module = Everything()
    names = ("project", "echo", "add", "hold", "fail")
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.scale, **signatures})
    return folder


def save_constant(folder: Path, value: float) -> Path:
    """Write a model whose `serving_default` answers every `x` with `value`, which tells versions apart."""
    module = tf.Module()
    module.value = tf.Variable(value)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def constant(x):
        return {"y": tf.zeros_like(x) + module.value}

    tf.saved_model.save(module, str(folder), signatures=constant)
    return folder


def save_judge(folder: Path) -> Path:
    """Write a TensorFlow 1 export over examples with a feature `x`; all signatures share their input."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], name="serialized")
        parsed = v1.parse_example(serialized, {"x": tf.io.FixedLenFeature([], tf.float32)})
        x = parsed["x"]
        classes = tf.tile([["low", "high"]], [tf.size(x), 1])
        scores = tf.stack([1.0 - x, x], -1)
        other = v1.placeholder(tf.string, [None], name="other")
        outputs = {
            "serving_default": ({"inputs": serialized}, {"classes": classes, "scores": scores}),
            "scores": ({"inputs": serialized}, {"scores": scores}),
            "classes": ({"inputs": serialized}, {"classes": classes}),
            "flat_scores": ({"inputs": serialized}, {"scores": x}),
            "twice": ({"inputs": serialized}, {"outputs": 2.0 * x}),
            "column": ({"inputs": serialized}, {"outputs": 3.0 * x[:, None]}),
            "pair": ({"inputs": serialized}, {"outputs": scores}),
            "whole": ({"inputs": serialized}, {"outputs": tf.cast(x, tf.int32)}),
            "elsewhere": ({"inputs": other}, {"outputs": tf.cast(tf.strings.length(other), tf.float32)}),
            "misnamed": ({"examples": serialized}, {"outputs": x}),
        }
        builder = v1.saved_model.Builder(str(folder))
        info = v1.saved_model.build_tensor_info
        signatures = {
            name: v1.saved_model.build_signature_def(
                {alias: info(tensor) for alias, tensor in given.items()},
                {alias: info(tensor) for alias, tensor in made.items()},
                "not looked at",
            )
            for name, (given, made) in outputs.items()
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return folder


@pytest.fixture(scope="session")
def judge(tmp_path_factory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge") / "model")


@pytest.fixture(scope="session")
def everything(tmp_path_factory) -> Path:
    return save_everything(tmp_path_factory.mktemp("everything") / "model")


@pytest.fixture(scope="session")
def constants(tmp_path_factory) -> dict[int, Path]:
    """Exports 1, 2 and 3, which answer 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("constants")
    return {value: save_constant(folder / str(value), float(value)) for value in (1, 2, 3)}


def publish(export: Path, base_path: Path, version: int) -> Path:
    """Copy an export beside its place and rename it there, as an exporter does."""
    base_path.mkdir(parents=True, exist_ok=True)
    shutil.copytree(export, base_path / f".writing-{version}")
    return (base_path / f".writing-{version}").rename(base_path / str(version))


@dataclasses.dataclass
class Stub:
    """The calls that most tests need, on the official stubs."""

    channel: grpc.Channel
    port: int
    rest_port: int = 0

    def predict(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        signature: str = "",
        version: int | None = None,
        outputs: tuple[str, ...] = (),
        timeout: float = 20.0,
    ) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[name].CopyFrom(proto)
        return self.send(request, timeout)

    def send(self, request: predict_pb2.PredictRequest, timeout: float = 20.0) -> predict_pb2.PredictResponse:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict(request, timeout=timeout)

    def value(self, model: str) -> float:
        """Answer of a model written by `save_constant`."""
        response = self.predict(model, {"x": np.zeros(1, np.float32)})
        return response.outputs["y"].float_val[0]

    def hold(self, model: str, path: Path) -> tuple[threading.Thread, list[object]]:
        """Send a request that runs until there is a file `path`.

        Returns the thread that waits for the answer and the list that will hold the version that gave it, or
        the status code.
        """
        results: list[object] = []

        def ask():
            try:
                response = self.predict(model, {"path": str(path)}, signature="hold", timeout=60)
                results.append(response.model_spec.version.value)
            except grpc.RpcError as error:
                results.append(error.code())

        thread = threading.Thread(target=ask)
        thread.start()
        return thread, results

    def metadata(self, **request: object) -> get_model_metadata_pb2.GetModelMetadataResponse:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        return stub.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(**request), timeout=20)

    def status(self, **spec: object) -> dict[int, tuple[str, int, str]]:
        """State, error code and message by version, in the order of the answer."""
        stub = model_service_pb2_grpc.ModelServiceStub(self.channel)
        response = stub.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec), timeout=20)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            entry.version: (name(entry.state), entry.status.error_code, entry.status.error_message)
            for entry in response.model_version_status
        }


@contextlib.contextmanager
def serving(source: Path | Catalogue, name: str | None = None, **options: object) -> Iterator[Stub]:
    """Serve a base path from this process."""
    catalogue = source if isinstance(source, Catalogue) else catalogue_below(source, name)
    server = EmbeddedServer(catalogue, Options(**{"port": 0, "poll_seconds": 0.05, "grace_seconds": 5.0, **options}))
    assert server.start(threading.Event())
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Stub(channel, server.port, server.rest_port)
    finally:
        assert server.stop()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Stub]]:
    return serving


@pytest.fixture(scope="session")
def published() -> Callable[[Path, Path, int], Path]:
    return publish


@pytest.fixture(scope="module")
def server(everything, constants, tmp_path_factory) -> Iterator[Stub]:
    """A server of `everything` (version 7) and `constant` (version 1), for tests that change neither."""
    base_path = tmp_path_factory.mktemp("models")
    publish(everything, base_path / "everything", 7)
    publish(constants[1], base_path / "constant", 1)
    with serving(base_path) as stub:
        yield stub


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> object:
    """Wait until `condition` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., object]:
    return eventually


class Process:
    """`python -m serving.server` in a process of its own."""

    def __init__(self, *arguments: object):
        command = [sys.executable, "-m", "serving.server", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def port(self) -> int:
        """Port of the server, once it listens."""

        def listening():
            assert self.process.poll() is None, self.log
            return re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log)

        return int(eventually(listening, 60)[1])

    def wait(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture
def start_process() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: object) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        process.process.wait()
        process.process.stderr.close()


@pytest.fixture
def stub_of() -> Iterator[Callable[[int], Stub]]:
    """Stub of a server on a port of this machine."""
    with contextlib.ExitStack() as stack:
        yield lambda port: Stub(stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")), port)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
