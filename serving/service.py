"""The API over gRPC: services, their calls, deadlines and statuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.api import Api
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.store import Store

# Trailing metadata of NOT_FOUND: the models there are, UTF-8, one a line. TensorFlow Serving has no call that
# lists its models; this says it to clients that look, and its error messages stay as they are.
MODELS_KEY = "served-models-bin"
_MAX_LISTED_BYTES = 4096
# A deadline further away than this is none.
_LONG = 7 * 24 * 3600.0

logger = logging.getLogger(__name__)


def handlers(api: Api, store: Store, metrics: Metrics) -> list[grpc.GenericRpcHandler]:
    """Return the handlers to add to a gRPC server; other calls of the services are UNIMPLEMENTED.

    What runs a model is counted in `metrics`.
    """

    def metered(name: str, call: Callable) -> Callable:
        def answer(request: Any, timeout: float | None) -> Any:
            with metrics.measure(name, "GRPC", _model_of(request)):
                return call(request, timeout)

        return answer

    services = {
        "tensorflow.serving.PredictionService": {
            "Predict": (metered("Predict", api.predict), predict_pb2.PredictRequest),
            "Classify": (metered("Classify", api.classify), classification_pb2.ClassificationRequest),
            "Regress": (metered("Regress", api.regress), regression_pb2.RegressionRequest),
            "MultiInference": (metered("MultiInference", api.multi_inference), inference_pb2.MultiInferenceRequest),
            "GetModelMetadata": (api.get_model_metadata, get_model_metadata_pb2.GetModelMetadataRequest),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (api.get_model_status, get_model_status_pb2.GetModelStatusRequest),
            "HandleReloadConfigRequest": (api.reload_config, model_management_pb2.ReloadConfigRequest),
        },
    }
    return [_handler(service, calls, store) for service, calls in services.items()]


def _handler(service: str, calls: dict[str, tuple[Callable, Any]], store: Store) -> grpc.GenericRpcHandler:
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            _answering(call, store),
            request_deserializer=request.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (call, request) in calls.items()
    }
    return grpc.method_handlers_generic_handler(service, methods)


def _answering(call: Callable, store: Store) -> Callable:
    """Return `call` with the deadline of the gRPC context, and its exceptions turned into gRPC statuses."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(request, _time_left(context))
        except ServingError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                context.set_trailing_metadata(((MODELS_KEY, _listed(store.names())),))
            code, message = error.code, error.message
        except Exception as error:
            logger.exception("a request failed")
            code, message = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
        context.abort(code, message)

    return answer


def _model_of(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    return request.model_spec.name


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
