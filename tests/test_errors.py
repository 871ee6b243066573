"""What errors say."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tfthesis.errors import operation_message


def assertion(side):
    check = tf.debugging.Assert(side > 2, ["side: expected above 2, got", side, "of", tf.stack([side, 7])])
    with tf.control_dependencies([check]):
        return tf.identity(side)


def inner(side):
    return tf.map_fn(lambda one: assertion(one[0]), side[None, None])


@pytest.mark.parametrize("function", [assertion, inner])
def test_an_assertion_is_its_texts_and_values(function):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(function)(tf.constant(1))
    for message in (str(caught.value), caught.value.message):
        assert "node" in message
        assert operation_message(message) == "side: expected above 2, got [1] of [1 7]"


@pytest.mark.parametrize("call", [tf.io.decode_png, tf.function(tf.io.decode_png)])
def test_other_operations_keep_their_own_words(call):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        call(tf.constant(b"\x89PNG\r\n\x1a\n"))
    assert "DecodePng" in str(caught.value)
    assert operation_message(str(caught.value)) == "Invalid PNG. Failed to initialize decoder."


@pytest.mark.parametrize("text", ["index: expected 3 rows [3 2], got 4", "text: {{name}} is no word"])
def test_a_message_without_operations_stays(text):
    assert operation_message(text) == text
