"""Labels, HandleReloadConfigRequest, a configuration file that changes, and loads that are tried again."""

from __future__ import annotations

import contextlib
import threading
import time

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc, predict_pb2

from serving.config import Catalogue, ModelConfig, catalogue_of_file
from serving.embedded import EmbeddedServer, Options
from serving.loader import Loader, Retries
from serving.servable import Limits
from serving.store import Store
from serving.versions import Policy
from tfthesis.errors import UserError

Code = grpc.StatusCode


@pytest.fixture
def models(constants, published, tmp_path):
    """A folder with `first` (versions 1, 2) and `second` (version 3)."""
    for name, number in (("first", 1), ("first", 2), ("second", 3)):
        published(constants[number], tmp_path / "models" / name, number)
    return tmp_path / "models"


def entry(base_path, name=None, policy="all {}", labels=(), platform="tensorflow"):
    text = "".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels)
    return (
        f'config {{ name: "{name or base_path.name}" base_path: "{base_path}" model_platform: "{platform}" '
        f"model_version_policy {{ {policy} }} {text} }}"
    )


def config_text(*entries):
    return "model_config_list { " + " ".join(entries) + " }"


def reload(stub, *entries, timeout=20.0):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config_text(*entries), request.config)
    return model_service_pb2_grpc.ModelServiceStub(stub.channel).HandleReloadConfigRequest(request, timeout=timeout)


def ask_label(stub, model, label):
    request = predict_pb2.PredictRequest(model_spec={"name": model, "version_label": label})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([0.0]))
    return stub.send(request).outputs["y"].float_val[0]


def serves(stub, model):
    try:
        return stub.value(model) > 0
    except grpc.RpcError as error:
        assert error.code() is Code.NOT_FOUND
        return False


@contextlib.contextmanager
def refused(code, message):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code
    assert message in caught.value.details()


@pytest.fixture
def first(models, serve):
    """A server of `first` alone, which may be told to serve whatever lies in `models`."""
    catalogue = Catalogue(lambda: [ModelConfig("first", models / "first", Policy("all"))], named=True)
    with serve(catalogue, allowed_base_paths=[models]) as stub:
        yield stub


def test_reload_returns_when_the_new_model_answers_and_drops_what_is_left_out(first, models, eventually):
    response = reload(first, entry(models / "second"))
    assert response.status.error_code == 0
    assert first.value("second") == 3
    eventually(lambda: first.status(name="first")[2][0] == "END")
    with refused(Code.NOT_FOUND, "Latest(first)"):
        first.value("first")


def test_reload_changes_the_versions_of_a_model(first, models, eventually):
    reload(first, entry(models / "first", policy="specific { versions: 1 }"))
    eventually(lambda: first.value("first") == 1)


def test_labels_name_versions_and_move(first, models):
    reload(first, entry(models / "first", labels=[("stable", 1), ("canary", 2)]))
    assert [ask_label(first, "first", label) for label in ("stable", "canary")] == [1, 2]
    reload(first, entry(models / "first", labels=[("stable", 2)]))
    assert ask_label(first, "first", "stable") == 2
    with refused(Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"):
        ask_label(first, "first", "canary")


def test_labels_of_versions_that_are_not_there(first, models):
    with refused(Code.FAILED_PRECONDITION, "label 'next' to version 9 of model first"):
        reload(first, entry(models / "first", labels=[("next", 9)]))


def test_new_labels_may_wait_for_their_version_if_allowed_but_none_may_move_there(models, serve):
    text = config_text(entry(models / "first", labels=[("stable", 1), ("next", 9)]))
    file = models / "models.config"
    file.write_text(text)
    with serve(catalogue_of_file(file), allowed_base_paths=[models], label_unavailable=True) as stub:
        assert ask_label(stub, "first", "stable") == 1
        with refused(Code.NOT_FOUND, "Specific(first, 9)"):
            ask_label(stub, "first", "next")
        with refused(Code.FAILED_PRECONDITION, "label 'stable' to version 9"):
            reload(stub, entry(models / "first", labels=[("stable", 9)]))


def test_labels_in_the_first_configuration_need_the_permission(models):
    catalogue = Catalogue(lambda: [ModelConfig("first", models / "first", labels={"stable": 1})], named=True)
    server = EmbeddedServer(catalogue, Options(port=0))
    with pytest.raises(UserError, match="--allow_version_labels_for_unavailable_models"):
        server.start(threading.Event())
    assert server.stop()


def test_bad_configurations_are_refused_and_the_old_one_stays(first, models, tmp_path):
    second = models / "second"
    bad = [
        ((), Code.INVALID_ARGUMENT, "no model in model_config_list"),
        ((entry(second), entry(second)), Code.INVALID_ARGUMENT, "'second' is configured more than once"),
        ((entry(second, platform="other"),), Code.INVALID_ARGUMENT, "got 'other'"),
        ((entry(second).replace(str(second), "relative"),), Code.INVALID_ARGUMENT, "absolute base_path"),
        ((entry(models / "third"),), Code.INVALID_ARGUMENT, "does not exist"),
        ((entry(tmp_path, "outside"),), Code.PERMISSION_DENIED, "outside the folders"),
        ((entry(models / "second" / ".." / "..", "up"),), Code.PERMISSION_DENIED, "outside the folders"),
    ]
    for entries, code, message in bad:
        with refused(code, message):
            reload(first, *entries)
        assert first.value("first") == 2


def test_a_link_does_not_lead_out_of_the_allowed_folders(first, models, tmp_path, constants, published):
    published(constants[3], tmp_path / "elsewhere", 3)
    (models / "link").symlink_to(tmp_path / "elsewhere")
    with refused(Code.PERMISSION_DENIED, "outside the folders"):
        reload(first, entry(models / "link"))


def test_custom_configurations_are_refused(first):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.custom_model_config.SetInParent()
    with refused(Code.INVALID_ARGUMENT, "custom_model_config"):
        model_service_pb2_grpc.ModelServiceStub(first.channel).HandleReloadConfigRequest(request, timeout=20)


def test_reload_of_a_model_without_versions_waits_for_one(first, models, constants, published):
    (models / "empty").mkdir()
    with refused(Code.DEADLINE_EXCEEDED, ""):
        reload(first, entry(models / "first"), entry(models / "empty"), timeout=0.5)
    published(constants[3], models / "empty", 1)
    assert reload(first, entry(models / "first"), entry(models / "empty")).status.error_code == 0


def test_reload_of_a_model_that_does_not_load_tells_why(first, models):
    (models / "broken" / "1").mkdir(parents=True)
    (models / "broken" / "1" / "saved_model.pb").write_bytes(b"not a protobuf")
    with refused(Code.INVALID_ARGUMENT, "is not a SavedModel"):
        reload(first, entry(models / "first"), entry(models / "broken"))
    assert first.value("first") == 2


def test_reload_where_the_folders_are_looked_at_only_once(models, serve):
    catalogue = Catalogue(lambda: [ModelConfig("first", models / "first")], named=True)
    with serve(catalogue, allowed_base_paths=[models], poll_seconds=0) as stub:
        reload(stub, entry(models / "first"), entry(models / "second"))
        assert stub.value("second") == 3


def test_configuration_file_is_read_again_and_a_broken_one_changes_nothing(models, serve, eventually, caplog):
    file = models / "models.config"
    file.write_text(config_text(entry(models / "first")))
    options = {"allowed_base_paths": [models], "config_file": file, "config_poll_seconds": 0.05}
    with serve(catalogue_of_file(file), **options) as stub:
        file.write_text("model_config_list {")
        eventually(lambda: "the models stay as they are" in caplog.text)
        assert stub.value("first") == 2
        file.write_text(config_text(entry(models / "second")))
        eventually(lambda: serves(stub, "second"))
        eventually(lambda: not serves(stub, "first"))


def test_configuration_file_that_waits_for_a_version_is_read_on(models, serve, eventually, constants, published):
    """Also outside the allowed folders, since nobody but the operator writes the file."""
    file, elsewhere = models / "models.config", models.parent / "elsewhere"
    elsewhere.mkdir()
    file.write_text(config_text(entry(models / "first")))
    options = {"allowed_base_paths": [models], "config_file": file, "config_poll_seconds": 0.05}
    with serve(catalogue_of_file(file), **options) as stub:
        file.write_text(config_text(entry(models / "first"), entry(elsewhere, "empty")))
        time.sleep(0.5)
        file.write_text(config_text(entry(models / "first"), entry(models / "second")))
        eventually(lambda: serves(stub, "second"))
        file.write_text(config_text(entry(models / "first"), entry(elsewhere, "empty")))
        eventually(lambda: not serves(stub, "second"))
        published(constants[3], elsewhere, 1)
        eventually(lambda: serves(stub, "empty"))


def test_failing_load_is_tried_again_and_then_ends(everything, constants, published, serve, eventually, tmp_path):
    published(constants[1], tmp_path / "model", 1)
    retries = Retries(count=2, seconds=0.3)
    with serve(tmp_path, retries=retries) as stub:
        broken = tmp_path / "model" / ".next"
        broken.mkdir()
        (broken / "saved_model.pb").write_bytes(b"not a protobuf")
        broken.rename(tmp_path / "model" / "2")
        eventually(lambda: 2 in stub.status(name="model"))
        assert stub.status(name="model")[2][0] == "LOADING"
        eventually(lambda: stub.status(name="model")[2][0] == "END")
        _, code, message = stub.status(name="model")[2]
        assert code == Code.INVALID_ARGUMENT.value[0]
        assert "is not a SavedModel" in message
        assert stub.value("model") == 1


def test_number_of_attempts(tmp_path, monkeypatch, eventually):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"x")
    attempts = []

    def fail(*arguments):
        attempts.append(arguments)
        raise ValueError("no")

    monkeypatch.setattr("serving.loader.Servable", fail)
    catalogue = Catalogue(lambda: [ModelConfig("m", tmp_path)], named=True)
    loader = Loader(catalogue, Store(), Limits(1), 0.01, Retries(count=2, seconds=0.02))
    loader.start()
    eventually(lambda: loader.failure("m"))
    assert len(attempts) == 3
    assert loader.stop(10)
