"""Versions that come and go under a running server."""

from __future__ import annotations

import shutil
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.config import Catalogue, ModelConfig
from serving.embedded import EmbeddedServer, Options
from serving.loader import StartError
from serving.versions import Policy
from tfthesis.export.manifest import write_manifest

Code = grpc.StatusCode


def spoil(export):
    """Make an export unreadable."""
    (export / "saved_model.pb").write_bytes(b"not a protobuf")
    return export


def test_hot_swap_fails_no_request(constants, serve, published, eventually, tmp_path):
    base_path = tmp_path / "constant"
    published(constants[1], base_path, 1)
    answers, errors, swapped = [], [], threading.Event()

    def ask(stub):
        while not swapped.is_set():
            try:
                answers.append(stub.value("constant"))
            except grpc.RpcError as error:
                errors.append(error)

    with serve(tmp_path) as stub:
        threads = [threading.Thread(target=ask, args=(stub,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in (2, 3):
            published(constants[version], base_path, version)
            eventually(lambda version=version: stub.value("constant") == version)
            eventually(lambda version=version: stub.status(name="constant")[version - 1][0] == "END")
        swapped.set()
        for thread in threads:
            thread.join()
        assert stub.status(name="constant") == {3: ("AVAILABLE", 0, ""), 2: ("END", 0, ""), 1: ("END", 0, "")}
    assert not errors
    assert set(answers) == {1.0, 2.0, 3.0}


def test_running_request_ends_on_the_version_it_began_with(
    everything, constants, serve, published, eventually, tmp_path
):
    base_path = tmp_path / "model"
    published(everything, base_path, 1)
    with serve(tmp_path) as stub:
        running, done = stub.hold("model", tmp_path / "go on")
        time.sleep(0.3)
        published(constants[2], base_path, 2)
        eventually(lambda: stub.status(name="model").get(2, ("",))[0] == "AVAILABLE")
        assert stub.value("model") == 2
        assert stub.status(name="model")[1][0] == "UNLOADING"
        (tmp_path / "go on").touch()
        running.join()
        assert done == [1]
        eventually(lambda: stub.status(name="model")[1][0] == "END")


def test_rollback_by_removing_the_highest_version(constants, serve, published, eventually, tmp_path):
    base_path = tmp_path / "constant"
    for version in (1, 2):
        published(constants[version], base_path, version)
    with serve(tmp_path) as stub:
        assert stub.value("constant") == 2
        (base_path / "2").rename(base_path / "withdrawn")
        eventually(lambda: stub.value("constant") == 1)
        assert list(stub.status(name="constant")) == [2, 1]


def test_broken_version_leaves_the_old_one(constants, serve, published, eventually, tmp_path):
    base_path = tmp_path / "constant"
    published(constants[1], base_path, 1)
    with serve(tmp_path) as stub:
        broken = spoil(published(constants[2], tmp_path / "elsewhere", 2))
        broken.rename(base_path / "2")
        eventually(lambda: stub.status(name="constant").get(2, ("",))[0] == "END")
        state = stub.status(name="constant")
        assert state[1] == ("AVAILABLE", 0, "")
        assert state[2][1] == Code.INVALID_ARGUMENT.value[0]
        assert "saved_model.pb" in state[2][2]
        assert stub.value("constant") == 1
        # Mended in place, it is tried again.
        shutil.copy(constants[2] / "saved_model.pb", base_path / "2" / "saved_model.pb")
        eventually(lambda: stub.value("constant") == 2)


def test_model_without_versions_is_unloaded(constants, serve, published, eventually, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path / "constant", "constant") as stub:
        shutil.rmtree(tmp_path / "constant" / "1")
        eventually(lambda: stub.status(name="constant")[1][0] == "END")
        with pytest.raises(grpc.RpcError) as caught:
            stub.value("constant")
        assert caught.value.code() is Code.NOT_FOUND
        published(constants[2], tmp_path / "constant", 2)
        eventually(lambda: stub.status(name="constant").get(2, ("",))[0] == "AVAILABLE")


def test_missing_base_path_leaves_what_is_loaded(constants, serve, published, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path / "constant", "constant") as stub:
        (tmp_path / "constant").rename(tmp_path / "away")
        time.sleep(0.3)
        assert stub.value("constant") == 1


def test_new_model_folder_is_found_and_a_removed_one_dropped(constants, serve, published, eventually, tmp_path):
    published(constants[1], tmp_path / "first", 1)
    with serve(tmp_path) as stub:
        published(constants[2], tmp_path / "second", 1)
        eventually(lambda: _known(stub) == ["first", "second"])
        shutil.rmtree(tmp_path / "first")
        eventually(lambda: _known(stub) == ["second"])
        assert stub.value("second") == 2


def _known(stub) -> list[str]:
    with pytest.raises(grpc.RpcError) as caught:
        stub.status(name="")
    return dict(map(tuple, caught.value.trailing_metadata()))["served-models-bin"].decode().split("\n")


def test_copy_without_manifest_is_loaded_when_it_has_settled(constants, serve, published, eventually, tmp_path):
    base_path = tmp_path / "constant"
    published(constants[1], base_path, 1)
    with serve(tmp_path, poll_seconds=0.3) as stub:
        slow = base_path / "2"
        shutil.copytree(constants[2], slow, ignore=shutil.ignore_patterns("variables"))
        (slow / "variables").mkdir()
        for step in range(4):
            (slow / "variables" / f"part-{step}").write_bytes(b"x")
            time.sleep(0.2)
            assert 2 not in stub.status(name="constant")
        shutil.copytree(constants[2] / "variables", slow / "variables", dirs_exist_ok=True)
        eventually(lambda: stub.value("constant") == 2)


def test_copy_with_manifest_is_loaded_when_every_size_is_right(constants, serve, published, eventually, tmp_path):
    base_path = tmp_path / "constant"
    published(constants[1], base_path, 1)
    with serve(tmp_path) as stub:
        incomplete = published(constants[2], tmp_path / "elsewhere", 2)
        write_manifest(incomplete, {})
        index = (incomplete / "variables" / "variables.index").read_bytes()
        (incomplete / "variables" / "variables.index").write_bytes(index[:-1])
        incomplete.rename(base_path / "2")
        time.sleep(0.5)
        assert list(stub.status(name="constant")) == [1]
        (base_path / "2" / "variables" / "variables.index").write_bytes(index)
        eventually(lambda: stub.value("constant") == 2)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (Policy("all"), {1, 2, 3}),
        (Policy("latest", 2), {2, 3}),
        (Policy("specific", versions=(1, 9)), {1}),
    ],
)
def test_policy_decides_which_versions_are_served(constants, serve, published, tmp_path, policy, served):
    for version, export in constants.items():
        published(export, tmp_path, version)
    config = ModelConfig("constant", tmp_path, policy)
    with serve(Catalogue(lambda: [config], named=True)) as stub:
        assert set(stub.status(name="constant")) == served
        assert stub.value("constant") == max(served)
        for version in served:
            response = stub.predict("constant", {"x": np.zeros(1, np.float32)}, version=version)
            assert response.outputs["y"].float_val[0] == version


def test_named_model_that_does_not_load_stops_the_start(constants, published, tmp_path):
    from serving.config import catalogue_below

    spoil(published(constants[1], tmp_path, 1))
    server = EmbeddedServer(catalogue_below(tmp_path, "constant"), Options(port=0, poll_seconds=0.05))
    with pytest.raises(StartError, match="'constant' version 1: .*saved_model.pb"):
        server.start(threading.Event())
    server.stop()


def test_found_model_that_does_not_load_leaves_the_others(constants, serve, published, tmp_path):
    published(constants[1], tmp_path / "good", 1)
    spoil(published(constants[1], tmp_path / "bad", 1))
    with serve(tmp_path) as stub:
        assert stub.value("good") == 1
        assert stub.status(name="bad")[1][0] == "END"


def test_looking_once_loads_and_follows_nothing(constants, serve, published, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, poll_seconds=0.0) as stub:
        published(constants[2], tmp_path / "constant", 2)
        time.sleep(0.3)
        assert stub.value("constant") == 1


def test_stopping_waits_for_a_request_that_its_client_gave_up(everything, published, serve, tmp_path):
    published(everything, tmp_path / "models" / "model", 1)
    go_on = tmp_path / "go on"
    with serve(tmp_path / "models") as stub:
        request = predict_pb2.PredictRequest(model_spec={"name": "model", "signature_name": "hold"})
        request.inputs["path"].CopyFrom(tf.make_tensor_proto(str(go_on)))
        call = prediction_service_pb2_grpc.PredictionServiceStub(stub.channel).Predict.future(request)
        time.sleep(0.3)
        call.cancel()
        threading.Timer(0.5, go_on.touch).start()
    # The server has stopped, which `serve` asserts: it waited for the file.
    assert go_on.exists()
