"""grpc.health.v1, which load balancers and orchestrators ask.

TensorFlow Serving answers SERVING whatever its models do; here the answer is whether they are there.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2

SERVICES = ("", "ModelService", "PredictionService")


def health_handler(is_serving: Callable[[], bool]) -> grpc.GenericRpcHandler:
    """Return a handler of Check; Watch is UNIMPLEMENTED, so that clients which prefer it ask Check instead.

    Args:
        is_serving: called on each request.
    """

    def check(request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        if request.service not in SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}, known are {SERVICES[1:]}")
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if is_serving() else status.NOT_SERVING)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})
