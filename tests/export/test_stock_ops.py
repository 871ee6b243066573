"""The committed lists of ops, and graphs that use others."""

import importlib.metadata
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfthesis.errors import UserError
from tfthesis.export import stock_ops
from tfthesis.export.saved_model import write_saved_model
from tfthesis.method import Served, Signature


def save(folder, function):
    module = tf.Module()
    module.call = tf.function(function, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(folder), signatures=module.call)
    return folder


def test_what_exports_use_is_known_and_what_needs_python_is_not():
    known = stock_ops.stock_ops()
    assert {"MatMul", "TopKV2", "DecodeImage", "ResourceGather", "If", "LookupTableFindV2", "CaseFoldUTF8"} <= known
    assert {"TFText>WhitespaceTokenizeWithOffsetsV2", "StatefulPartitionedCall"} <= known
    assert not known & {"PyFunc", "EagerPyFunc", "XlaLaunch", "Scann>ScannSearchBatched", "TPUExecute"}


@pytest.mark.filterwarnings("ignore")
def test_an_op_inside_nested_functions_is_found(tmp_path):
    inner = tf.function(lambda x: tf.py_function(np.abs, [x], tf.float32))
    beyond = stock_ops.ops_beyond_stock(save(tmp_path, lambda x: {"y": tf.map_fn(lambda row: inner(row[None])[0], x)}))
    assert list(beyond) == ["EagerPyFunc"]


def test_plain_graphs_need_nothing_else(tmp_path):
    assert (
        stock_ops.ops_beyond_stock(save(tmp_path, lambda x: {"y": tf.cond(tf.size(x) > 1, lambda: x, lambda: -x)}))
        == {}
    )


def test_the_first_offender_is_named(tmp_path):
    take = Signature(
        lambda x: {"y": tf.ensure_shape(tf.numpy_function(np.abs, [x], tf.float32), [None])},
        {"x": tf.TensorSpec([None])}, {"x": [1.0]}, "",
    )  # fmt: skip
    with pytest.raises(UserError, match="m: a stock TensorFlow Serving lacks the op 'PyFunc' of node 'PyFunc'"):
        write_saved_model(Served({"take": take}, []), tmp_path / "m", metadata={}, stock_only=True)


def test_the_lists_are_of_the_installed_versions():
    lists = json.loads(stock_ops.LISTS.read_text())
    assert {name: part["version"] for name, part in lists.items()} == {
        name: importlib.metadata.version(name) for name in ("tensorflow", "tensorflow-text")
    }, "run: python -m tfthesis.export.stock_ops"


@pytest.mark.slow
def test_the_lists_are_those_of_the_installed_packages(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from tfthesis.export import stock_ops\n"
        "stock_ops.LISTS = pathlib.Path(sys.argv[1])\n"
        "stock_ops.write_lists()\n"
    )
    written = tmp_path / "lists.json"
    subprocess.run([sys.executable, "-c", script, str(written)], check=True, timeout=120, env=os.environ)
    assert json.loads(written.read_text()) == json.loads(stock_ops.LISTS.read_text())
