"""Tensors as JSON lists and back, by the dtype of the signature."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from serving.errors import ServingError, exhausted, invalid
from serving.rest.numbers import Float

#: Outputs whose alias ends so are bytes, the others text.
BYTES_SUFFIX = "_bytes"
# numpy's limit.
_MAX_DIMENSIONS = 64
_UNSUPPORTED = (tf.float16, tf.bfloat16, tf.complex64, tf.complex128)


def to_array(alias: str, value: Any, dtype: tf.DType, max_bytes: int) -> np.ndarray:
    """Return the array of a JSON value for an input; strings become an object array of `bytes`.

    Raises:
        ServingError: INVALID_ARGUMENT for lists of unequal lengths and values of another type than `dtype`,
            UNIMPLEMENTED for a dtype that has no JSON, RESOURCE_EXHAUSTED above `max_bytes`.
    """
    if dtype in _UNSUPPORTED or dtype.base_dtype != dtype:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"input {alias!r}: JSON has no {dtype.name}")
    shape = _shape(value)
    if len(shape) > _MAX_DIMENSIONS:
        raise invalid(f"input {alias!r}: a tensor has at most {_MAX_DIMENSIONS} dimensions, got {len(shape)}")
    flat: list[Any] = []
    _flatten(alias, value, shape, 0, dtype, flat)
    size = sum(map(len, flat)) if dtype == tf.string else len(flat) * dtype.size
    if size > max_bytes:
        raise exhausted(f"input {alias!r}: a tensor of shape {shape} takes {size} bytes, allowed are {max_bytes}")
    if dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = flat
    else:
        try:
            array = np.array(flat, dtype.as_numpy_dtype)
        except OverflowError as error:
            raise invalid(f"input {alias!r}: a number does not fit {dtype.name}") from error
    return array.reshape(shape)


def from_array(alias: str, array: np.ndarray) -> Any:
    """Return the JSON value of an output.

    Raises:
        ServingError: INVALID_ARGUMENT, the dtype has no JSON.
    """
    if array.dtype.kind == "c" or array.dtype in (np.float16, tf.bfloat16.as_numpy_dtype):
        raise invalid(f"output {alias!r}: JSON has no {tf.as_dtype(array.dtype).name}")
    if array.dtype == object:
        return _strings(array.tolist(), alias.endswith(BYTES_SUFFIX))
    if array.dtype == np.float32:
        return _floats(array.tolist())
    return array.tolist()


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flatten(alias: str, value: Any, shape: list[int], depth: int, dtype: tf.DType, flat: list[Any]) -> None:
    if depth < len(shape):
        if not isinstance(value, list) or len(value) != shape[depth]:
            raise invalid(f"input {alias!r}: the lists are not of equal length, expected shape {shape}")
        for item in value:
            _flatten(alias, item, shape, depth + 1, dtype, flat)
        return
    if isinstance(value, list):
        raise invalid(f"input {alias!r}: the lists are not of equal depth, expected shape {shape}")
    flat.append(_scalar(alias, value, dtype))


def _scalar(alias: str, value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, Mapping) and set(value) == {"b64"}:
            return decode_base64(value["b64"])
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif not isinstance(value, bool) and (isinstance(value, int) or (dtype.is_floating and isinstance(value, float))):
        return value
    raise invalid(f"input {alias!r}: expected {dtype.name}, got {_show(value)}")


def decode_base64(text: Any) -> bytes:
    """Return the bytes of a `{"b64": text}` object.

    Raises:
        ServingError: INVALID_ARGUMENT, it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise invalid(f"expected base64 after 'b64', got {_show(text)}") from error


def _strings(value: Any, is_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_strings(item, is_bytes) for item in value]
    return {"b64": base64.b64encode(value).decode()} if is_bytes else value.decode("utf-8", "replace")


def _floats(value: Any) -> Any:
    return [_floats(item) for item in value] if isinstance(value, list) else Float(value)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
