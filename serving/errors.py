"""Errors as gRPC statuses: one exception for everything that ends a request or a load."""

from __future__ import annotations

import grpc
import tensorflow as tf

# The limit of TensorFlow Serving, so that a long operation error cannot overflow the HTTP/2 headers.
MAX_MESSAGE = 1024
_CUT = "...TRUNCATED"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """A failure with the gRPC status that a client is told.

    Attributes:
        code: a `grpc.StatusCode`.
        message: at most `MAX_MESSAGE` UTF-8 bytes.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        self.code = code
        self.message = clip(message)
        super().__init__(self.message)


def invalid(message: str) -> ServingError:
    """Return an INVALID_ARGUMENT error."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Return a NOT_FOUND error."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def exhausted(message: str) -> ServingError:
    """Return a RESOURCE_EXHAUSTED error."""
    return ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


def from_tensorflow(error: tf.errors.OpError) -> ServingError:
    """Return the error of a TensorFlow operation with its own code."""
    return ServingError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message)


def clip(message: str) -> str:
    """Return `message` within `MAX_MESSAGE` bytes, marked where it was cut."""
    data = message.encode("utf-8", "replace")
    if len(data) <= MAX_MESSAGE:
        return message
    return data[: MAX_MESSAGE - len(_CUT)].decode("utf-8", "ignore") + _CUT
