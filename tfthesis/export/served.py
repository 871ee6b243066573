"""Served functions: checked, traced, and the objects whose variables they use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.method import Served, Signature

DEFAULT_SIGNATURE = "serving_default"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)


def check_served(served: Served) -> dict[str, dict[str, np.ndarray]]:
    """Return the examples of all signatures as arrays of the declared types.

    Raises:
        UserError: there is no signature, a name is none that every client can spell, or an example does not
            fit its inputs.
    """
    if not served.signatures:
        raise UserError("signatures: there are none to export")
    for name in served.signatures:
        _check_name(name, "signature")
    return {name: _example(name, signature) for name, signature in served.signatures.items()}


def _check_name(name: Any, what: str) -> None:
    # TensorFlow rewrites other characters silently; "self" is taken by its own calling convention.
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "self":
        raise UserError(
            f"{what}: expected a name of up to 100 letters, digits or '_', the first a letter, not 'self'; got {name!r}"
        )


def _example(name: str, signature: Signature) -> dict[str, np.ndarray]:
    if not signature.inputs or set(signature.inputs) != set(signature.example):
        raise UserError(
            f"signature {name!r}: expected an example of each of its inputs {sorted(signature.inputs)}, "
            f"got {sorted(signature.example)}"
        )
    arrays = {}
    for field, spec in signature.inputs.items():
        _check_name(field, f"input of signature {name!r}")
        try:
            array = np.asarray(signature.example[field], spec.dtype.as_numpy_dtype)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"signature {name!r}: the example of {field!r} is not {spec.dtype.name}: {error}"
            ) from error
        if not spec.shape.is_compatible_with(array.shape):
            raise UserError(
                f"signature {name!r}: the example of {field!r} has shape {list(array.shape)}, declared is {spec.shape}"
            )
        arrays[field] = array
    return arrays


def trace(name: str, signature: Signature) -> Any:
    """Return the concrete function of a signature.

    Raises:
        UserError: it does not return a dict of dense tensors with plain names.
    """

    def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = signature.function(**inputs)
        if not isinstance(outputs, Mapping) or not outputs:
            raise UserError(f"signature {name!r}: expected a dict of tensors as its result, got {outputs!r}")
        for field, value in outputs.items():
            _check_name(field, f"output of signature {name!r}")
            if not isinstance(value, tf.Tensor | tf.Variable):
                raise UserError(f"signature {name!r}: expected a tensor as output {field!r}, got {value!r}")
        return dict(outputs)

    specs = {field: tf.TensorSpec(spec.shape, spec.dtype, name=field) for field, spec in signature.inputs.items()}
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def tracking(trackables: Iterable[Any]) -> tf.Module:
    """Return a module that owns the variables, tables and assets of `trackables`.

    Keras layers are represented by their raw variables: a Session cannot initialise a layer that a module
    tracks as such. Encoders stand for what they list themselves.

    Raises:
        UserError: an object of another kind is among them.
    """
    root = tf.Module()
    root.parts, root.raw = [], []
    pending, seen = list(trackables), set()
    while pending:
        part = pending.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, keras.layers.Layer):
            root.raw.extend(variable.value for variable in part.variables)
        elif isinstance(part, keras.Variable):
            root.raw.append(part.value)
        elif hasattr(part, "trackables"):
            pending.extend(part.trackables())
        elif isinstance(part, tf.__internal__.tracking.Trackable):
            root.parts.append(part)
            if isinstance(part, tf.Module):
                pending.extend(_keras_parts(part))
        else:
            raise UserError(
                f"trackables: expected Keras layers, tf.Modules, variables or tables, got {type(part).__name__}"
            )
    return root


def _keras_parts(module: tf.Module) -> list[Any]:
    """Return the Keras layers and variables that a module holds as attributes, also in lists and dicts."""
    pending: list[Any] = [vars(owner) for owner in (module, *module.submodules)]
    found = []
    while pending:
        value = pending.pop()
        if isinstance(value, keras.layers.Layer | keras.Variable):
            found.append(value)
        elif isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
    return found


def describe(served: Served, functions: Mapping[str, Any]) -> dict[str, Any]:
    """Return help, inputs and outputs of each signature as JSON values; an open axis is null."""
    return {
        name: {
            "help": signature.help,
            "inputs": {field: _describe(spec) for field, spec in signature.inputs.items()},
            "outputs": {field: _describe(spec) for field, spec in functions[name].structured_outputs.items()},
        }
        for name, signature in served.signatures.items()
    }


def _describe(spec: Any) -> dict[str, Any]:
    shape = None if spec.shape.rank is None else spec.shape.as_list()
    return {"dtype": spec.dtype.name, "shape": shape}
