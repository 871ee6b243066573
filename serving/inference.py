"""Classify, Regress and MultiInference: `tf.Example`s in, labels and numbers out.

The signature takes one input `inputs`, serialized examples `[N]`. A classifier gives `classes` (strings
`[N, C]`), `scores` (float32 `[N, C]`), or both; a regressor gives `outputs` (float32 `[N]` or `[N, 1]`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from serving.errors import ServingError, invalid
from serving.signature import DEFAULT_SIGNATURE, Signature

if TYPE_CHECKING:
    from serving.servable import Servable

INPUT, CLASSES, SCORES, OUTPUTS = "inputs", "classes", "scores", "outputs"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def classify(
    servable: Servable, request: classification_pb2.ClassificationRequest, timeout: float | None = None
) -> classification_pb2.ClassificationResponse:
    """Return the classes of each example of `request`, after at most `timeout` seconds in the model.

    Raises:
        ServingError: the signature is no classifier, there are no examples, or an operation failed.
    """
    signature = _signature(servable, request.model_spec, CLASSIFY)
    examples = read_examples(request.input)
    arrays = _run(servable, signature, examples, timeout, "Classify")
    response = classification_pb2.ClassificationResponse()
    _name(response.model_spec, servable, signature.name)
    _write_classes(arrays, len(examples), response.result)
    return response


def regress(
    servable: Servable, request: regression_pb2.RegressionRequest, timeout: float | None = None
) -> regression_pb2.RegressionResponse:
    """Return the value of each example of `request`, after at most `timeout` seconds in the model.

    Raises:
        ServingError: the signature is no regressor, there are no examples, or an operation failed.
    """
    signature = _signature(servable, request.model_spec, REGRESS)
    examples = read_examples(request.input)
    arrays = _run(servable, signature, examples, timeout, "Regress")
    response = regression_pb2.RegressionResponse()
    _name(response.model_spec, servable, signature.name)
    _write_values(arrays, len(examples), response.result)
    return response


def multi_inference(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, timeout: float | None = None
) -> inference_pb2.MultiInferenceResponse:
    """Return the answer of each task of `request`, which one run of the model computes, in their order.

    Raises:
        ServingError: tasks ask for one signature twice, for signatures that do not share their input, or for
            another method than classify and regress; there are no examples; or an operation failed.
    """
    signatures = []
    for task in request.tasks:
        signature = _signature(servable, task.model_spec, task.method_name)
        if signature.name in [other.name for other in signatures]:
            raise invalid(f"Duplicate evaluation of signature: {signature.name}")
        signatures.append(signature)
    joined = servable.join(signatures)
    examples = read_examples(request.input)
    arrays = _run(servable, joined, examples, timeout, "MultiInference")
    response = inference_pb2.MultiInferenceResponse()
    for task, signature in zip(request.tasks, signatures, strict=True):
        own = {alias: arrays[f"{signature.name}/{alias}"] for alias in signature.outputs}
        result = response.results.add()
        _name(result.model_spec, servable, signature.name)
        if task.method_name == CLASSIFY:
            _write_classes(own, len(examples), result.classification_result)
        else:
            _write_values(own, len(examples), result.regression_result)
    return response


def read_examples(message: input_pb2.Input) -> np.ndarray:
    """Return the serialized examples of a request `[N]`; features of an example win over those of the context.

    Raises:
        ServingError: INVALID_ARGUMENT, there are none.
    """
    if message.WhichOneof("kind") == "example_list_with_context":
        # Of two serialized messages in a row the later one's map entries win.
        context = message.example_list_with_context.context.SerializeToString()
        examples = message.example_list_with_context.examples
    else:
        context, examples = b"", message.example_list.examples
    if not examples:
        raise invalid("Input is empty.")
    rows = np.empty(len(examples), object)
    rows[:] = [context + example.SerializeToString() for example in examples]
    return rows


@dataclasses.dataclass(frozen=True)
class _Method:
    """What a signature of a method looks like."""

    noun: str
    outputs: frozenset[str]
    at_most: int


_METHODS = {
    CLASSIFY: _Method("classification", frozenset((CLASSES, SCORES)), 2),
    REGRESS: _Method("regression", frozenset((OUTPUTS,)), 1),
}


def _signature(servable: Servable, spec: model_pb2.ModelSpec, method: str) -> Signature:
    """Return the signature that `spec` names, which has to fit `method`.

    Its `method_name` is looked at only where the server was told so: what TensorFlow 2 exports with the right names
    works, though it says something else.
    """
    if method not in _METHODS:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid(f"No signature was found with the name: {name}")
    servable.check_method(signature, method)
    wanted = _METHODS[method]
    if list(signature.inputs) != [INPUT]:
        raise invalid(
            f"signature {name!r}: {wanted.noun} needs exactly one input, named {INPUT!r}; "
            f"it has {sorted(signature.inputs)}"
        )
    if not 1 <= len(signature.outputs) <= wanted.at_most or not set(signature.outputs) <= wanted.outputs:
        raise invalid(
            f"signature {name!r}: {wanted.noun} needs outputs among {sorted(wanted.outputs)}; "
            f"it has {sorted(signature.outputs)}"
        )
    return signature


def _run(
    servable: Servable, signature: Signature, examples: np.ndarray, timeout: float | None, api: str
) -> dict[str, np.ndarray]:
    servable.note_examples(len(examples))
    arrays = servable.run(signature, {INPUT: examples}, signature.outputs, timeout, api=api)
    return dict(zip(signature.outputs, arrays, strict=True))


def _name(spec: model_pb2.ModelSpec, servable: Servable, signature: str) -> None:
    spec.name, spec.signature_name, spec.version.value = servable.name, signature, servable.version


def _write_classes(
    arrays: Mapping[str, np.ndarray], count: int, result: classification_pb2.ClassificationResult
) -> None:
    classes, scores = arrays.get(CLASSES), arrays.get(SCORES)
    for alias, array, dtype in ((CLASSES, classes, tf.string), (SCORES, scores, tf.float32)):
        if array is None:
            continue
        if tf.as_dtype(array.dtype) != dtype or array.ndim != 2 or len(array) != count:
            raise _unfit(alias, array, f"{dtype.name} [{count}, C]")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise _unfit(SCORES, scores, f"the shape of {CLASSES!r}, {list(classes.shape)}")
    for row in range(count):
        labels = [""] * scores.shape[1] if classes is None else [_text(label) for label in classes[row]]
        values = [0.0] * len(labels) if scores is None else scores[row].tolist()
        answer = result.classifications.add()
        for label, score in zip(labels, values, strict=True):
            answer.classes.add(label=label, score=score)


def _write_values(arrays: Mapping[str, np.ndarray], count: int, result: regression_pb2.RegressionResult) -> None:
    array = arrays[OUTPUTS]
    if array.dtype != np.float32 or array.shape not in ((count,), (count, 1)):
        raise _unfit(OUTPUTS, array, f"float32 [{count}] or [{count}, 1]")
    for value in array.ravel().tolist():
        result.regressions.add(value=value)


def _text(label: bytes) -> str:
    # The message's field is UTF-8; a class name that is not must not end the whole answer.
    return label.decode("utf-8", "replace")


def _unfit(alias: str, array: np.ndarray, wanted: str) -> ServingError:
    dtype = tf.as_dtype(array.dtype).name
    return invalid(f"output {alias!r}: expected {wanted}, got {dtype} {list(array.shape)}")
