"""Contract section 8: the warm-up file of a version."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.blackbox.client import Code, eventually
from tests.blackbox.models import (
    WARM_UP_FILE,
    config_entry,
    config_text,
    example_logs,
    predict_log,
    publish,
    write_records,
)

NOT_RECORDS = b"this is not a file of records, though it is longer than the head of one"


@pytest.fixture(scope="module")
def prepare(folder):
    """Return a function that makes an export with warm-up records beside the place that it is published at."""

    def make(name, records):
        export = shutil.copytree(folder.exports / "witness", folder.path / "prepared" / name)
        write_records(export, records)
        return export

    return make


@pytest.fixture(scope="module")
def marking(batched, folder, prepare):
    """Publish a version with a warm-up record of each kind, which leave marks."""
    records = [predict_log("mark", path=str(folder.marks / "predict")), *example_logs(folder.marks)]
    publish(prepare("marking", records), folder.path / "batched" / "warmed", 2)


@pytest.fixture(scope="module", autouse=True)
def early(request):
    """Begin before the first test, unless the server is not ours to start."""
    if not request.config.getoption("--server-address"):
        request.getfixturevalue("marking")


@pytest.fixture(scope="module")
def published(server, folder, prepare):
    """Versions of several models with warm-up records, most of them wrong, published at once."""
    good = predict_log("mark", path="")
    exports = {
        "cold not records": prepare("not records", []),
        "cold unparseable": prepare("unparseable", [b"\xff\xff\xff"]),
        "cold too many": prepare("too many", [good] * 1001),
        "warm a thousand times": prepare("thousand", [good] * 1000),
        "cold failing": prepare("failing", [predict_log("serving_default", x=np.int32([1]))]),
    }
    (exports["cold not records"] / WARM_UP_FILE).write_bytes(NOT_RECORDS)
    for name, export in exports.items():
        publish(export, folder.models / name, 2)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("cold not records", Code.DATA_LOSS),
        ("cold unparseable", Code.INVALID_ARGUMENT),
        ("cold too many", Code.INVALID_ARGUMENT),
        ("cold failing", Code.INVALID_ARGUMENT),
    ],
)
def test_wrong_warm_up_fails_the_load(server, published, model, code):
    eventually(lambda: server.state(model, 2) == "END")
    assert server.status(model)[2][1] == code.value[0]
    assert server.status(model)[2][2]
    assert server.state(model, 1) == "AVAILABLE"
    assert server.value(model) == 1


def test_thousand_records_are_not_too_many(server, published):
    eventually(lambda: server.state("warm a thousand times", 2) == "AVAILABLE")


def test_version_is_loading_until_it_is_warm(server, folder, prepare):
    """The records name another model, which does not matter; the signature does."""
    path = folder.marks / "warm"
    publish(prepare("warm", [predict_log("hold", path=str(path))]), folder.models / "warm", 2)
    eventually((folder.marks / "warm.beat").exists)
    assert server.state("warm", 2) == "LOADING"
    assert server.value("warm") == 1
    answer = server.rest("GET", "/v1/models/warm")
    assert answer.status == 200
    assert [version["state"] for version in answer.value["model_version_status"]] == ["LOADING", "AVAILABLE"]
    path.touch()
    eventually(lambda: server.state("warm", 2) == "AVAILABLE")
    assert server.value("warm") == 2


def test_all_kinds_of_records_are_replayed_as_often_as_the_flag_says(batched, folder, marking):
    eventually(lambda: batched.state("warmed", 2) == "AVAILABLE")
    for name in ("predict", "classify", "regress", "multi_inference"):
        assert sorted(path.name for path in folder.marks.glob(f"{name}.*")) == [f"{name}.{n}" for n in range(3)]


def test_no_warm_up_where_it_is_switched_off(encrypted, folder, prepare):
    mark = folder.marks / "switched off"
    publish(prepare("switched off", [predict_log("mark", path=str(mark))]), folder.path / "unwarmed", 1)
    entries = [config_entry("rows", folder.path / "rows"), config_entry("unwarmed", folder.path / "unwarmed")]
    encrypted.reload(text_format.Parse(config_text(entries), model_server_config_pb2.ModelServerConfig()))
    assert encrypted.state("unwarmed", 1) == "AVAILABLE"
    assert not list(folder.marks.glob("switched off*"))
