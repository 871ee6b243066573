"""The calls of the TensorFlow Serving API that are answered: Predict, GetModelMetadata, GetModelStatus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from serving.errors import ServingError, invalid
from serving.store import Store

# Trailing metadata of NOT_FOUND: the models there are, UTF-8, one a line. TensorFlow Serving has no call that
# lists its models; this says it to clients that look, and its error messages stay as they are.
MODELS_KEY = "served-models-bin"
_MAX_LISTED_BYTES = 4096
# A deadline further away than this is none.
_LONG = 7 * 24 * 3600.0

logger = logging.getLogger(__name__)


class PredictionService:
    """tensorflow.serving.PredictionService over a `Store`."""

    name = "tensorflow.serving.PredictionService"

    def __init__(self, store: Store, *, as_content: bool = False):
        """Answer from `store`; `as_content` sends tensors as raw bytes instead of typed values."""
        self._store = store
        self._as_content = as_content

    def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run a signature."""
        name, version = _model_of(request)
        with self._store.lease(name, version) as servable:
            return servable.predict(request, _time_left(context), as_content=self._as_content)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        name, version = _model_of(request)
        with self._store.lease(name, version) as servable:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = name
            response.model_spec.version.value = servable.version
            response.metadata["signature_def"].CopyFrom(servable.signature_map)
            return response

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a gRPC server; other calls of the service are UNIMPLEMENTED."""
        return _handlers(
            self.name,
            self._store,
            {
                "Predict": (self.predict, predict_pb2.PredictRequest),
                "GetModelMetadata": (self.get_model_metadata, get_model_metadata_pb2.GetModelMetadataRequest),
            },
        )


class ModelService:
    """tensorflow.serving.ModelService over a `Store`."""

    name = "tensorflow.serving.ModelService"

    def __init__(self, store: Store):
        self._store = store

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of a model's versions; a version label is ignored, as TensorFlow Serving does."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in self._store.statuses(spec.name, _version_of(spec)):
            entry = response.model_version_status.add(version=number, state=state)
            if error is not None:
                entry.status.error_code = error.code.value[0]
                entry.status.error_message = error.message
            else:
                entry.status.SetInParent()
        return response

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a gRPC server; other calls of the service are UNIMPLEMENTED."""
        request = get_model_status_pb2.GetModelStatusRequest
        return _handlers(self.name, self._store, {"GetModelStatus": (self.get_model_status, request)})


def _handlers(service: str, store: Store, calls: dict[str, tuple[Callable, Any]]) -> grpc.GenericRpcHandler:
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _answering(call, store),
            request_deserializer=request.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (call, request) in calls.items()
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def _answering(call: Callable, store: Store) -> Callable:
    """Return `call` with its exceptions turned into gRPC statuses."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(request, context)
        except ServingError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                context.set_trailing_metadata(((MODELS_KEY, _listed(store.names())),))
            code, message = error.code, error.message
        except Exception as error:
            logger.exception("a request failed")
            code, message = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
        context.abort(code, message)

    return answer


def _model_of(request: Any) -> tuple[str, int | None]:
    """Return name and version, None for the latest, of a request's ModelSpec."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    if spec.WhichOneof("version_choice") == "version_label":
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, _version_of(spec)


def _version_of(spec: model_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.WhichOneof("version_choice") == "version" else None


def _time_left(context: grpc.ServicerContext) -> float | None:
    """Return the seconds until the client's deadline, None without one.

    Raises:
        ServingError: DEADLINE_EXCEEDED, the request waited too long for a thread.
    """
    seconds = context.time_remaining()
    if seconds is None or seconds > _LONG:
        return None
    if seconds <= 0:
        raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request was started")
    return seconds


def _listed(names: list[str]) -> bytes:
    data = "\n".join(names).encode("utf-8", "replace")
    return data if len(data) <= _MAX_LISTED_BYTES else data[:_MAX_LISTED_BYTES].rpartition(b"\n")[0]
