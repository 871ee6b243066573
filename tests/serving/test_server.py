"""The command line of `python -m serving.server`: what it refuses, how, and with which exit code."""

from __future__ import annotations

import gc
import logging
import re
import signal
import socket
import subprocess
import sys

import pytest

from serving.config import catalogue_of_file
from serving.loader import StartError
from serving.servable import Servable
from serving.server import main


@pytest.fixture
def run(caplog):
    """Run the command in this process; returns its exit code and its log."""
    caplog.set_level(logging.INFO)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: object) -> tuple[int, str]:
        try:
            code = main(["--port", "0", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code, caplog.text

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_taken_port_is_said_before_anything_is_loaded(constants, published, run, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, log = run("--model_base_path", tmp_path, "--port", port)
    assert code == 3
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in log
    assert "loaded" not in log


def test_host_of_another_machine_is_refused(constants, published, run, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    code, log = run("--model_base_path", tmp_path, "--host", "192.0.2.1")
    assert code == 3
    assert "cannot listen on 192.0.2.1:0" in log


def test_broken_model_ends_the_start(constants, published, run, tmp_path):
    (published(constants[1], tmp_path, 1) / "saved_model.pb").write_bytes(b"not a protobuf")
    code, log = run("--model_base_path", tmp_path, "--model_name", "broken")
    assert code == 1
    assert "Failed to start server. model 'broken' version 1" in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model_base_path"),
        (["--model_base_path", "nowhere-at-all"], "no such folder; export a model first"),
        (["--model_base_path", ".", "--port", "many"], "--port"),
        (["--model_base_path", ".", "--port", "70000"], "expected 0 to 65535"),
        (["--model_base_path", ".", "--file_system_poll_wait_seconds", "-1"], "expected 0 or more seconds"),
        (["--model_base_path", ".", "--grpc_max_threads", "0"], "expected at least 1"),
        (["--model_base_path", ".", "--enable_serialization_as_tensor_content=maybe"], "expected true or false"),
        (["--model_config_file", "nowhere-at-all"], "--model_config_file nowhere-at-all"),
        (["--model_config_file", "x", "--model_name", "y"], "--model_name goes with --model_base_path"),
        (["--model_base_path", ".", "--import_module", "no_such_package"], "No module named 'no_such_package'"),
        (["--model_base_path", ".", "--op_library", "nowhere.so"], "--op_library: nowhere.so"),
    ],
)
def test_wrong_arguments_exit_2(run, capsys, arguments, message):
    code, log = run(*arguments)
    assert code == 2
    assert message in log + capsys.readouterr().err


def test_versions(run, capsys):
    assert run("--version")[0] == 0
    assert re.search(r"^tensorflow 2\.20\.", capsys.readouterr().out, re.MULTILINE)


def test_tags_and_threads_reach_the_session(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with pytest.raises(StartError, match="could not be found in SavedModel"):
        serve(tmp_path, "constant", tags=("train",)).__enter__()
    published(constants[1], tmp_path / "threads", 1)
    with serve(tmp_path, "threads", parallelism=(1, 3)) as stub:
        (servable,) = (thing for thing in gc.get_objects() if type(thing) is Servable and thing.name == "threads")
        config = servable._session._config
        assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (1, 3)
        assert stub.value("threads") == 1


def test_help_answers_without_tensorflow():
    program = "import sys, serving.server as s; s.make_parser().format_help(); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_model_config_file(constants, published, serve, tmp_path):
    for version, export in constants.items():
        published(export, tmp_path / "base", version)
    (tmp_path / "models.config").write_text(
        f'model_config_list {{ config {{ name: "both" base_path: "{tmp_path / "base"}" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 versions: 3 } } } }"
    )
    with serve(catalogue_of_file(tmp_path / "models.config")) as stub:
        assert stub.status(name="both") == {3: ("AVAILABLE", 0, ""), 1: ("AVAILABLE", 0, "")}
