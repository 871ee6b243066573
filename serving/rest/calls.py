"""What each URL of the REST API answers."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.api import Api
from serving.errors import invalid
from serving.metrics import Metrics
from serving.rest.numbers import Float, loads
from serving.rest.tensors import decode_base64, from_array, to_array

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,19})|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<call>predict|classify|regress)", re.ASCII)
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.ASCII)


class RestApi:
    """Answers `GET` and `POST` with JSON values from an `Api`."""

    def __init__(self, api: Api, metrics: Metrics, max_bytes: int):
        """Answer from `api`; `max_bytes` limits each tensor of a request. Predictions are counted in `metrics`."""
        self._api = api
        self._metrics = metrics
        self._max_bytes = max_bytes

    def get(self, path: str) -> Any:
        """Return the status or, below `/metadata`, the signatures of a model.

        Raises:
            ServingError: the path or what it names is unknown.
        """
        match = _GET.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: GET {path}")
        spec = _spec(match)
        if match["metadata"]:
            return self._metadata(spec)
        response = self._api.get_model_status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return {
            "model_version_status": [
                {
                    "version": str(entry.version),
                    "state": type(entry).State.Name(entry.state),
                    "status": {
                        "error_code": _code_name(entry.status.error_code),
                        "error_message": entry.status.error_message,
                    },
                }
                for entry in response.model_version_status
            ]
        }

    def post(self, path: str, body: bytes, timeout: float | None) -> Any:
        """Return what a model answers to the JSON in `body`.

        Raises:
            ServingError: path or body cannot be understood, or the model refuses.
        """
        match = _POST.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: POST {path}")
        spec = _spec(match)
        with self._metrics.measure(match["call"].capitalize(), "REST", spec.name):
            return self._answer(match["call"], spec, body, timeout)

    def _answer(self, call: str, spec: model_pb2.ModelSpec, body: bytes, timeout: float | None) -> Any:
        try:
            request = loads(body)
        except ValueError as error:
            raise invalid(f"JSON Parse error: {error}") from error
        if not isinstance(request, dict):
            raise invalid("JSON Parse error: expected an object")
        signature = request.get("signature_name", "")
        if not isinstance(signature, str):
            raise invalid("'signature_name': expected a string")
        spec.signature_name = signature
        if call == "predict":
            return self._predict(spec, request, timeout)
        return self._infer(call, spec, request, timeout)

    def _metadata(self, spec: model_pb2.ModelSpec) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._api.get_model_metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        described = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        named = json_format.MessageToDict(response.model_spec, preserving_proto_field_name=True)
        return {"model_spec": {"signature_name": "", **named}, "metadata": {"signature_def": described}}

    def _predict(self, spec: model_pb2.ModelSpec, request: Mapping[str, Any], timeout: float | None) -> Any:
        is_row = "instances" in request
        if is_row == ("inputs" in request):
            raise invalid("expected exactly one of 'instances' and 'inputs' in the request")
        with self._api.signature(spec) as (servable, signature):
            read = _read_rows if is_row else _read_columns
            inputs = read(request["instances" if is_row else "inputs"], signature.inputs, self._max_bytes)
            arrays = dict(
                zip(signature.outputs, servable.predict_arrays(signature, inputs, timeout=timeout), strict=True)
            )
        if is_row:
            return {"predictions": _write_rows(arrays)}
        columns = {alias: from_array(alias, array) for alias, array in arrays.items()}
        return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}

    def _infer(self, call: str, spec: model_pb2.ModelSpec, request: Mapping[str, Any], timeout: float | None) -> Any:
        given = _read_examples(request)
        if call == "classify":
            answer = self._api.classify(classification_pb2.ClassificationRequest(model_spec=spec, input=given), timeout)
            return {
                "results": [
                    [[answer.label, Float(answer.score)] for answer in row.classes]
                    for row in answer.result.classifications
                ]
            }
        answer = self._api.regress(regression_pb2.RegressionRequest(model_spec=spec, input=given), timeout)
        return {"results": [Float(row.value) for row in answer.result.regressions]}


def _spec(match: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(match["name"]))
    if match["version"]:
        version = int(match["version"])
        if version >= 2**63:
            raise invalid(f"version {version} is no 64-bit integer")
        spec.version.value = version
    elif match["label"]:
        spec.version_label = urllib.parse.unquote(match["label"])
    return spec


def _code_name(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def _read_columns(value: Any, dtypes: Mapping[str, tf.DType], max_bytes: int) -> dict[str, np.ndarray]:
    if len(dtypes) == 1 and not (isinstance(value, dict) and set(value) == set(dtypes)):
        value = {next(iter(dtypes)): value}
    if not isinstance(value, dict):
        raise invalid(f"'inputs': expected an object with {sorted(dtypes)}")
    return {alias: to_array(alias, column, _dtype(alias, dtypes), max_bytes) for alias, column in value.items()}


def _read_rows(value: Any, dtypes: Mapping[str, tf.DType], max_bytes: int) -> dict[str, np.ndarray]:
    if not isinstance(value, list) or not value:
        raise invalid("'instances': expected a list that is not empty")
    only = next(iter(dtypes)) if len(dtypes) == 1 else None
    if only is not None and not all(isinstance(row, dict) and set(row) == {only} for row in value):
        value = [{only: row} for row in value]
    names = set(value[0]) if isinstance(value[0], dict) else set()
    if not names or any(not isinstance(row, dict) or set(row) != names for row in value):
        raise invalid(f"'instances': expected objects with {sorted(dtypes)}, the same in each row")
    return {
        alias: to_array(alias, [row[alias] for row in value], _dtype(alias, dtypes), max_bytes)
        for alias in sorted(names)
    }


def _dtype(alias: str, dtypes: Mapping[str, tf.DType]) -> tf.DType:
    if alias not in dtypes:
        raise invalid(f"input {alias!r} is not in the signature, which has {sorted(dtypes)}")
    return dtypes[alias]


def _write_rows(arrays: Mapping[str, np.ndarray]) -> list[Any]:
    counts = {alias: len(array) if array.ndim else None for alias, array in arrays.items()}
    if None in counts.values() or len(set(counts.values())) > 1:
        raise invalid(f"'instances' need outputs with rows, as many of each; got {counts}: ask with 'inputs'")
    columns = {alias: from_array(alias, array) for alias, array in arrays.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _read_examples(request: Mapping[str, Any]) -> input_pb2.Input:
    examples = request.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid("'examples': expected a list that is not empty")
    read = [_example("examples", example) for example in examples]
    if "context" not in request:
        return input_pb2.Input(example_list=input_pb2.ExampleList(examples=read))
    context = _example("context", request["context"])
    return input_pb2.Input(example_list_with_context=input_pb2.ExampleListWithContext(context=context, examples=read))


def _example(where: str, features: Any) -> tf.train.Example:
    if not isinstance(features, dict):
        raise invalid(f"{where!r}: expected an object of features")
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        try:
            _fill(feature, values)
        except (TypeError, ValueError) as error:
            raise invalid(f"{where!r}, feature {name!r}: expected numbers or strings of one type") from error
    return example


def _fill(feature: tf.train.Feature, values: list[Any]) -> None:
    """Write JSON values: whole numbers as int64, those with a point as float, strings as bytes."""
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1:
        raise ValueError("mixed types")
    kind = kinds.pop() if kinds else "bytes"
    if kind == "bytes":
        texts = [decode_base64(value["b64"]) if isinstance(value, dict) else value.encode() for value in values]
        feature.bytes_list.value.extend(texts)
    elif kind == "float":
        feature.float_list.value.extend(values)
    else:
        feature.int64_list.value.extend(values)


def _kind(value: Any) -> str:
    if isinstance(value, str) or (isinstance(value, dict) and set(value) == {"b64"}):
        return "bytes"
    if isinstance(value, float):
        return "float"
    if isinstance(value, int):
        return "int"
    raise TypeError(type(value).__name__)
