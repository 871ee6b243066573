"""Encoders inside SavedModels, run as TensorFlow Serving runs them: a TF1 session and core operations."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.encoders import torch_files
from tests.encoders.test_mean_word_vectors import VECTORS, WORDS
from tests.encoders.test_open_encoder import png
from tests.encoders.test_word_vectors import write_arrays
from tests.layers.test_bi_lstm_max import torch_arrays
from tfthesis.encoders import open_encoder
from tfthesis.encoders.efficientnet_lite import efficientnet_lite
from tfthesis.encoders.fitted import open_fitted

TEXTS = [b"The dog runs.", b"", b"unknown", "naïve 日本".encode(), b"bad \xff bytes"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(7)
    network = efficientnet_lite("efficientnet_lite0")
    arrays = {f"{layer.name}/{variable.name}": variable for layer in network.layers for variable in layer.weights}
    np.savez(folder / "w.npz", **{name: variable.numpy() for name, variable in arrays.items()})
    vectors = write_arrays(folder / "v.npy", VECTORS, WORDS)
    lstm = torch_files.write_state(folder / "lstm.pkl", torch_arrays(width=VECTORS.shape[1]))
    captions = ["the dog", "us runs", "naïve 日本", "the dog runs", "dog us"]
    return {
        "lite": open_encoder("efficientnet_lite0", folder / "w.npz"),
        "hashed": open_encoder("hashed_words"),
        "words": open_encoder("word_vectors", vectors),
        "lstm": open_encoder("bilstm_max", lstm, word_vectors=vectors),
        "rows": open_encoder("word_rows", word_vectors=vectors),
        "hglmm": open_fitted("hglmm", captions, vectors, options={"centres": 2}, cache=folder),
    }


def endpoint(encoder):
    return tf.function(
        lambda raw: {"feature": encoder(raw)}, input_signature=[tf.TensorSpec([None], tf.string, name="raw")]
    )


def as_raw_trackables(encoders, folder):
    module = tf.Module()
    module.tracked = [resource for encoder in encoders.values() for resource in encoder.trackables()]
    signatures = {name: endpoint(encoder) for name, encoder in encoders.items()}
    tf.saved_model.save(module, folder, signatures=signatures)


def as_attributes(encoders, folder):
    module = tf.Module()
    module.encoders = list(encoders.values())
    tf.saved_model.save(module, folder, signatures={name: endpoint(encoder) for name, encoder in encoders.items()})


def as_archive(encoders, folder):
    archive = keras.export.ExportArchive()
    for name, encoder in encoders.items():
        archive.track(encoder)
        archive.add_endpoint(name, endpoint(encoder))
    archive.write_out(folder, verbose=False)


@pytest.mark.parametrize("save", [as_raw_trackables, as_attributes, as_archive])
def test_features_from_a_session_equal_the_encoders(tmp_path, encoders, save):
    save(encoders, str(tmp_path / "model"))
    images = [png((200, 30, 90)), png((10, 30, 250), (300, 200))]
    raw = {name: images if encoder.modality == "image" else TEXTS for name, encoder in encoders.items()}
    expected = {name: encoder(tf.constant(raw[name])).numpy() for name, encoder in encoders.items()}
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        for name, encoder in encoders.items():
            signature = loaded.signature_def[name]
            (feed,) = [tensor.name for tensor in signature.inputs.values()]
            fetch = signature.outputs["feature"].name
            np.testing.assert_allclose(session.run(fetch, {feed: raw[name]}), expected[name], atol=1e-5)
            assert session.run(fetch, {feed: np.array([], object)}).shape == (0, encoder.dimension)


def test_only_core_operations(encoders):
    """Nothing that a server without further libraries lacks: no operation comes from a loaded library."""
    for name, encoder in encoders.items():
        graph = endpoint(encoder).get_concrete_function().graph
        definition = graph.as_graph_def()
        nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
        found = {node.op for node in nodes} - {function.signature.name for function in definition.library.function}
        assert not found & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}, name
        for op in found:
            assert getattr(tf.raw_ops, op, None) is not None, (name, op)
