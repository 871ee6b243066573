"""One signature of a loaded SavedModel: what it takes, what it gives, and how it is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session

from serving.codec import MalformedTensorError, TensorTooLargeError, decode
from serving.errors import exhausted, from_tensorflow, invalid

DEFAULT_SIGNATURE = "serving_default"


class Signature:
    """A function of a SavedModel, run in its Session.

    Attributes:
        name: key in the SavedModel.
        inputs: dtype of each input by its alias.
        outputs: aliases of the outputs.
    """

    def __init__(
        self, name: str, definition: meta_graph_pb2.SignatureDef, session: tf.compat.v1.Session, max_bytes: int
    ):
        """Look up the tensors of `definition`; `max_bytes` limits each input tensor.

        Raises:
            KeyError, ValueError: the graph has no such tensor.
        """
        tensor = session.graph.get_tensor_by_name
        self._inputs = {alias: tensor(info.name) for alias, info in definition.inputs.items()}
        self._outputs = {alias: tensor(info.name) for alias, info in definition.outputs.items()}
        self._defaults = {alias: decode(proto, max_bytes) for alias, proto in definition.defaults.items()}
        self._session = session
        self._max_bytes = max_bytes
        self.name = name
        self.inputs = {alias: value.dtype for alias, value in self._inputs.items()}
        self.outputs = tuple(self._outputs)

    def read_inputs(self, protos: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
        """Return the arrays of a request's tensors, defaults filled in.

        Raises:
            ServingError: inputs are missing, unknown, malformed or too large.
        """
        self._check_names(set(protos))
        arrays = {}
        for alias in self._inputs:
            if alias not in protos:
                arrays[alias] = self._defaults[alias]
                continue
            try:
                arrays[alias] = decode(protos[alias], self._max_bytes)
            except MalformedTensorError as error:
                raise invalid(f"tensor parsing error: {alias}: {error}") from error
            except TensorTooLargeError as error:
                raise exhausted(f"input {alias!r}: {error}") from error
        return arrays

    def complete(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `arrays` by alias with defaults filled in.

        Raises:
            ServingError: inputs are missing or unknown.
        """
        self._check_names(set(arrays))
        return {alias: arrays[alias] if alias in arrays else self._defaults[alias] for alias in self._inputs}

    def _check_names(self, sent: set[str]) -> None:
        known = set(self._inputs)
        extra, missing = sent - known, known - sent - set(self._defaults)
        if not extra and not missing:
            return
        if len(sent) == len(known) and missing:
            raise invalid(
                f"Signature input alias: {min(missing)} not found in request and no default value provided. "
                f"Inputs expected to be in the set {_braces(known)}."
            )
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({_braces(sent)}) != "
            f"len({_braces(known)}). Sent extra: {_braces(extra)}. Missing but required: {_braces(missing)}."
        )

    def choose_outputs(self, wanted: Sequence[str]) -> Sequence[str]:
        """Return the aliases to compute: all of them if `wanted` is empty.

        Raises:
            ServingError: an alias is unknown or named twice.
        """
        seen = set()
        for alias in wanted:
            if alias not in self._outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} "
                    f"Outputs expected to be in the set {_braces(self.outputs)}."
                )
            if alias in seen:
                raise invalid(f"duplicate output tensor alias: {alias}")
            seen.add(alias)
        return wanted or self.outputs

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None = None
    ) -> list[np.ndarray]:
        """Return the arrays of the `outputs` aliases; after `timeout` seconds the run is cancelled.

        Raises:
            ServingError: with the code and message of the operation that failed.
        """
        feeds = {self._inputs[alias]._as_tf_output(): array for alias, array in inputs.items()}
        fetches = [self._outputs[alias]._as_tf_output() for alias in outputs]
        try:
            results = self._run(feeds, fetches, timeout)
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from error
        return [_as_array(result) for result in results]

    def _run(self, feeds: dict, fetches: list, timeout: float | None) -> list:
        # What Session.run does below its argument checks. Those checks cost more than a small model, refuse
        # shapes that TensorFlow Serving lets through, and silently convert dtypes that it refuses. A callable
        # of the Session would be as fast, but its timeout is fixed when it is made.
        if timeout is None:
            return self._session._call_tf_sessionrun(None, feeds, fetches, [], None)
        milliseconds = max(1, int(timeout * 1000))
        options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
        buffer = pywrap_tf_session.TF_NewBufferFromString(options)
        try:
            return self._session._call_tf_sessionrun(buffer, feeds, fetches, [], None)
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)


def read_signatures(
    definitions: Mapping[str, meta_graph_pb2.SignatureDef], session: tf.compat.v1.Session, max_bytes: int
) -> dict[str, Signature]:
    """Return the signatures that can be called; those over operations or sparse tensors are left out."""
    signatures = {}
    for name, definition in definitions.items():
        infos = [*definition.inputs.values(), *definition.outputs.values()]
        if all(":" in info.name for info in infos):
            signatures[name] = Signature(name, definition, session, max_bytes)
    return signatures


def _as_array(value: object) -> np.ndarray:
    # A Session returns a string of rank 0 as bytes, and numpy would cut its trailing zero bytes.
    return np.array(value, np.object_) if isinstance(value, bytes) else np.asarray(value)


def _braces(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
