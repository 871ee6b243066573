"""Contract section 3: PredictionService.Predict."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from tests.blackbox.client import Code, eventually, refused, stopped, tensor
from tests.blackbox.models import ECHOED, HOLD_SECONDS

X = np.ones((2, 1), np.float32)
Types = types_pb2.DataType

FAULTS = {
    "unknown model": (dict(model="nobody"), Code.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
    "unknown version": (dict(version=9), Code.NOT_FOUND, "Servable not found for request: Specific(kinds, 9)"),
    "unknown label": (
        dict(version_label="best"),
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: best",
    ),
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
    "no input": (
        dict(inputs={}),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
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
    "tensor without dtype": (dict(inputs={"x": tensor(0, (2, 1))}), Code.INVALID_ARGUMENT, "tensor parsing error: x"),
    "tensor of negative dimension": (
        dict(inputs={"x": tensor(shape=(-1, 1))}),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "tensor_content too short": (
        dict(inputs={"x": tensor(shape=(2, 1), tensor_content=b"\0" * 7)}),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "tensor_content too long": (
        dict(inputs={"x": tensor(shape=(2, 1), tensor_content=b"\0" * 12)}),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "other dtype": (
        dict(inputs={"x": np.ones((2, 1), np.int32)}),
        Code.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int32 is provided",
    ),
    "shape that the op cannot take": (
        dict(inputs={"x": np.ones((1, 4), np.float32)}, signature="project"),
        Code.INVALID_ARGUMENT,
        "Matrix size-incompatible",
    ),
    "unknown alias in output_filter": (
        dict(outputs=("y", "nothing")),
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: nothing Outputs expected to be in the set {y,z}.",
    ),
    "alias twice in output_filter": (
        dict(outputs=("y", "y")),
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: y",
    ),
    "op error: INVALID_ARGUMENT": (
        dict(inputs={"index": [7]}, signature="long_error"),
        Code.INVALID_ARGUMENT,
        "assertion failed",
    ),
    "op error: NOT_FOUND": (
        dict(inputs={"path": "no such file"}, signature="read"),
        Code.NOT_FOUND,
        "No such file or directory",
    ),
    "op error: OUT_OF_RANGE": (
        dict(inputs={"x": np.float32(1)}, signature="out_of_range"),
        Code.OUT_OF_RANGE,
        "End of sequence",
    ),
    "op error: CANCELLED": (dict(inputs={"x": np.float32(1)}, signature="cancelled"), Code.CANCELLED, "closed"),
    "op error: DATA_LOSS": (dict(inputs={"data": "garbage"}, signature="data_loss"), Code.DATA_LOSS, "inflate"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(server, fault):
    request, code, message = FAULTS[fault]
    with refused(code, message):
        server.predict(**{"model": "kinds", "inputs": {"x": X}, **request})


def test_order_of_checks(server):
    """A request with every fault is told of the first; mending one shows the next."""
    bad = {"x": tensor(0)}
    steps = [
        (dict(model="", signature="no", inputs={}, outputs=("no",)), Code.INVALID_ARGUMENT, "no name"),
        (dict(model="nobody", signature="no", inputs={}, outputs=("no",)), Code.NOT_FOUND, "Servable"),
        (dict(signature="no", inputs={}, outputs=("no",)), Code.FAILED_PRECONDITION, "signature key"),
        (dict(inputs={}, outputs=("no",)), Code.INVALID_ARGUMENT, "input size does not match"),
        (dict(inputs=bad, outputs=("no",)), Code.INVALID_ARGUMENT, "tensor parsing error"),
        (dict(inputs={"x": [[1]]}, outputs=("no",)), Code.INVALID_ARGUMENT, "output tensor alias"),
        (dict(inputs={"x": [[1]]}), Code.INVALID_ARGUMENT, "to be float but int32"),
    ]
    for request, code, message in steps:
        with refused(code, message):
            server.predict(**{"model": "kinds", **request})


def test_declared_shape_is_not_checked(server):
    assert list(server.predict("kinds", {"x": np.ones(2, np.float32)}).outputs["y"].float_val) == [2.0, 2.0]


def test_deadline_cancels_the_run(server, folder):
    path = folder.marks / "cancelled"
    beat = folder.marks / "cancelled.beat"
    with refused(Code.DEADLINE_EXCEEDED):
        server.predict("kinds", {"path": str(path)}, "hold", timeout=0.6)
    # Left alone it would run for a minute.
    eventually(lambda: stopped(beat), HOLD_SECONDS / 3)


def test_input_with_a_default_may_be_left_out(server):
    assert list(server.predict("with default", {"x": [2.0]}).outputs["y"].float_val) == [6.0]
    given = {"x": [2.0], "factor": np.float32(5)}
    assert list(server.predict("with default", given).outputs["y"].float_val) == [10.0]


def test_input_without_a_default_may_not(server):
    with refused(Code.INVALID_ARGUMENT, "input size does not match signature"):
        server.predict("with default", {"factor": np.float32(5)})


def test_message_of_more_than_1024_bytes_is_cut(server):
    with refused(Code.INVALID_ARGUMENT, "assertion failed") as caught:
        server.predict("kinds", {"index": [7]}, "long_error")
    assert len(caught.value.details().encode()) == 1024
    assert caught.value.details().endswith("...TRUNCATED")


#: Where each dtype's values are, and one value as it stands there.
FIELDS = {
    "float32": ("float_val", [1.5]),
    "float64": ("double_val", [1.5]),
    "float16": ("half_val", [0x3E00]),
    "bfloat16": ("half_val", [0x3FC0]),
    "complex64": ("scomplex_val", [1.5, -2.0]),
    "complex128": ("dcomplex_val", [1.5, -2.0]),
    "bool": ("bool_val", [True]),
    "string": ("string_val", [b"\0\xff"]),
    "int8": ("int_val", [-3]),
    "int16": ("int_val", [-300]),
    "int32": ("int_val", [-70000]),
    "uint8": ("int_val", [200]),
    "uint16": ("int_val", [60000]),
    "int64": ("int64_val", [-(2**40)]),
    "uint32": ("uint32_val", [2**32 - 1]),
    "uint64": ("uint64_val", [2**64 - 1]),
}
assert set(FIELDS) == set(ECHOED)


def echo(server, name, shape, **values):
    proto = tensor(tf.dtypes.as_dtype(name).as_datatype_enum, shape, **values)
    return server.predict("kinds", {"x": proto}, f"echo_{name}").outputs["y"]


@pytest.mark.parametrize("name", FIELDS)
def test_answers_are_in_the_typed_field_of_the_dtype(server, name):
    field, value = FIELDS[name]
    answer = echo(server, name, (1,), **{field: value})
    assert list(getattr(answer, field)) == value
    assert answer.dtype == tf.dtypes.as_dtype(name).as_datatype_enum
    assert not answer.tensor_content


@pytest.mark.parametrize("name", FIELDS)
def test_values_shorter_than_the_shape_repeat_the_last(server, name):
    field, value = FIELDS[name]
    assert list(getattr(echo(server, name, (3, 1), **{field: value}), field)) == value * 3


@pytest.mark.parametrize("name", FIELDS)
def test_no_values_mean_zeros(server, name):
    field, value = FIELDS[name]
    assert list(getattr(echo(server, name, (2,)), field)) == [type(value[0])()] * 2 * len(value)


@pytest.mark.parametrize("name", FIELDS)
def test_values_longer_than_the_shape_are_cut(server, name):
    field, value = FIELDS[name]
    assert list(getattr(echo(server, name, (2,), **{field: value * 5}), field)) == value * 2


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "string"])
def test_tensor_content_is_read_and_goes_before_values(server, name):
    field, value = FIELDS[name]
    dtype = tf.dtypes.as_dtype(name).as_numpy_dtype
    answer = echo(server, name, (2,), tensor_content=np.array([1, 1], dtype).tobytes(), **{field: value})
    np.testing.assert_array_equal(tf.make_ndarray(answer), np.array([1, 1], dtype))


@pytest.mark.parametrize("text", [b"plain", b"zero\0inside\0", b"\0", b"\xff\xfe not utf-8", b""])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1)], ids=str)
def test_strings_are_bytes(server, text, shape):
    answer = echo(server, "string", shape, string_val=[text])
    assert set(answer.string_val) == {text}
    assert tf.make_ndarray(answer).shape == shape


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)], ids=str)
def test_rank_0_and_empty_tensors(server, name, shape):
    field, value = FIELDS[name]
    answer = echo(server, name, shape, **{field: value})
    assert answer.HasField("tensor_shape")
    assert tuple(side.size for side in answer.tensor_shape.dim) == shape
    assert list(getattr(answer, field)) == (value if shape == () else [])


def test_scalar_output(server):
    answer = server.predict("kinds", {"x": [1.0, 2.0]}, "total").outputs["total"]
    assert (list(answer.float_val), len(answer.tensor_shape.dim)) == ([3.0], 0)


@pytest.mark.parametrize(
    ("outputs", "answered"), [((), ["y", "z"]), (("z",), ["z"]), (("z", "y"), ["y", "z"])], ids=str
)
def test_output_filter_and_all_outputs_without_one(server, outputs, answered):
    assert sorted(server.predict("kinds", {"x": X}, outputs=outputs).outputs) == answered


def test_special_numbers_survive(server):
    values = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45])
    answer = np.float32(echo(server, "float32", (5,), float_val=values).float_val)
    np.testing.assert_array_equal(answer.view(np.uint32)[1:], values.view(np.uint32)[1:])
    assert np.isnan(answer[0])


def test_raw_bytes_where_the_flag_asks_for_them(batched):
    answer = batched.predict("unbatched", {"x": [[1.0, 2.0]]}).outputs["y"]
    assert not answer.float_val
    assert answer.tensor_content == np.float32([2.0, 4.0]).tobytes()
