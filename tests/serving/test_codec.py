"""The codec against TensorFlow's own `make_ndarray` and `make_tensor_proto`."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.codec import MalformedTensorError, TensorTooLargeError, decode, encode

LIMIT = 2**20
DTYPES = [
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
STRINGS = hnp.arrays(object, SHAPES, elements=st.binary(max_size=9), fill=st.nothing())


def encoded(array: np.ndarray, **options: bool) -> tensor_pb2.TensorProto:
    """The proto after a trip over the wire."""
    proto = tensor_pb2.TensorProto()
    encode(array, proto, **options)
    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


def assert_same(got: np.ndarray, expected: np.ndarray):
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@given(NUMBERS, st.booleans())
def test_tensorflow_reads_what_is_encoded(array, as_content):
    proto = encoded(array, as_content=as_content)
    assert bool(proto.tensor_content) == (as_content and array.size > 0)
    assert_same(tf.make_ndarray(proto), array)


@given(NUMBERS)
def test_what_tensorflow_encodes_is_read(array):
    assert_same(decode(tf.make_tensor_proto(array), LIMIT), array)


@given(NUMBERS)
def test_typed_values_are_read(array):
    assert_same(decode(encoded(array), LIMIT), array)


@given(STRINGS)
def test_strings_keep_every_byte(array):
    assert_same(tf.make_ndarray(encoded(array)), array)
    assert_same(decode(encoded(array), LIMIT), array)


@pytest.mark.parametrize("as_content", [False, True])
def test_bfloat16(as_content):
    array = np.array([1.5, -2.0, np.nan], tf.bfloat16.as_numpy_dtype)
    proto = encoded(array, as_content=as_content)
    assert_same(tf.make_ndarray(proto).view(np.uint16), array.view(np.uint16))
    assert_same(decode(proto, LIMIT).view(np.uint16), array.view(np.uint16))


def test_array_that_is_not_contiguous():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    assert_same(decode(encoded(array), LIMIT), array)


@pytest.mark.parametrize(
    ("dtype", "field", "values", "expected"),
    [
        (types_pb2.DT_FLOAT, "float_val", [1.0, 2.0], [1, 2, 2, 2]),
        (types_pb2.DT_FLOAT, "float_val", [], [0, 0, 0, 0]),
        (types_pb2.DT_FLOAT, "float_val", [1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 3, 4]),
        (types_pb2.DT_INT8, "int_val", [1, 300], [1, 44, 44, 44]),
        (types_pb2.DT_BOOL, "bool_val", [False, True], [False, True, True, True]),
        (types_pb2.DT_HALF, "half_val", [0x3C00, 0x4000], [1, 2, 2, 2]),
        (types_pb2.DT_COMPLEX64, "scomplex_val", [1.0, 2.0, 3.0, 4.0], [1 + 2j, 3 + 4j, 3 + 4j, 3 + 4j]),
        (types_pb2.DT_STRING, "string_val", [b"a", b"b"], [b"a", b"b", b"b", b"b"]),
        (types_pb2.DT_STRING, "string_val", [], [b"", b"", b"", b""]),
    ],
)
def test_values_fill_the_shape_by_the_repeat_rule(dtype, field, values, expected):
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": 4}]}, **{field: values})
    assert decode(proto, LIMIT).tolist() == expected


def test_strings_in_tensor_content_are_lengths_and_bytes():
    long = b"x" * 200
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape={"dim": [{"size": 3}]},
        tensor_content=b"\x02\x00\xc8\x01" + b"ab" + long,
    )
    assert decode(proto, LIMIT).tolist() == [b"ab", b"", long]


MALFORMED = {
    "no dtype": dict(dtype=types_pb2.DT_INVALID),
    "resource": dict(dtype=types_pb2.DT_RESOURCE),
    "unknown dtype": dict(dtype=12345),
    "negative side": dict(tensor_shape={"dim": [{"size": -1}]}),
    "unknown rank": dict(tensor_shape={"unknown_rank": True}),
    "too many sides": dict(tensor_shape={"dim": [{"size": 1}] * 65}),
    "sides beyond 64 bits": dict(tensor_shape={"dim": [{"size": 0}, {"size": 2**62}, {"size": 2**62}]}),
    "short content": dict(tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"1234"),
    "long content": dict(tensor_content=b"12345"),
    "cut lengths": dict(dtype=types_pb2.DT_STRING, tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"\x01"),
    "cut strings": dict(dtype=types_pb2.DT_STRING, tensor_content=b"\x05ab"),
    "endless length": dict(dtype=types_pb2.DT_STRING, tensor_content=b"\xff" * 9),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_tensor_is_refused(fault):
    with pytest.raises(MalformedTensorError):
        decode(tensor_pb2.TensorProto(**{"dtype": types_pb2.DT_FLOAT, **MALFORMED[fault]}), LIMIT)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (types_pb2.DT_FLOAT, {"float_val": [1.0]}),
        (types_pb2.DT_STRING, {"string_val": [b""]}),
        (types_pb2.DT_STRING, {}),
    ],
)
def test_tensor_that_unpacks_to_too_much_is_refused_before_memory_is_taken(dtype, values):
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": 2**40}]}, **values)
    with pytest.raises(TensorTooLargeError):
        decode(proto, LIMIT)


def test_repeated_long_string_counts_each_time():
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape={"dim": [{"size": 1000}]}, string_val=[b"x" * 10_000]
    )
    with pytest.raises(TensorTooLargeError):
        decode(proto, LIMIT)


def test_dtype_that_cannot_be_sent_is_refused():
    with pytest.raises(MalformedTensorError):
        encode(np.zeros(1, "datetime64[s]"), tensor_pb2.TensorProto())
