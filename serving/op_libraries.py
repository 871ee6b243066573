"""Operations that TensorFlow does not bring along, and the packages that register them when imported."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from serving.errors import ServingError, not_found

# Beginnings of the names of each package's operations.
_LIBRARIES = {
    "scann": ("Scann>",),
    "tensorflow_text": (
        "TFText>",
        "CaseFoldUTF8",
        "ConstrainedSequence",
        "FastBertNormalize",
        "FastWordpiece",
        "FindSourceOffsets",
        "MaxSpanningTree",
        "NormalizeUTF8",
        "PhraseTokenize",
        "RegexSplitWithOffsets",
        "RougeL",
        "SentenceFragments",
        "Sentencepiece",
        "SplitMergeTokenize",
        "TokenizerFromLogits",
        "UnicodeScriptTokenize",
        "WhitespaceTokenize",
        "Wordpiece",
    ),
}
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")


def import_for(path: Path) -> None:
    """Import the packages that register the operations of the SavedModel in `path`.

    Raises:
        ServingError: NOT_FOUND, a package is not installed; the message names it and the operation.
        OSError: the file cannot be read.
    """
    operations = operations_of(path)
    for module, beginnings in _LIBRARIES.items():
        needed = sorted(name for name in operations if name.startswith(beginnings))
        if not needed:
            continue
        try:
            importlib.import_module(module)
        except (ImportError, tf.errors.OpError) as error:
            raise not_found(f"the operation {needed[0]!r} needs the package {module}: {error}") from error


def operations_of(path: Path) -> set[str]:
    """Return the names of all operations in the SavedModel in `path`, those of its functions included.

    Without a binary `saved_model.pb` the set is empty; loading then tells what is wrong.
    """
    file = path / "saved_model.pb"
    if not file.is_file():
        return set()
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise OSError(f"{file} is not a SavedModel: {error}") from error
    graphs = [meta_graph.graph_def for meta_graph in model.meta_graphs]
    nodes = (node for graph in graphs for node in graph.node)
    inner = (node for graph in graphs for function in graph.library.function for node in function.node_def)
    return {node.op for group in (nodes, inner) for node in group}


def explain(error: tf.errors.OpError) -> ServingError | None:
    """Return what to do about an operation that nobody registered; None for any other error."""
    match = _UNREGISTERED.search(error.message)
    if match is None:
        return None
    return not_found(
        f"Op type not registered '{match[1]}': the package that brings this operation is not imported here. "
        "Start the server with --import_module PACKAGE, once it is installed, or with --op_library FILE."
    )


def load_libraries(files: Iterable[Path]) -> None:
    """Register the operations of shared libraries named by the user.

    Raises:
        OSError: one of them does not load.
    """
    for file in files:
        try:
            tf.load_op_library(str(file))
        except (tf.errors.OpError, RuntimeError) as error:
            raise OSError(f"{file}: {error}") from error


def import_modules(names: Iterable[str]) -> None:
    """Import the packages named by the user.

    Raises:
        ImportError: one of them does not import.
    """
    for name in names:
        importlib.import_module(name)
