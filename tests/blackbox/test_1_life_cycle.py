"""Contract section 1: versions on disk, how they come, go and fail, and when the ports open."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import threading
import time

import grpc
import pytest

from tests.blackbox.client import Code, eventually, refused
from tests.blackbox.models import Entry, config_entry, config_text, predict_log, publish, write_records

POLLS = 2.5


@pytest.fixture(scope="module")
def starts(run, folder):
    """Three servers that start at the same time; each is another test's."""
    base = folder.path / "starts"
    marked = publish(folder.exports / "witness", base / "marked", 1)
    write_records(marked, [predict_log("mark", path=str(folder.marks / "start"))])
    (base / "late").mkdir()
    spoiled = publish(folder.constant(1), base / "broken", 1)
    (spoiled / "saved_model.pb").write_bytes(b"not a protobuf")
    configs = {
        "waiting": [config_entry("marked", base / "marked"), config_entry("late", base / "late")],
        "failing": [config_entry("broken", base / "broken")],
        "labelled": [config_entry("steady", folder.models / "steady", Entry("all {}", {"stable": 1}))],
    }
    processes = {}
    for name, entries in configs.items():
        (base / f"{name}.config").write_text(config_text(entries))
        processes[name] = run(
            f"--model_config_file={base / f'{name}.config'}",
            "--file_system_poll_wait_seconds=1",
            "--max_num_load_retries=0",
        )
    return processes


@pytest.fixture(scope="module")
def unseen(encrypted, folder):
    """Publish a version of a model that is looked for only once, and return when."""
    publish(folder.exports / "rows", folder.path / "rows", 2)
    return time.monotonic()


@pytest.fixture(scope="module")
def contradicted(batched, folder):
    """Publish a version that cannot be loaded; return a future of how long it is LOADING before it ends."""
    bad = publish(folder.constant(2), folder.path / "contradicting", 2)
    (bad / "batching_params.pbtxt").write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    bad.rename(folder.path / "batched" / "contradicting" / "2")

    def watch():
        eventually(lambda: batched.state("contradicting", 2) == "LOADING")
        first = time.monotonic()
        eventually(lambda: batched.state("contradicting", 2) == "END")
        return time.monotonic() - first

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(watch)


@pytest.fixture(scope="module", autouse=True)
def early(request):
    """Begin what takes long before the first test, unless the server is not ours to start."""
    if not request.config.getoption("--server-address"):
        request.getfixturevalue("unseen")
        request.getfixturevalue("contradicted")
        request.getfixturevalue("starts")


@pytest.mark.parametrize(
    ("model", "versions"),
    [
        pytest.param("newest", {123}, id="only whole int64 names are versions, 00000123 is 123, latest 1 by default"),
        pytest.param("newest two", {2, 3}, id="latest 2"),
        pytest.param("steady", {1, 2, 3}, id="all"),
        pytest.param("chosen", {1}, id="specific, of which one is not on disk"),
        pytest.param("twin", {5}, id="two names for one number"),
    ],
)
def test_versions_by_name_and_policy(server, model, versions):
    status = server.status(model)
    assert {version for version, (state, _, _) in status.items() if state == "AVAILABLE"} == versions
    assert set(status) == versions
    for version in versions:
        assert server.predict(model, {"x": [0.0]}, version=version).model_spec.version.value == version


def test_exports_of_tensorflow_1_and_2_are_served(server):
    assert server.state("judge", 4) == "AVAILABLE"
    assert server.state("kinds", 7) == "AVAILABLE"


@pytest.fixture(scope="module")
def moved(server, folder):
    """Change many models at once, so that one look at the disk sees it all; yield a request that runs in `pinned`."""
    models = folder.models
    held = server.hold("pinned", folder.marks / "pinned")
    publish(folder.constant(2), models / "pinned", 2)
    spoiled = publish(folder.constant(2), folder.path / "spoiled", "2")
    (spoiled / "saved_model.pb").write_bytes(b"not a protobuf")
    spoiled.rename(models / "broken" / "2")
    shutil.copytree(folder.constant(2), models / "unfinished" / "tmp-2", ignore=shutil.ignore_patterns("variables"))
    (models / "rolled back" / "2").rename(models / "rolled back" / "withdrawn")
    (models / "emptied" / "1").rename(models / "emptied" / "withdrawn")
    yield held
    held.release()
    (models / "rolled back" / "withdrawn").rename(models / "rolled back" / "2")
    (models / "emptied" / "withdrawn").rename(models / "emptied" / "1")
    for name in ("broken/2", "unfinished/tmp-2"):
        shutil.rmtree(models / name)


def test_rollback_by_renaming_the_highest_version(server, moved):
    eventually(lambda: server.value("rolled back") == 1)
    eventually(lambda: server.state("rolled back", 2) == "END")
    assert list(server.status("rolled back")) == [2, 1]


def test_present_but_empty_base_path_unloads_the_model(server, moved):
    eventually(lambda: server.state("emptied", 1) == "END")
    with refused(Code.NOT_FOUND, "Servable not found for request: Latest(emptied)"):
        server.value("emptied")


def test_version_that_fails_to_load_ends_with_the_error_and_the_old_one_serves(server, moved):
    eventually(lambda: server.state("broken", 2) == "END")
    _, code, message = server.status("broken")[2]
    assert code != 0
    assert message
    assert server.state("broken", 1) == "AVAILABLE"
    assert server.value("broken") == 1


def test_what_is_written_under_another_name_is_not_looked_at(server, moved):
    eventually(lambda: server.state("broken", 2) == "END")
    assert list(server.status("unfinished")) == [1]


def test_missing_base_path_leaves_what_is_loaded(server, folder):
    path = folder.models / "vanishing"
    path.rename(folder.path / "vanished")
    time.sleep(POLLS)
    try:
        assert server.state("vanishing", 1) == "AVAILABLE"
        assert server.value("vanishing") == 1
    finally:
        (folder.path / "vanished").rename(path)


def test_hot_swap_fails_no_request(server, folder):
    answers, errors, done = [], [], threading.Event()

    def ask():
        while not done.wait(0.002):
            try:
                answers.append(server.value("swapped"))
            except grpc.RpcError as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        publish(folder.constant(2), folder.models / "swapped", 2)
        eventually(lambda: server.state("swapped", 1) == "END")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert set(answers) == {1.0, 2.0}
    assert server.value("swapped") == 2
    assert list(server.status("swapped")) == [2, 1]


def test_running_request_ends_on_the_version_it_began_with(server, moved):
    eventually(lambda: server.state("pinned", 2) == "AVAILABLE")
    assert server.value("pinned") == 2
    eventually(lambda: server.state("pinned", 1) == "UNLOADING")
    assert moved.release().model_spec.version.value == 1
    eventually(lambda: server.state("pinned", 1) == "END")


def test_start_fails_where_a_model_does_not_load(starts):
    assert starts["failing"].process.wait(60) != 0
    assert "Failed to start server" in starts["failing"].log


def test_labels_in_the_first_configuration_need_the_flag(starts):
    assert starts["labelled"].process.wait(60) != 0
    assert "label" in starts["labelled"].log


@pytest.fixture(scope="module")
def completed(starts, folder, connect):
    """Give the waiting server its last model; return it, whether it listened before, and its models' states behind."""
    process = starts["waiting"]
    eventually((folder.marks / "start.0").exists, 60)
    time.sleep(1.0)
    before = process.listens()
    publish(folder.exports / "kinds", folder.path / "starts" / "late", 1)
    process.wait_until_it_listens()
    client = connect(process)
    return process, before, [client.state("marked", 1), client.state("late", 1)]


def test_ports_open_when_every_model_has_an_available_version(completed):
    _, before, states = completed
    assert not before
    assert states == ["AVAILABLE", "AVAILABLE"]


def test_termination_lets_running_requests_end(ours, completed, folder, connect):
    process, _, _ = completed
    held = connect(process).hold("late", folder.marks / "terminated")
    process.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.process.poll() is None
    assert held.release().model_spec.version.value == 1
    assert process.process.wait(30) == os.EX_OK


def test_failing_load_is_tried_again_and_the_state_stays_loading(batched, contradicted):
    assert contradicted.result() > 1.0
    status = batched.status("contradicting")
    assert status[2][1] != 0
    assert status[2][2]
    assert status[1][0] == "AVAILABLE"


def test_folders_are_looked_at_once_where_the_poll_wait_is_zero(encrypted, unseen):
    time.sleep(max(0.0, unseen + POLLS - time.monotonic()))
    assert list(encrypted.status("rows")) == [1]
