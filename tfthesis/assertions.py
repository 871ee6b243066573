"""Assertions in functions that run both in graphs and outside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfthesis.lazy import tf

if TYPE_CHECKING:
    import tensorflow as tf


def after(*assertions: tf.Operation | None) -> Any:
    """Return a context in which operations of a graph wait for `assertions`, as `tf.debugging.Assert` returns them.

    Outside of graphs these are None, and have raised already.
    """
    return tf.control_dependencies([assertion for assertion in assertions if assertion is not None])
