"""The client, as a class and from a terminal, against a server with search signatures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.client import Client, ClientError, Hit
from serving.client_command import main

Code = grpc.StatusCode


class Searcher(tf.Module):
    """Signatures and dtypes of an exported image-text model; the answers are the queries' lengths."""

    def _search(self, query):
        length = tf.strings.length(query)[:, None] - tf.range(3)[None]
        ids = tf.strings.join(["id-", tf.strings.as_string(length)])
        return {"ids": ids, "scores": tf.cast(length, tf.float32) / 10.0, "payload": tf.strings.join(["über ", ids])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def search_by_text(self, text):
        return self._search(text)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def search_by_image(self, image):
        return self._search(image)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="image"),
            tf.TensorSpec([None], tf.string, name="text"),
        ]
    )
    def classify(self, image, text):
        rows = tf.size(image)
        labels = tf.tile(tf.constant([["cube", "ball"]]), [rows, 1])
        probabilities = tf.tile(tf.constant([[0.75, 0.25]]), [rows, 1])
        return {"labels": labels, "probabilities": probabilities, "predicted": probabilities > 0.5}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def double(self, x):
        return {"y": 2.0 * x}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searcher") / "model"
    module = Searcher()
    names = ("search_by_text", "search_by_image", "classify", "double")
    tf.saved_model.save(module, str(folder), signatures={name: getattr(module, name) for name in names})
    return folder


@pytest.fixture
def port(searcher, serve, published, tmp_path):
    """Port of a server whose only model is the searcher."""
    published(searcher, tmp_path / "models" / "searcher", 3)
    with serve(tmp_path / "models") as stub:
        yield stub.port


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"1234567")
    return path


@pytest.fixture
def client(port):
    with Client(port=port) as client:
        yield client


def test_search_by_text(client):
    found = client.search_by_text(["a red cube", "größe"], top=2)
    assert found[0] == [Hit("id-10", 1.0, "über id-10"), Hit("id-9", pytest.approx(0.9), "über id-9")]
    assert [hit.id for hit in found[1]] == ["id-7", "id-6"]


def test_search_by_image_takes_bytes_and_files(client, photo):
    found = client.search_by_image([photo, b"four"])
    assert [hits[0].id for hits in found] == ["id-7", "id-4"]
    assert len(found[0]) == 3


def test_classify(client, photo):
    assert client.classify(images=[photo], texts=["a cube"], top=1) == [[("cube", 0.75, True)]]


def test_predict_sends_lists_as_float32_and_strings_as_bytes(client):
    np.testing.assert_array_equal(client.predict({"x": [[1, 2.5]]}, "double")["y"], np.float32([[2, 5]]))
    ids = client.predict({"text": np.array(["ab"])}, "search_by_text", outputs=["ids"])
    assert ids.keys() == {"ids"}
    assert ids["ids"].tolist() == [[b"id-2", b"id-1", b"id-0"]]
    # A trailing zero byte is part of a string.
    assert client.predict({"text": [b"ab\0"]}, "search_by_text")["ids"][0, 0] == b"id-3"


def test_status_metadata_and_models(client):
    assert client.models() == ["searcher"]
    assert client.status() == [(3, "AVAILABLE", "")]
    metadata = client.metadata()
    assert metadata["search_by_text"]["inputs"] == {"text": "string [?]"}
    assert metadata["double"] == {"inputs": {"x": "float [?, 2]"}, "outputs": {"y": "float [?, 2]"}}


def test_unknown_model_suggests_one_that_is_served(port):
    with Client(port=port, model="sercher") as client, pytest.raises(ClientError, match="Did you mean 'searcher'"):
        client.search_by_text(["x"])


def test_unknown_signature_suggests_one_of_the_model(client):
    with pytest.raises(ClientError, match="Did you mean 'classify'") as caught:
        client.predict({"text": ["x"]}, "clasify")
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_refusal_is_passed_on(client):
    with pytest.raises(ClientError, match="Missing but required: {text}") as caught:
        client.classify(images=[b"x"])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_answer_that_takes_too_long(port):
    with Client(port=port, model="searcher", timeout=1e-6) as client, pytest.raises(ClientError, match="no answer"):
        client.search_by_text(["x"])


def test_server_that_lists_nothing_asks_for_a_name(port, monkeypatch):
    with Client(port=port) as client:
        monkeypatch.setattr("serving.client.MODELS_KEY", "another-key")
        with pytest.raises(ClientError, match="no model was named: the server does not list its models"):
            client.search_by_text(["x"])


def test_no_server(free_port):
    with Client(port=free_port, model="m") as client, pytest.raises(ClientError, match="Start one with") as caught:
        client.status()
    assert caught.value.code is Code.UNAVAILABLE


def test_waiting_for_a_server_that_is_starting(searcher, serve, published, tmp_path, free_port):
    published(searcher, tmp_path / "searcher", 1)

    def serve_late():
        time.sleep(0.5)
        with serve(tmp_path, port=free_port):
            answered.wait(30)

    answered = threading.Event()
    server = threading.Thread(target=serve_late)
    server.start()
    try:
        with Client(port=free_port, wait=30) as client:
            assert client.search_by_text(["abc"])[0][0].id == "id-3"
    finally:
        answered.set()
        server.join()


def test_terminal_prints_answers(port, photo, capsys):
    assert main(["--port", str(port), "--text", "a red cube", "--image", str(photo), "--top", "1"]) == 0
    expected = ["a red cube", "  1.  1.0000  id-10  über id-10", str(photo), "  1.  0.7000  id-7  über id-7"]
    assert capsys.readouterr().out.splitlines() == expected


def test_terminal_prints_json(port, photo, capsys):
    arguments = ["--port", str(port), "--json", "--classify", "--image", str(photo), "--text", "a cube"]
    assert main(arguments) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["query"] == f"{photo} + a cube"
    assert answer["answers"][0] == {"name": "cube", "probability": 0.75, "predicted": True}


def test_terminal_prints_status_and_metadata(port, capsys):
    assert main(["--port", str(port), "--status"]) == 0
    assert capsys.readouterr().out == "version 3: AVAILABLE\n"
    assert main(["--port", str(port), "--metadata"]) == 0
    assert "search_by_text\n  input   text: string [?]\n  output  ids: string" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected a question"),
        (["--text", "x", "--status"], 2, "expected a question"),
        (["--classify", "--status"], 2, "--classify needs"),
        (["--classify", "--text", "x", "--text", "y", "--image", "z"], 2, "in pairs"),
        (["--text", "x", "--top", "0"], 2, "at least 1"),
        (["--image", "nowhere.png"], 2, "error: --image nowhere.png: No such file"),
        (["--text", "x", "--model", "nobody"], 1, "error: unknown model 'nobody'"),
    ],
)
def test_terminal_says_what_is_wrong(port, capsys, arguments, code, message):
    try:
        got = main(["--port", str(port), *arguments])
    except SystemExit as error:
        got = error.code
    assert got == code
    assert message in capsys.readouterr().err


def test_terminal_exits_3_without_a_server(free_port, capsys):
    assert main(["--port", str(free_port), "--text", "x"]) == 3
    assert "no server answers at 127.0.0.1" in capsys.readouterr().err


def test_help_answers_without_tensorflow():
    program = (
        "import sys, serving.client_command as c; c.make_parser().format_help(); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
