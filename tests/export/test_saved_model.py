"""Exports in a Session as TensorFlow Serving opens them, and what happens when one cannot be written."""

import concurrent.futures
import dataclasses
import errno
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.export import toy
from tfthesis.errors import UserError
from tfthesis.export import publish as publishing
from tfthesis.export import saved_model
from tfthesis.export.manifest import verify_export
from tfthesis.export.parity import ParityError
from tfthesis.export.saved_model import write_saved_model
from tfthesis.export.session import open_session
from tfthesis.method import Served, Signature
from tfthesis.retrieval.scann_neighbours import ScannNeighbours


@pytest.fixture(scope="module")
def served():
    keras.utils.set_random_seed(0)
    return toy.build_served()


@pytest.fixture(scope="module")
def exported(served, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "toy"
    return write_saved_model(served, target, metadata={"recipe": {"a": 1}, "model_card": "# Käse"}, stock_only=True)


def small(**change):
    signature = Signature(
        lambda x: {"y": 2 * x}, {"x": tf.TensorSpec([None], name="x")}, {"x": np.ones(3)}, "double", **change
    )
    return Served({"double": signature}, [])


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_session_answers_like_the_functions(served, exported):
    assert exported.name == "1"
    with open_session(exported) as model:
        for name, signature in served.signatures.items():
            inputs = {key: tf.convert_to_tensor(value, signature.inputs[key].dtype)
                      for key, value in signature.example.items()}  # fmt: skip
            expected = signature.function(**inputs)
            found = model.callable(name)({key: value.numpy() for key, value in inputs.items()})
            assert set(found) == set(expected)
            for key, value in expected.items():
                if value.dtype == tf.string:
                    np.testing.assert_array_equal(found[key], value.numpy())
                else:
                    np.testing.assert_allclose(found[key], value.numpy(), rtol=1e-4, atol=1e-4)
        other = np.full([5, toy.WIDTH], 0.3, np.float32)
        default = model.callable("serving_default")({"features": other})
        np.testing.assert_array_equal(default["embedding"], model.callable("encode")({"features": other})["embedding"])


def test_manifest_describes_the_export(exported):
    manifest = verify_export(exported)
    assert manifest["signatures"]["pair"] == {
        "help": "add both",
        "inputs": {
            "features": {"dtype": "float32", "shape": [None, toy.WIDTH]},
            "text": {"dtype": "string", "shape": [None]},
        },
        "outputs": {
            "sum": {"dtype": "float32", "shape": [None, toy.WIDTH]},
            "count": {"dtype": "int32", "shape": []},
        },
    }
    assert manifest["default_signature"] == "encode"
    assert manifest["metadata"] == {"recipe": {"a": 1}}
    assert manifest["ops_beyond_stock"] == {}
    assert manifest["versions"]["tensorflow"] == tf.__version__
    assert set(manifest["versions"]) == {"tensorflow", "keras", "tensorflow-text", "scann"}
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/model_card.md"} <= set(manifest["files"])
    assert (exported / "assets.extra/model_card.md").read_text(encoding="utf-8") == "# Käse"


def test_warmup_records_are_the_examples(served, exported):
    records = tf.data.TFRecordDataset(str(exported / "assets.extra/tf_serving_warmup_requests"))
    requests = [prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    assert [request.model_spec.signature_name for request in requests] == list(served.signatures)
    assert {request.model_spec.name for request in requests} == {"toy"}
    assert tf.make_ndarray(requests[2].inputs["text"]).tolist() == ["käse".encode()]
    assert tf.make_ndarray(requests[0].inputs["features"]).dtype == np.float32


def test_an_export_is_readable_like_any_new_file(exported):
    umask = os.umask(0)
    os.umask(umask)
    assert exported.stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_own_serving_default_is_kept(tmp_path):
    served = small()
    served.signatures["serving_default"] = dataclasses.replace(
        served.signatures["double"], function=lambda x: {"z": x + 1}
    )
    path = write_saved_model(served, tmp_path / "m", metadata={})
    with open_session(path) as model:
        assert model.callable("serving_default")({"x": [1.0]})["z"].tolist() == [2.0]
    assert verify_export(path)["default_signature"] == "serving_default"


def test_versions_follow_the_highest_number(tmp_path):
    target = tmp_path / "m"
    (target / "00000007").mkdir(parents=True)
    (target / "best").mkdir()
    assert write_saved_model(small(), target, metadata={}).name == "8"
    assert write_saved_model(small(), target, metadata={}, version=20).name == "20"
    for taken in (20, 7):
        with pytest.raises(UserError, match=f"has a version {taken} already"):
            write_saved_model(small(), target, metadata={}, version=taken)
    for unfit in (0, -1, 2**63, "3", True, 1.5):
        with pytest.raises(UserError, match="version: expected an integer"):
            write_saved_model(small(), target, metadata={}, version=unfit)
    assert sorted(path.name for path in target.iterdir()) == ["00000007", "20", "8", "best"]


def test_exporters_at_the_same_time_get_different_versions(tmp_path):
    def write(number):
        def fill(folder):
            (folder / "number").write_text(str(number))

        return publishing.publish(tmp_path / "m", fill)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(write, range(24)))
    assert sorted(int(path.name) for path in paths) == list(range(1, 25))
    assert [(path / "number").read_text() for path in paths] == [str(number) for number in range(24)]


def test_a_taken_version_is_not_replaced_when_two_race(tmp_path):
    def fill(folder):
        (folder / "mine").touch()
        (tmp_path / "m/5").mkdir()
        (tmp_path / "m/5/theirs").touch()

    with pytest.raises(UserError, match="has a version 5 already"):
        publishing.publish(tmp_path / "m", fill, version=5)
    assert left_in(tmp_path / "m") == ["5", "theirs"]


HOSTILE = ["", ".", "..", "../up", "a/b", "/abs", ".hidden", "12", "1a", "a b", "a\n", "ä", "a\0b", "-x", "x" * 101]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_model_names_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="name of the export"):
        publishing.check_model_name(name)


def test_the_name_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="name of the export"):
        write_saved_model(small(), tmp_path / "7", metadata={})
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a-b", "a b", "a/b", "__saved_model_init_op", "1a", "self", "ä", 3])
@pytest.mark.parametrize("part", ["signature", "input", "output"])
def test_hostile_names_in_signatures_are_refused(name, part, tmp_path):
    names = {"signature": "s", "input": "x", "output": "y", part: name}
    signature = Signature(
        lambda **inputs: {names["output"]: next(iter(inputs.values()))},
        {names["input"]: tf.TensorSpec([None])}, {names["input"]: np.ones(2)}, "",
    )  # fmt: skip
    with pytest.raises(UserError, match=f"{part}.*expected a name"):
        write_saved_model(Served({names["signature"]: signature}, []), tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"example": {}}, "expected an example of each of its inputs"),
        ({"inputs": {}, "example": {}}, "expected an example of each of its inputs"),
        ({"example": {"x": np.ones([2, 2])}}, "has shape \\[2, 2\\], declared is"),
        ({"example": {"x": ["red"]}}, "is not float32"),
        ({"function": lambda x: x}, "expected a dict of tensors"),
        ({"function": lambda x: {}}, "expected a dict of tensors"),
        ({"function": lambda x: {"y": 3}}, "expected a tensor as output 'y'"),
    ],
)
def test_unfit_signatures_are_refused(change, message, tmp_path):
    signature = dataclasses.replace(small().signatures["double"], **change)
    with pytest.raises(UserError, match=message):
        write_saved_model(Served({"double": signature}, []), tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


def test_nothing_to_serve_or_to_track_is_refused(tmp_path):
    with pytest.raises(UserError, match="none to export"):
        write_saved_model(Served({}, []), tmp_path / "m", metadata={})
    with pytest.raises(UserError, match="trackables: expected Keras layers"):
        write_saved_model(Served(small().signatures, [np.ones(3)]), tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


def test_another_answer_after_reloading_aborts(tmp_path, monkeypatch):
    right = saved_model.compare_reloaded

    def altered(folder, examples, expected):
        right(folder, examples, {**expected, "double": {"y": expected["double"]["y"] + np.float32([0, 2e-4, 4e-4])}})

    monkeypatch.setattr(saved_model, "compare_reloaded", altered)
    with pytest.raises(ParityError, match="'double' answers differently after reloading: y differs by up to 0.0004"):
        write_saved_model(small(), tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


def test_a_function_that_does_not_repeat_itself_aborts(tmp_path):
    calls = tf.Variable(0.0)
    served = small()
    served.signatures["double"].function = lambda x: {"y": x + calls.assign_add(1.0)}
    served.trackables.append(calls)
    with pytest.raises(ParityError, match="'double'"):
        write_saved_model(served, tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("place", ["write_manifest", "write_warmup", "tf.saved_model.save", "sync"])
def test_disk_full_leaves_nothing(place, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_in_tensorflow(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "variables/part; No space left on device")

    target = tmp_path / "m"
    first = write_saved_model(small(), target, metadata={})
    before = left_in(tmp_path)
    if place == "tf.saved_model.save":
        monkeypatch.setattr(tf.saved_model, "save", full_in_tensorflow)
    elif place == "sync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(saved_model, place, full)
    for folder in (target, tmp_path / "new"):
        with pytest.raises(UserError, match="no space left on the device; nothing was exported"):
            write_saved_model(small(), folder, metadata={})
    monkeypatch.undo()
    assert left_in(tmp_path) == before
    verify_export(first)


def test_other_failures_leave_nothing_and_pass_through(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, "write_warmup", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_saved_model(small(), tmp_path / "m", metadata={})
    assert left_in(tmp_path) == []


def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path):
    """A real limit on the size of files, met inside TensorFlow's own writer."""
    script = (
        "import resource, signal, sys, numpy as np, tensorflow as tf\n"
        "from tfthesis.export.saved_model import write_saved_model\n"
        "from tfthesis.method import Served, Signature\n"
        "big = tf.Variable(np.random.default_rng(0).normal(size=2_000_000))\n"
        "take = Signature(lambda row: {'y': tf.gather(big, row)}, {'row': tf.TensorSpec([None], tf.int64)},\n"
        "                 {'row': [3]}, '')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "write_saved_model(Served({'take': take}, [big]), sys.argv[1] + '/m', metadata={})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert left_in(tmp_path) == []


def test_scann_exports_name_the_ops_that_a_stock_server_lacks(tmp_path):
    index, second = ScannNeighbours(toy.build_gallery(2000)), ScannNeighbours(toy.build_gallery(1500))
    served = toy.build_served(index=index)
    features = served.signatures["encode"]
    served.signatures["second"] = dataclasses.replace(features, function=lambda features: second.search(features, 2))
    served.trackables.append(second)
    with pytest.raises(UserError, match="stock TensorFlow Serving lacks the op 'Scann>"):
        write_saved_model(served, tmp_path / "m", metadata={}, stock_only=True)
    assert left_in(tmp_path) == []
    path = write_saved_model(served, tmp_path / "m", metadata={})
    beyond = json.loads((path / "manifest.json").read_text())["ops_beyond_stock"]
    assert set(beyond) == {"Scann>TensorsToScann", "Scann>ScannSearchBatched"}
    with open_session(path) as model:
        answer = model.callable("second")({"features": toy.build_gallery(1500).vectors[:50]})
        assert answer["ids"].shape == (50, 2)
