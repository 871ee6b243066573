"""Predict: statuses and messages of TensorFlow Serving, row by row, and what a right answer looks like."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

Code = grpc.StatusCode
X = np.ones((2, 1), np.float32)


def tensor(dtype=types_pb2.DT_FLOAT, shape=(2, 1), **values) -> tensor_pb2.TensorProto:
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": side} for side in shape]}, **values)


FAULTS = {
    "unknown model": (dict(model="nobody"), Code.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
    "unknown version": (dict(version=9), Code.NOT_FOUND, "Servable not found for request: Specific(everything, 9)"),
    "unknown signature": (
        dict(signature="nothing"),
        Code.FAILED_PRECONDITION,
        'Serving signature key "nothing" not found.',
    ),
    "missing input": (
        dict(inputs={"a": [1.0]}, signature="add"),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
    ),
    "extra input": (
        dict(inputs={"x": X, "more": X}),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({more,x}) != len({x}). Sent extra: {more}. "
        "Missing but required: {}.",
    ),
    "misnamed input": (
        dict(inputs={"wrong": X}),
        Code.INVALID_ARGUMENT,
        "Signature input alias: x not found in request and no default value provided",
    ),
    "no dtype": (dict(inputs={"x": tensor(dtype=0)}), Code.INVALID_ARGUMENT, "tensor parsing error: x"),
    "unknown dtype": (dict(inputs={"x": tensor(dtype=999)}), Code.INVALID_ARGUMENT, "tensor parsing error: x"),
    "negative side": (dict(inputs={"x": tensor(shape=(-1, 1))}), Code.INVALID_ARGUMENT, "tensor parsing error: x"),
    "content of another length": (
        dict(inputs={"x": tensor(tensor_content=b"\0" * 7)}),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "other dtype": (
        dict(inputs={"x": np.ones((2, 1), np.int32)}),
        Code.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int32 is provided",
    ),
    "string for float": (dict(inputs={"x": [["a"]]}), Code.INVALID_ARGUMENT, "to be float but string is provided"),
    "shape that the op cannot take": (
        dict(inputs={"x": np.ones((1, 4), np.float32)}, signature="project"),
        Code.INVALID_ARGUMENT,
        "Matrix size-incompatible",
    ),
    "unknown output": (
        dict(outputs=("y", "nothing")),
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: nothing Outputs expected to be in the set {y,z}.",
    ),
    "output twice": (dict(outputs=("y", "y")), Code.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
    "op error": (dict(inputs={"index": [7]}, signature="fail"), Code.INVALID_ARGUMENT, "xxx"),
    "tensor beyond the limit": (
        dict(inputs={"x": tensor(shape=(2**31, 1), float_val=[1.0])}),
        Code.RESOURCE_EXHAUSTED,
        "input 'x'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_has_the_status_and_message_of_the_contract(server, fault):
    request, code, message = FAULTS[fault]
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(**{"model": "everything", "inputs": {"x": X}, **request})
    assert caught.value.code() is code
    assert message in caught.value.details()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "Missing ModelSpec"),
        ({}, "ModelSpec has no name specified."),
        ({"name": "everything", "version_label": "best"}, "Unrecognized servable version label: best"),
    ],
)
def test_bad_model_spec_is_an_invalid_argument(server, spec, message):
    with pytest.raises(grpc.RpcError) as caught:
        server.send(predict_pb2.PredictRequest(model_spec=spec))
    assert (caught.value.code(), caught.value.details()) == (Code.INVALID_ARGUMENT, message)


def test_checks_come_in_the_order_of_the_contract(server):
    """A request with every fault is told of the first; mending one shows the next."""
    bad = {"x": tensor(dtype=0)}
    steps = [
        (dict(model="nobody", signature="nothing", inputs={}, outputs=("no",)), Code.NOT_FOUND, "Servable"),
        (dict(signature="nothing", inputs={}, outputs=("no",)), Code.FAILED_PRECONDITION, "signature key"),
        (dict(inputs={}, outputs=("no",)), Code.INVALID_ARGUMENT, "input size does not match"),
        (dict(inputs=bad, outputs=("no",)), Code.INVALID_ARGUMENT, "tensor parsing error"),
        (dict(inputs={"x": X}, outputs=("no",)), Code.INVALID_ARGUMENT, "output tensor alias"),
    ]
    for request, code, message in steps:
        with pytest.raises(grpc.RpcError) as caught:
            server.predict(**{"model": "everything", **request})
        assert caught.value.code() is code
        assert message in caught.value.details()


def test_long_message_is_cut(server):
    with pytest.raises(grpc.RpcError) as caught:
        server.predict("everything", {"index": [7]}, signature="fail")
    assert len(caught.value.details().encode()) == 1024
    assert caught.value.details().endswith("...TRUNCATED")


def test_not_found_tells_which_models_there_are(server):
    with pytest.raises(grpc.RpcError) as caught:
        server.predict("nobody", {})
    assert ("served-models-bin", b"constant\neverything") in [tuple(item) for item in caught.value.trailing_metadata()]


def test_answer_names_model_signature_and_version(server):
    spec = server.predict("everything", {"x": X}).model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("everything", "serving_default", 7)


def test_answer_stands_in_typed_values(server):
    response = server.predict("everything", {"x": X})
    assert list(response.outputs["y"].float_val) == [2.0, 2.0]
    assert not response.outputs["y"].tensor_content
    assert set(response.outputs) == {"y", "z"}


def test_output_filter_computes_only_what_it_names(server):
    assert set(server.predict("everything", {"x": X}, outputs=("z",)).outputs) == {"z"}


def test_declared_shape_is_not_checked(server):
    """The signature says [-1, 1]; TensorFlow Serving leaves it to the operations."""
    assert list(server.predict("everything", {"x": np.ones(2, np.float32)}).outputs["y"].float_val) == [2.0, 2.0]


def test_values_shorter_than_the_shape_repeat_the_last(server):
    response = server.predict("everything", {"x": tensor(shape=(4, 1), float_val=[1.0, 3.0])})
    assert list(response.outputs["y"].float_val) == [2.0, 6.0, 6.0, 6.0]


@pytest.mark.parametrize("text", [b"plain", b"zero\0inside\0", b"\xff\xfe not utf-8", b""])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1)])
def test_strings_are_bytes(server, text, shape):
    array = np.empty(shape, object)
    array[...] = text
    response = server.predict("everything", {"text": tf.make_tensor_proto(array, tf.string, shape)}, signature="echo")
    assert list(response.outputs["text"].string_val) == [text] * array.size
    assert tuple(side.size for side in response.outputs["text"].tensor_shape.dim) == shape


def test_empty_batch_works(server):
    response = server.predict("everything", {"x": np.empty((0, 1), np.float32)})
    assert tf.make_ndarray(response.outputs["y"]).shape == (0, 1)


def test_deadline_cancels_the_run(server):
    """The end of the fixture, which waits for running requests, fails if it does not."""
    with pytest.raises(grpc.RpcError) as caught:
        server.predict("everything", {"path": "/no/such/file"}, signature="hold", timeout=0.3)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


def test_calls_that_are_not_served_are_unimplemented(server):
    call = server.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    assert caught.value.code() is Code.UNIMPLEMENTED


def test_answers_as_raw_bytes_on_request(everything, serve, published, tmp_path):
    published(everything, tmp_path / "everything", 1)
    with serve(tmp_path, as_content=True) as stub:
        output = stub.predict("everything", {"x": X}).outputs["y"]
    assert not output.float_val
    np.testing.assert_array_equal(tf.make_ndarray(output), 2 * X)


def test_request_message_has_a_limit(everything, serve, published, tmp_path):
    published(everything, tmp_path / "everything", 1)
    with serve(tmp_path, max_request_bytes=10_000) as stub:
        assert stub.predict("everything", {"x": np.ones((2000, 1), np.float32)})
        with pytest.raises(grpc.RpcError) as caught:
            stub.predict("everything", {"x": np.ones((3000, 1), np.float32)})
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
