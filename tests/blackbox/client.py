"""What the tests ask a server with: the official stubs, plain HTTP and patience."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.blackbox.models import BEAT_SECONDS

Code = grpc.StatusCode
TIMEOUT = 30.0


def tensor(dtype: int = types_pb2.DT_FLOAT, shape: tuple[int, ...] = (), **values: Any) -> tensor_pb2.TensorProto:
    """Return a TensorProto with exactly these fields."""
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": side} for side in shape]}, **values)


@contextlib.contextmanager
def refused(code: grpc.StatusCode, *parts: str) -> Iterator[pytest.ExceptionInfo]:
    """Expect that a call ends with `code` and a message that has all `parts`."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    assert (caught.value.code(), caught.value.details()) == (code, caught.value.details())
    for part in parts:
        assert part in caught.value.details()


def eventually(condition: Callable[[], Any], seconds: float = TIMEOUT) -> Any:
    """Wait until `condition` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


def stopped(beat: Path) -> bool:
    """Whether a held run that has written the file `beat` writes it no more, for six times as long as it would."""
    assert beat.exists(), "it never ran"
    last = beat.stat().st_mtime_ns
    time.sleep(6 * BEAT_SECONDS)
    return beat.stat().st_mtime_ns == last


@dataclasses.dataclass(frozen=True)
class Answer:
    """Of the REST port."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def value(self) -> Any:
        """The JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """The message of an answer that has nothing else."""
        assert list(self.value) == ["error"]
        return self.value["error"]


class Client:
    """Calls one server.

    Attributes:
        channel: to its gRPC port.
        target: that port.
        host: its address.
        rest_port: its REST port.
    """

    def __init__(self, channel: grpc.Channel, host: str = "", port: int = 0, rest_port: int = 0):
        self.channel = channel
        self.target = f"{host}:{port}"
        self.host = host
        self.rest_port = rest_port
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        signature: str = "",
        *,
        outputs: tuple[str, ...] = (),
        timeout: float = TIMEOUT,
        **spec: Any,
    ) -> predict_pb2.PredictResponse:
        """Call Predict; `spec` may have a `version` or a `version_label`."""
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.CopyFrom(model_spec(model, signature, **spec))
        for alias, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[alias].CopyFrom(proto)
        return self.predictions.Predict(request, timeout=timeout)

    def value(self, model: str, **spec: Any) -> float:
        """Return what a model that always answers the same answers."""
        return self.predict(model, {"x": tensor(shape=(1,), float_val=[0.0])}, **spec).outputs["y"].float_val[0]

    def hold(self, model: str, path: Path, *, in_rows: bool = False) -> Held:
        """Send a request that runs until there is a file `path`, and return once it runs.

        Args:
            model: whose signature `hold` is asked.
            path: of a file that is not there.
            in_rows: the signature takes a list of paths.
        """
        held = Held(self, model, [str(path)] if in_rows else str(path), path)
        eventually(path.with_name(path.name + ".beat").exists)
        return held

    def classify(
        self, given: input_pb2.Input | None, signature: str = "", model: str = "judge"
    ) -> classification_pb2.ClassificationResponse:
        """Call Classify."""
        spec = model_spec(model, signature)
        request = classification_pb2.ClassificationRequest(model_spec=spec, input=given)
        return self.predictions.Classify(request, timeout=TIMEOUT)

    def regress(
        self, given: input_pb2.Input | None, signature: str, model: str = "judge"
    ) -> regression_pb2.RegressionResponse:
        """Call Regress."""
        spec = model_spec(model, signature)
        return self.predictions.Regress(regression_pb2.RegressionRequest(model_spec=spec, input=given), timeout=TIMEOUT)

    def infer(self, given: input_pb2.Input, *tasks: tuple[str, str, str]) -> inference_pb2.MultiInferenceResponse:
        """Call MultiInference with tasks of model, signature and method."""
        request = inference_pb2.MultiInferenceRequest(input=given)
        for model, signature, method in tasks:
            request.tasks.add(model_spec=model_spec(model, signature), method_name=method)
        return self.predictions.MultiInference(request, timeout=TIMEOUT)

    def metadata(self, model: str, *fields: str, **spec: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Call GetModelMetadata."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model_spec(model, **spec), metadata_field=fields
        )
        return self.predictions.GetModelMetadata(request, timeout=TIMEOUT)

    def status(self, model: str, **spec: Any) -> dict[int, tuple[str, int, str]]:
        """Return state, error code and message by version, in the order of the answer."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec(model, **spec))
        response = self.models.GetModelStatus(request, timeout=TIMEOUT)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            entry.version: (name(entry.state), entry.status.error_code, entry.status.error_message)
            for entry in response.model_version_status
        }

    def state(self, model: str, version: int) -> str:
        """Return the state of a version, an empty one if it is not listed."""
        return self.status(model).get(version, ("",))[0]

    def reload(
        self, config: Any, metric_names: tuple[str, ...] = (), timeout: float = TIMEOUT
    ) -> model_management_pb2.ReloadConfigResponse:
        """Call HandleReloadConfigRequest."""
        request = model_management_pb2.ReloadConfigRequest(config=config, metric_names=metric_names)
        return self.models.HandleReloadConfigRequest(request, timeout=timeout)

    def rest(self, method: str, path: str, body: Any = None) -> Answer:
        """Send an HTTP request; a body that is not bytes goes as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.rest_port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request(method, path, data)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), response.headers)

    def ask(self, signature: str, body: Mapping[str, Any], model: str = "kinds") -> Answer:
        """Send a REST prediction."""
        return self.rest("POST", f"/v1/models/{model}:predict", {"signature_name": signature, **body})


class Held:
    """A request that waits for a file, in a thread of its own."""

    def __init__(self, client: Client, model: str, value: str | list[str], path: Path):
        self._path = path
        self._result: predict_pb2.PredictResponse | grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._ask, args=(client, model, value))
        self._thread.start()

    def _ask(self, client: Client, model: str, value: str | list[str]) -> None:
        try:
            self._result = client.predict(model, {"path": value}, "hold")
        except grpc.RpcError as error:
            self._result = error

    def release(self) -> predict_pb2.PredictResponse:
        """Write the file and return the answer."""
        self._path.touch()
        self._thread.join(TIMEOUT)
        assert isinstance(self._result, predict_pb2.PredictResponse), self._result
        return self._result


def model_spec(name: str, signature: str = "", version: int | None = None, version_label: str = "") -> Any:
    """Return a ModelSpec."""
    spec = predict_pb2.PredictRequest().model_spec
    spec.name, spec.signature_name = name, signature
    if version is not None:
        spec.version.value = version
    if version_label:
        spec.version_label = version_label
    return spec
