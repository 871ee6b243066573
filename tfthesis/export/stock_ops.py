"""Which ops a stock TensorFlow Serving binary has, and whether a SavedModel needs others.

Such a binary links TensorFlow's CPU kernels and those of tensorflow-text, and nothing can be added while it
runs. `stock_ops.json` lists both. After a change of version, write it again with

    python -m tfthesis.export.stock_ops
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

LISTS = Path(__file__).with_suffix(".json")

# Kernels that only exist where a Python interpreter runs.
_PYTHON_ONLY = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def stock_ops() -> set[str]:
    """Return the names of the ops that a stock TensorFlow Serving binary can run."""
    return {name for part in json.loads(LISTS.read_text(encoding="utf-8")).values() for name in part["ops"]}


def graph_ops(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield op and node name of every node of the SavedModel in `folder`, those of its functions included."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        functions = {function.signature.name for function in graph.library.function}
        nodes = [graph.node, *(function.node_def for function in graph.library.function)]
        for node in itertools.chain.from_iterable(nodes):
            # A node may call a function of the graph by its name.
            if node.op not in functions:
                yield node.op, node.name


def ops_beyond_stock(folder: Path) -> dict[str, str]:
    """Return the ops that the SavedModel in `folder` uses and stock TensorFlow Serving lacks, each with a node."""
    known = stock_ops()
    beyond: dict[str, str] = {}
    for op, node in graph_ops(folder):
        if op not in known:
            beyond.setdefault(op, node)
    return beyond


def _registered() -> set[str]:
    """Return the ops of this process that have a kernel for the CPU or for any device."""
    from tensorflow.python.framework import kernels

    usable = kernels.get_all_registered_kernels().kernel
    return {kernel.op for kernel in usable if kernel.device_type in ("CPU", "DEFAULT")}


def write_lists() -> None:
    """Write `stock_ops.json` from the installed packages, in a process that has loaded no other ops.

    TensorFlow's are those of `tf.raw_ops`; its remaining kernels serve tests and devices. What importing
    tensorflow-text adds is its own.
    """
    core = _registered()
    import tensorflow_text  # noqa: F401

    text = _registered() - core
    parts = {"tensorflow": (core & set(dir(tf.raw_ops))) - _PYTHON_ONLY, "tensorflow-text": text}
    lists = {name: {"version": importlib.metadata.version(name), "ops": sorted(ops)} for name, ops in parts.items()}
    LISTS.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_lists()
