"""Contract section 5: GetModelStatus and HandleReloadConfigRequest."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.blackbox.client import Code, eventually, refused
from tests.blackbox.models import MODELS, Entry, config_entry, config_text, publish

AVAILABLE = ("AVAILABLE", 0, "")
STEADY = MODELS["steady"].policy
COUNT = "/tensorflow/serving/request_count"


def parsed(*entries):
    return text_format.Parse(config_text(entries), model_server_config_pb2.ModelServerConfig())


@pytest.fixture
def reload(server, folder):
    """Return a function that reloads the models of `models.config` with changes, which are undone at the end."""

    def send(*more, **changed):
        return server.reload(parsed(*folder.entries(**changed), *more))

    yield send
    assert send().status.error_code == 0
    for name in ("steady", "spare"):
        eventually(lambda name=name: set(server.status(name).values()) == {AVAILABLE})


def test_status_of_every_version_newest_first(server):
    assert list(server.status("steady").items()) == [(version, AVAILABLE) for version in (3, 2, 1)]


def test_status_of_a_version(server):
    assert server.status("steady", version=2) == {2: AVAILABLE}


def test_status_ignores_a_label(server):
    assert list(server.status("steady", version_label="stable")) == [3, 2, 1]
    assert list(server.status("steady", version_label="nothing")) == [3, 2, 1]


def test_status_of_an_unknown_model(server):
    with refused(Code.NOT_FOUND, "Could not find any versions of model nobody"):
        server.status("nobody")


def test_status_of_an_unknown_version(server):
    with refused(Code.NOT_FOUND, "Could not find version 9 of model steady"):
        server.status("steady", version=9)


def test_reload_adds_a_model_and_returns_when_it_answers(server, reload):
    response = reload(extra=Entry("all {}"))
    assert response.status.error_code == 0
    assert server.value("extra") in (1, 2)
    eventually(lambda: list(server.status("extra").values()) == [AVAILABLE, AVAILABLE])
    assert [server.value("extra", version=version) for version in (1, 2)] == [1, 2]


def test_models_left_out_are_unloaded_and_their_versions_stay_listed_as_ended(server, reload):
    reload(spare=None)
    eventually(lambda: server.state("spare", 1) == "END")
    with refused(Code.NOT_FOUND, "Servable not found for request: Latest(spare)"):
        server.value("spare")
    assert server.value("steady") == 3


def test_reload_changes_the_policy(server, reload):
    reload(steady=Entry("specific { versions: 1 versions: 2 }", {"stable": 1, "canary": 2}))
    eventually(lambda: server.state("steady", 3) == "END")
    assert server.value("steady") == 2


def test_labels_move_to_available_versions_and_go(server, reload):
    reload(steady=Entry(STEADY, {"stable": 3}))
    assert server.value("steady", version_label="stable") == 3
    with refused(Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"):
        server.value("steady", version_label="canary")


def test_existing_label_cannot_be_moved_to_an_unloaded_version(server, reload):
    with refused(Code.FAILED_PRECONDITION):
        reload(steady=Entry(STEADY, {"stable": 9, "canary": 2}))
    assert server.value("steady", version_label="stable") == 1


def test_new_label_may_name_an_unloaded_version_where_the_flag_allows_it(server, reload):
    assert reload(steady=Entry(STEADY, {"stable": 1, "canary": 2, "next": 9})).status.error_code == 0
    with refused(Code.NOT_FOUND, "Specific(steady, 9)"):
        server.value("steady", version_label="next")


def test_new_label_may_not_without_the_flag(encrypted, folder):
    def send(labels):
        encrypted.reload(parsed(config_entry("rows", folder.path / "rows", Entry("specific { versions: 1 }", labels))))

    with refused(Code.FAILED_PRECONDITION):
        send({"next": 9})
    send({"now": 1})
    assert encrypted.predict("rows", {"x": [[1.0]]}, version_label="now").model_spec.version.value == 1


BAD = {
    "name twice": lambda folder: [config_entry("steady", folder.models / "steady", MODELS["steady"])],
    "relative base_path": lambda folder: [config_entry("relative", "models/extra")],
    "no platform": lambda folder: [config_entry("extra", folder.models / "extra", platform="")],
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_configuration_is_refused_and_the_old_one_stays(server, folder, reload, fault):
    with refused(Code.INVALID_ARGUMENT):
        reload(*BAD[fault](folder))
    assert server.value("steady", version_label="stable") == 1
    assert server.value("spare") == 1


def test_platform_cannot_change(server, folder, reload):
    with refused(Code.INVALID_ARGUMENT):
        reload(config_entry("spare", folder.models / "spare", platform="other"), spare=None)
    assert server.value("spare") == 1


def test_no_configuration(server):
    with refused(Code.INVALID_ARGUMENT):
        server.reload(None)
    assert server.value("steady") == 3


def test_custom_configuration(server):
    config = model_server_config_pb2.ModelServerConfig()
    config.custom_model_config.SetInParent()
    with refused(Code.INVALID_ARGUMENT):
        server.reload(config)
    assert server.value("steady") == 3


def test_metric_names_are_answered_by_increases(server, folder):
    server.value("steady")
    response = server.reload(parsed(*folder.entries()), (COUNT,))
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [(COUNT, 0)]


def test_reload_waits_for_the_first_version(server, folder, reload):
    (folder.models / "late").mkdir()
    config = parsed(*folder.entries(late=Entry()))
    with refused(Code.DEADLINE_EXCEEDED):
        server.reload(config, timeout=0.5)
    publish(folder.constant(3), folder.models / "late", 1)
    eventually(lambda: serves(server, "late"))
    assert server.reload(config).status.error_code == 0
    assert server.value("late") == 3


def test_repeated_reload_waits_as_well(ours, server, folder, reload):
    """A client that gave up may ask again; the answer still has to mean that the model can be asked."""
    (folder.models / "later").mkdir()
    config = parsed(*folder.entries(later=Entry()))
    try:
        for _ in range(2):
            with refused(Code.DEADLINE_EXCEEDED):
                server.reload(config, timeout=0.5)
    finally:
        publish(folder.constant(3), folder.models / "later", 1)
        eventually(lambda: serves(server, "later"))


def serves(client, model):
    try:
        return client.value(model) > 0
    except grpc.RpcError as error:
        assert error.code() is Code.NOT_FOUND
        return False


@pytest.mark.parametrize("place", ["batched", "models"])
def test_configuration_file_is_read_again(batched, folder, place):
    """Also where it names a model in a folder that no model was in before."""
    file, name = folder.path / "batched.config", f"added {place}"
    text = file.read_text()
    publish(folder.constant(1), folder.path / place / name, 1)
    added = text.replace("}\n}", "}\n  " + config_entry(name, folder.path / place / name) + "\n}")

    def state():
        try:
            return batched.state(name, 1)
        except grpc.RpcError as error:
            assert error.code() is Code.NOT_FOUND
            return ""

    assert state() == ""
    try:
        replace(file, added)
        eventually(lambda: state() == "AVAILABLE", 6)
    finally:
        replace(file, text)
    eventually(lambda: state() == "END")


def replace(file, text):
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)
