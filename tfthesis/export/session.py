"""A SavedModel in a TensorFlow 1 Session, the way TensorFlow Serving runs it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef


class SessionModel:
    """The signatures of a loaded SavedModel as callables on arrays; see `open_session`."""

    def __init__(self, session: tf.compat.v1.Session, signatures: Mapping[str, SignatureDef]):
        self._session = session
        self._signatures = signatures

    def callable(self, signature: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        """Return a signature as a function from inputs to outputs by name; strings come as arrays of bytes."""
        definition = self._signatures[signature]
        inputs = {name: info.name for name, info in definition.inputs.items()}
        outputs = {name: info.name for name, info in definition.outputs.items()}
        run = self._session.make_callable(list(outputs.values()), list(inputs.values()))

        def call(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return dict(zip(outputs, run(*(arrays[name] for name in inputs)), strict=True))

        return call


@contextlib.contextmanager
def open_session(folder: str | Path) -> Iterator[SessionModel]:
    """Load the SavedModel in `folder` and yield it as a `SessionModel`."""
    graph = tf.Graph()
    with contextlib.closing(tf.compat.v1.Session(graph=graph)) as session:
        with graph.as_default(), _without_deprecation_notice():
            loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        yield SessionModel(session, loaded.signature_def)


@contextlib.contextmanager
def _without_deprecation_notice() -> Iterator[None]:
    """Hold back TensorFlow's advice to load into a program instead: here the Session is the point."""

    def keep(record: logging.LogRecord) -> bool:
        return "loader_impl) is deprecated" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
