"""Ask a TensorFlow Serving server, this project's or any other, from Python or a terminal.

>>> with Client(model="mmc_net_quick") as client:
...     client.search_by_text(["a red cube"])

$ python -m serving.client --text "a red cube"
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np

from tfthesis.errors import closest
from tfthesis.lazy import LazyModule

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Importing them imports TensorFlow, which --help and wrong arguments need not wait for.
codec = LazyModule("serving.codec")
metadata_pb2 = LazyModule("tensorflow_serving.apis.get_model_metadata_pb2")
model_service = LazyModule("tensorflow_serving.apis.model_service_pb2_grpc")
predict_pb2 = LazyModule("tensorflow_serving.apis.predict_pb2")
prediction_service = LazyModule("tensorflow_serving.apis.prediction_service_pb2_grpc")
status_pb2 = LazyModule("tensorflow_serving.apis.get_model_status_pb2")
types_pb2 = LazyModule("tensorflow.core.framework.types_pb2")

#: Trailing metadata in which this project's server lists its models.
MODELS_KEY = "served-models-bin"
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_MAX_ANSWER_BYTES = 2**31 - 1


class ClientError(Exception):
    """A question that was not answered.

    Attributes:
        code: the `grpc.StatusCode`.
        message: what happened and what to do.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        self.code = code
        self.message = message
        super().__init__(message)


class Hit(NamedTuple):
    """An item found by a search; a larger score is nearer."""

    id: str
    score: float
    payload: str


class Label(NamedTuple):
    """A class, its probability, and whether the model predicts it rather than only ranks it."""

    name: str
    probability: float
    predicted: bool


class VersionState(NamedTuple):
    """State of a model's version, such as AVAILABLE, and the error that ended it."""

    version: int
    state: str
    error: str


class Client:
    """A connection to a server; usable in a `with` block, which closes it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8500,
        *,
        model: str | None = None,
        timeout: float = 30.0,
        wait: float = 0.0,
    ):
        """Connect on the first question.

        Args:
            model: to ask where a question names none; needed unless the server has exactly one and tells.
            timeout: of one question, in seconds.
            wait: seconds to wait for a server that is still starting.
        """
        self.address = f"{host}:{port}"
        self._model = model
        self._timeout = timeout
        self._wait = wait
        # Messages of any size, both ways: the default of 4 MB is soon reached by embeddings.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Where a name leads to several addresses, as that of a headless service, ask all of them in turn.
            ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
        ]
        self._channel = grpc.insecure_channel(self.address, options=options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def search_by_text(
        self, texts: Sequence[str], *, model: str | None = None, top: int | None = None
    ) -> list[list[Hit]]:
        """Return the nearest images of each text, best first, `top` at most.

        Raises:
            ClientError: as `predict`.
        """
        return _hits(self.predict({"text": list(texts)}, "search_by_text", model=model), top)

    def search_by_image(
        self, images: Sequence[bytes | Path], *, model: str | None = None, top: int | None = None
    ) -> list[list[Hit]]:
        """Return the nearest texts of each image, given as encoded bytes or files, best first, `top` at most.

        Raises:
            ClientError: as `predict`.
            OSError: a file cannot be read.
        """
        return _hits(self.predict({"image": _read(images)}, "search_by_image", model=model), top)

    def classify(
        self,
        *,
        images: Sequence[bytes | Path] = (),
        texts: Sequence[str] = (),
        model: str | None = None,
        top: int | None = None,
    ) -> list[list[Label]]:
        """Return the surest classes of each image with its text, or of what of the two the model takes.

        Raises:
            ClientError: as `predict`.
            OSError: a file cannot be read.
        """
        inputs = {"image": _read(images), "text": list(texts)}
        answer = self.predict({name: rows for name, rows in inputs.items() if rows}, "classify", model=model)
        columns = _strings(answer["labels"]), answer["probabilities"].tolist(), answer["predicted"].tolist()
        return [[Label(*label) for label in zip(*row, strict=True)][:top] for row in zip(*columns, strict=True)]

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        signature: str = "serving_default",
        *,
        model: str | None = None,
        version: int | None = None,
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Run a signature and return its outputs; strings come back as `bytes`.

        Lists of Python floats are sent as float32, arrays with the dtype they have.

        Raises:
            ClientError: no server answers, there is no such model or signature, or it refuses the inputs.
        """
        request = predict_pb2.PredictRequest(output_filter=outputs)
        self._name_model(request.model_spec, model, version)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            codec.encode(_to_array(value), request.inputs[name], as_content=True)
        stub = prediction_service.PredictionServiceStub(self._channel)
        try:
            response = self._call(stub.Predict, request)
        except ClientError as error:
            if error.code is not grpc.StatusCode.FAILED_PRECONDITION or "signature key" not in error.message:
                raise
            known = list(self.metadata(request.model_spec.name, version))
            raise ClientError(error.code, str(closest(signature, known, "signature"))) from error
        return {name: codec.decode(proto, _MAX_ANSWER_BYTES) for name, proto in response.outputs.items()}

    def status(self, model: str | None = None) -> list[VersionState]:
        """Return the state of each version of a model, newest first.

        Raises:
            ClientError: no server answers, or it does not know the model.
        """
        request = status_pb2.GetModelStatusRequest()
        self._name_model(request.model_spec, model)
        response = self._call(model_service.ModelServiceStub(self._channel).GetModelStatus, request)
        state_name = status_pb2.ModelVersionStatus.State.Name
        return [
            VersionState(entry.version, state_name(entry.state), entry.status.error_message)
            for entry in response.model_version_status
        ]

    def metadata(self, model: str | None = None, version: int | None = None) -> dict[str, dict[str, dict[str, str]]]:
        """Return `{signature: {"inputs": {name: "DTYPE [shape]"}, "outputs": ...}}` of a model.

        Raises:
            ClientError: no server answers, or it does not know the model.
        """
        request = metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec, model, version)
        stub = prediction_service.PredictionServiceStub(self._channel)
        response = self._call(stub.GetModelMetadata, request)
        signatures = metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            name: {"inputs": _describe(definition.inputs), "outputs": _describe(definition.outputs)}
            for name, definition in sorted(signatures.signature_def.items())
            if not name.startswith("__")
        }

    def models(self) -> list[str] | None:
        """Return the names of the models, or None from a server that does not tell, as TensorFlow Serving.

        Raises:
            ClientError: no server answers.
        """
        try:
            self._call(
                model_service.ModelServiceStub(self._channel).GetModelStatus,
                status_pb2.GetModelStatusRequest(model_spec={"name": ""}),
            )
        except ClientError as error:
            if isinstance(error.__cause__, grpc.RpcError) and error.code not in _UNREACHABLE:
                return _listed_models(error.__cause__)
            raise
        return None

    def _name_model(self, spec: Any, model: str | None, version: int | None = None) -> None:
        if version is not None:
            spec.version.value = version
        if not (model or self._model):
            known = self.models() or []
            if len(known) != 1:
                choice = f"one of {', '.join(known)}" if known else "the server does not list its models"
                raise ClientError(grpc.StatusCode.INVALID_ARGUMENT, f"no model was named: {choice}")
            self._model = known[0]
        spec.name = model or self._model

    def _call(self, method: Any, request: Any) -> Any:
        if self._wait:
            self._wait_for_server()
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ClientError(error.code(), self._explain(error, request)) from error

    def _wait_for_server(self) -> None:
        try:
            grpc.channel_ready_future(self._channel).result(self._wait)
        except grpc.FutureTimeoutError as error:
            message = f"no server came up at {self.address} within {self._wait:g} seconds"
            raise ClientError(grpc.StatusCode.UNAVAILABLE, message) from error
        self._wait = 0.0

    def _explain(self, error: grpc.RpcError, request: Any) -> str:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            start = "python -m serving.server --model_base_path saved_models"
            return f"no server answers at {self.address}. Start one with `{start}` ({details})"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer from {self.address} within {self._timeout:g} seconds"
        known = _listed_models(error)
        if code is grpc.StatusCode.NOT_FOUND and known is not None and request.model_spec.name not in known:
            return f"{closest(request.model_spec.name, known, 'model')} (at {self.address})"
        return details


def _listed_models(error: grpc.RpcError) -> list[str] | None:
    for key, value in error.trailing_metadata() or ():
        if key == MODELS_KEY:
            return value.decode("utf-8", "replace").split("\n") if value else []
    return None


def _describe(tensors: Mapping[str, Any]) -> dict[str, str]:
    described = {}
    for name, info in sorted(tensors.items()):
        sides = ", ".join("?" if side.size < 0 else str(side.size) for side in info.tensor_shape.dim)
        shape = "unknown shape" if info.tensor_shape.unknown_rank else f"[{sides}]"
        described[name] = f"{types_pb2.DataType.Name(info.dtype).removeprefix('DT_').lower()} {shape}"
    return described


def _hits(answer: Mapping[str, np.ndarray], top: int | None) -> list[list[Hit]]:
    columns = _strings(answer["ids"]), answer["scores"].tolist(), _strings(answer["payload"])
    return [[Hit(*hit) for hit in zip(*row, strict=True)][:top] for row in zip(*columns, strict=True)]


def _strings(rows: np.ndarray) -> list[list[str]]:
    return [[text.decode("utf-8", "replace") for text in row] for row in rows.tolist()]


def _read(images: Sequence[bytes | Path]) -> list[bytes]:
    return [image if isinstance(image, bytes) else Path(image).read_bytes() for image in images]


def _to_array(value: ArrayLike) -> np.ndarray:
    # Through objects, because numpy's own string types cut trailing zero bytes.
    array = value if isinstance(value, np.ndarray) else np.array(value, object)
    first = array.flat[0] if array.size else None
    if array.dtype.kind == "U" or isinstance(first, str):
        return np.vectorize(lambda text: text.encode(), otypes=[object])(array)
    if array.dtype.kind != "O" or isinstance(first, bytes):
        return array.astype(object) if array.dtype.kind == "S" else array
    plain = np.array(value)
    return plain.astype(np.float32) if plain.dtype == np.float64 else plain


if __name__ == "__main__":
    from serving.client_command import main

    sys.exit(main())
