"""The REST API over plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.errors import ServingError
from serving.rest.app import Response
from serving.rest.http import RestOptions, RestServer
from serving.rest.numbers import Float, dumps


class Many(tf.Module):
    """Signatures for what JSON can hold."""

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def floats(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.int32, name="x")])
    def ints(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.bool, name="x")])
    def truths(self, x):
        return {"y": tf.logical_not(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float16, name="x")])
    def halves(self, x):
        return {"y": tf.cast(x, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def to_halves(self, x):
        return {"y": tf.cast(x, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def strings(self, text):
        return {"text": tf.identity(text), "raw_bytes": tf.identity(text)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.int64, name="b")]
    )
    def add(self, a, b):
        return {"sum": a + tf.cast(b, tf.float32), "twice": 2 * a}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Folder of a SavedModel with a signature for each kind of tensor."""
    folder = tmp_path_factory.mktemp("many")
    module = Many()
    names = ("floats", "ints", "truths", "halves", "to_halves", "strings", "add", "total")
    tf.saved_model.save(module, str(folder), signatures={name: getattr(module, name) for name in names})
    return folder


@pytest.fixture(scope="module")
def server(constants, judge, many, published, serve, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rest")
    published(many, folder / "models" / "many", 5)
    published(constants[1], folder / "models" / "constant", 1)
    published(constants[2], folder / "models" / "a constant", 2)
    published(judge, folder / "models" / "judge", 1)
    with serve(folder / "models", rest_port=0, max_request_bytes=100_000) as stub:
        yield stub


def send(server, method, path, body=None, headers=()):
    """Return status and JSON value of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, dict(headers))
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/json"
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text), text


def predict(server, signature, body, path="/v1/models/many"):
    return send(server, "POST", f"{path}:predict", {"signature_name": signature, **body})


def test_rows_of_one_input_are_bare_or_named(server):
    for rows in ([1.0, 2.5], [{"x": 1.0}, {"x": 2.5}]):
        status, _, text = predict(server, "floats", {"instances": rows})
        assert status == 200
        assert re.sub(r"\s", "", text) == '{"predictions":[1.0,2.5]}'


def test_rows_of_several_inputs_and_outputs_are_objects(server):
    rows = [{"a": 1, "b": 2}, {"a": 0.5, "b": -1}]
    status, value, _ = predict(server, "add", {"instances": rows})
    assert (status, value) == (200, {"predictions": [{"sum": 3.0, "twice": 2.0}, {"sum": -0.5, "twice": 1.0}]})


def test_columns_take_what_rows_cannot(server):
    assert predict(server, "floats", {"inputs": 2})[1] == {"outputs": 2.0}
    assert predict(server, "total", {"inputs": [1.0, 2.0]})[1] == {"outputs": 3.0}
    columns = {"inputs": {"a": [1.0], "b": [2]}}
    assert predict(server, "add", columns)[1] == {"outputs": {"sum": [3.0], "twice": [2.0]}}
    status, value, _ = predict(server, "total", {"instances": [1.0, 2.0]})
    assert status == 400
    assert "rows" in value["error"]


@pytest.mark.parametrize("x", [[], [[]], [[[1.0], [2.0]]], [[1.0, 2.0], [3.0, 4.0]]])
def test_shapes_survive(server, x):
    assert predict(server, "floats", {"inputs": x})[1] == {"outputs": x}


def test_floats_are_short_and_special_values_bare(server):
    body = b'{"signature_name": "floats", "inputs": [2.1, 3, 1e30, NaN, Infinity, -Infinity, -0.0]}'
    _, _, text = send(server, "POST", "/v1/models/many:predict", body)
    values = re.search(r"\[(.*)\]", text)[1].split(", ")
    assert values[:2] == ["2.1", "3.0"]
    assert np.float32(values[2]) == np.float32(1e30)
    assert values[3:] == ["NaN", "Infinity", "-Infinity", "-0.0"]


def test_bytes_go_both_ways(server):
    raw = b"\x00\xff\xfe"
    rows = ["text", {"b64": base64.b64encode(raw).decode()}]
    _, value, _ = predict(server, "strings", {"instances": rows})
    assert value["predictions"][0] == {"text": "text", "raw_bytes": {"b64": "dGV4dA=="}}
    assert base64.b64decode(value["predictions"][1]["raw_bytes"]["b64"]) == raw


def test_booleans(server):
    assert predict(server, "truths", {"inputs": [True, False]})[1] == {"outputs": [False, True]}


@pytest.mark.parametrize(
    ("signature", "body", "status", "message"),
    [
        ("floats", {"instances": []}, 400, "not empty"),
        ("floats", {"instances": [1.0], "inputs": [1.0]}, 400, "exactly one"),
        ("floats", {}, 400, "exactly one"),
        ("floats", {"inputs": [[1.0], [1.0, 2.0]]}, 400, "equal length"),
        ("floats", {"inputs": [[1.0], 2.0]}, 400, "equal length"),
        ("floats", {"inputs": [1.0, [2.0]]}, 400, "equal depth"),
        ("floats", {"inputs": [True]}, 400, "expected float32, got True"),
        ("floats", {"inputs": ["1"]}, 400, "expected float32, got '1'"),
        ("floats", {"inputs": None}, 400, "expected float32, got None"),
        ("ints", {"inputs": [1.0]}, 400, "expected int32, got 1.0"),
        ("ints", {"inputs": [2**40]}, 400, "does not fit int32"),
        ("truths", {"inputs": [1]}, 400, "expected bool"),
        ("strings", {"inputs": [{"b64": "?"}]}, 400, "base64"),
        ("strings", {"inputs": [{"b64": 3}]}, 400, "base64"),
        ("add", {"instances": [{"a": 1.0}]}, 400, "input size does not match signature: 1!=2"),
        ("add", {"instances": [{"a": 1.0, "b": 1}, {"a": 1.0}]}, 400, "the same in each row"),
        ("add", {"instances": [1.0]}, 400, "expected objects"),
        ("add", {"inputs": [1.0]}, 400, "expected an object"),
        ("add", {"inputs": {"a": [1.0], "c": [1]}}, 400, "'c' is not in the signature"),
        ("halves", {"inputs": [1.0]}, 501, "JSON has no float16"),
        ("to_halves", {"inputs": [1.0]}, 400, "JSON has no float16"),
        ("nothing", {"inputs": [1.0]}, 400, "No signature was found with the name: nothing"),
        (3, {"inputs": [1.0]}, 400, "'signature_name': expected a string"),
        ("\ud800", {"inputs": [1.0]}, 400, "surrogates not allowed"),
        ("strings", {"inputs": ["\udfff"]}, 400, "surrogates not allowed"),
    ],
)
def test_bad_predictions(server, signature, body, status, message):
    answer, value, _ = predict(server, signature, body)
    assert answer == status
    assert message in value["error"]
    assert list(value) == ["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"inputs": 1, "inputs": 2}'],
)
def test_bodies_that_are_no_request(server, body):
    status, value, _ = send(server, "POST", "/v1/models/many:predict", body)
    assert status == 400
    assert "JSON Parse error" in value["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/", 404, "Not Found"),
        ("GET", "/v2/models/many", 404, "Not Found"),
        ("GET", "/v1/../etc/passwd", 400, "Malformed request: GET /v1/../etc/passwd"),
        ("GET", "/v1/models", 400, "Malformed request: GET /v1/models"),
        ("GET", "/v1/models/many:predict", 400, "Malformed request: GET"),
        ("POST", "/v1/models/many:explain", 400, "Malformed request: POST /v1/models/many:explain"),
        ("POST", "/v1/models/many", 400, "Malformed request: POST"),
        ("GET", "/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("GET", "/v1/models/many/versions/6", 404, "Could not find version 6 of model many"),
        ("GET", "/v1/models/many/versions/9999999999999999999", 400, "64-bit"),
        ("DELETE", "/v1/models/many", 400, "Malformed request"),
        ("OPTIONS", "/v1/models/many", 400, "Malformed request"),
    ],
)
def test_paths_that_lead_nowhere(server, method, path, status, message):
    answer, value, _ = send(server, method, path)
    assert answer == status
    assert message in value["error"]


def test_unknown_models_and_labels_of_predictions(server):
    body = {"inputs": [1.0]}
    assert predict(server, "", body, "/v1/models/nobody")[:2] == (
        404,
        {"error": "Servable not found for request: Latest(nobody)"},
    )
    assert predict(server, "", body, "/v1/models/constant/versions/9")[0] == 404
    status, value, _ = predict(server, "", body, "/v1/models/constant/labels/best")
    assert (status, value["error"]) == (400, "Unrecognized servable version label: best")


def test_names_are_decoded_and_versions_chosen(server):
    assert predict(server, "", {"instances": [0.0]}, "/v1/models/a%20constant")[1] == {"predictions": [2.0]}
    assert predict(server, "", {"instances": [0.0]}, "/v1/models/constant/versions/1")[1] == {"predictions": [1.0]}


def test_status(server):
    for path in ("/v1/models/many", "/v1/models/many/versions/5", "/v1/models/many?x=1"):
        state = {"version": "5", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        assert send(server, "GET", path)[1] == {"model_version_status": [state]}


def test_metadata(server):
    status, value, _ = send(server, "GET", "/v1/models/many/metadata")
    assert status == 200
    assert value["model_spec"] == {"name": "many", "signature_name": "", "version": "5"}
    described = value["metadata"]["signature_def"]["signature_def"]["add"]
    assert set(described["inputs"]) == {"a", "b"}
    assert described["inputs"]["b"]["dtype"] == "DT_INT64"
    assert described["inputs"]["b"]["tensor_shape"]["dim"][0]["size"] == "-1"


def test_classify_and_regress(server):
    examples = {"examples": [{"x": 0.25}, {}], "context": {"x": 1.0}}
    assert send(server, "POST", "/v1/models/judge:classify", examples)[1] == {
        "results": [[["low", 0.75], ["high", 0.25]], [["low", 0.0], ["high", 1.0]]]
    }
    request = {"signature_name": "twice", "examples": [{"x": 1.5}, {"x": [2.5]}]}
    assert send(server, "POST", "/v1/models/judge:regress", request)[1] == {"results": [3.0, 5.0]}


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"examples": [{"x": 2}]}, "Key: x"),
        ({"examples": []}, "not empty"),
        ({}, "'examples'"),
        ({"examples": [3]}, "expected an object of features"),
        ({"examples": [{"x": [1.0, "a"]}]}, "one type"),
        ({"examples": [{"x": None}]}, "one type"),
        ({"examples": [{"x": 2**70}]}, "one type"),
        ({"examples": [{"x": 1.0}], "context": 3}, "'context'"),
        ({"examples": [{"\ud800": 1.0}]}, "surrogates not allowed"),
    ],
)
def test_bad_examples(server, examples, message):
    status, value, _ = send(server, "POST", "/v1/models/judge:classify", examples)
    assert status == 400
    assert message in value["error"]


def test_body_above_the_limit(server):
    head = b"POST /v1/models/many:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    asked = exchange(server.rest_port, head % 100_001 + b"Expect: 100-continue\r\n\r\n")
    sent = exchange(server.rest_port, head % 5_000_000 + b"\r\n" + b" " * 5_000_000)
    for answer, size in ((asked, 100_001), (sent, 5_000_000)):
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"%d bytes, allowed are 100000" % size in answer
    assert send(server, "POST", "/v1/models/many:predict", b" " * 100_000)[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Transfer-Encoding: gzip\r\n", b"501"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", b"400"),
        (b"Content-Length: many\r\n", b"400"),
        (b"Content-Length: -1\r\n", b"400"),
        (b"", b"400"),
    ],
)
def test_bodies_of_unknown_length(server, headers, status):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/models/many:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n"
        )
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 " + status)


def test_connection_is_kept_after_answers_and_refusals(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    for path, status in (("/v1/models/many", 200), ("/v1/models/nobody", 404), ("/", 404), ("/v1/models/many", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert not response.will_close
    connection.close()


def exchange(port, data):
    """Return all that a server sends for the bytes `data`, the last of which has to end the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        return connection.makefile("rb").read()


POST = b"POST /v1/models/many:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"DELETE"])
def test_body_of_a_request_that_needs_none_is_not_the_next_request(server, method):
    inner = b"GET /v1/models/nobody HTTP/1.1\r\nHost: x\r\n\r\n"
    length = f"Content-Length: {len(inner)}\r\n\r\n".encode()
    after = b"GET /v1/models/many HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = exchange(server.rest_port, method + b" /v1/models/many HTTP/1.1\r\nHost: x\r\n" + length + inner + after)
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"nobody" not in answers
    assert b"AVAILABLE" in answers


def test_chunked_bodies(server):
    body = b'{"signature_name": "floats", "instances": [1.0, 2.5]}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    head = (
        b"POST /v1/models/many:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert b"[1.0, 2.5]" in exchange(server.rest_port, head + chunks)
    endless = b"%x\r\n" % 200_000 + b" " * 200_000 + b"\r\n0\r\n\r\n"
    assert exchange(server.rest_port, head + endless).startswith(b"HTTP/1.1 429")


@pytest.mark.parametrize(
    "line", [b"GET http://[ HTTP/1.1", b"GET //[x HTTP/1.1", b"nonsense", b"GET / HTTP/9.x", b"\xff\xfe"]
)
def test_what_is_no_request_is_answered(server, line):
    answer = exchange(server.rest_port, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404")
    assert list(json.loads(body)) == ["error"]


def test_no_body_for_head(server):
    answer = exchange(server.rest_port, b"HEAD /v1/models/many HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"\r\n\r\n")


def test_slow_clients_hold_no_thread(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0, rest=RestOptions(threads=1)) as stub, contextlib.ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", stub.rest_port), timeout=20))
            slow.sendall(b"POST /v1/models/constant:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{")
        assert send(stub, "POST", "/v1/models/constant:predict", {"instances": [0.0]})[0] == 200
        slow.sendall(b'"instances": [0.0] }')
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")


def test_connections_are_bounded(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0, rest=RestOptions(connections=6)) as stub:
        idle = [socket.create_connection(("127.0.0.1", stub.rest_port), timeout=20) for _ in range(10)]
        connection = http.client.HTTPConnection("127.0.0.1", stub.rest_port, timeout=1.5)
        connection.request("GET", "/v1/models/constant")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        for other in idle:
            other.close()
        assert send(stub, "GET", "/v1/models/constant")[0] == 200


class Slow:
    """Stands for the API: the first call takes half a second, and all note how long they may take."""

    def __init__(self):
        self.seconds = []

    def post(self, path, body, seconds):
        self.seconds.append(seconds)
        if len(self.seconds) == 1:
            time.sleep(0.5)
        return {}


def test_deadline_covers_the_wait_for_a_thread():
    for allowed, last in ((20.0, 200), (0.3, 504)):
        api = Slow()
        server = RestServer(api, "127.0.0.1", 0, RestOptions(threads=1, seconds=allowed))
        server.start()
        first = threading.Thread(target=exchange, args=(server.port, POST))
        first.start()
        while not api.seconds:
            time.sleep(0.01)
        assert exchange(server.port, POST).startswith(b"HTTP/1.1 %d" % last)
        first.join()
        assert server.stop(20)
        # The second waited for most of the first one's half second, and is not started when its time is over.
        assert all(seconds < allowed for seconds in api.seconds)
        assert len(api.seconds) == (2 if last == 200 else 1)
        assert last == 504 or api.seconds[1] < allowed - 0.2


def test_pages_by_path_and_by_its_beginning(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)

    def echo(request):
        return Response(200, "text/plain", f"{request.method} {request.path} {request.query}".encode() + request.body)

    def refuse(request):
        raise ServingError(grpc.StatusCode.NOT_FOUND, "no such picture")

    pages = {"/echo/*": echo, "/echo/no/*": refuse, "/": echo, "/one": echo, "/broken": lambda request: 1 / 0}
    with serve(tmp_path, rest_port=0, rest=RestOptions(pages=pages)) as stub:
        base = f"http://127.0.0.1:{stub.rest_port}"
        assert urllib.request.urlopen(base + "/echo/a%2Fb?q=1", data=b" body").read() == b"POST /echo/a%2Fb q=1 body"
        assert urllib.request.urlopen(base + "/one").read() == b"GET /one "
        assert send(stub, "GET", "/echo/no/way")[:2] == (404, {"error": "no such picture"})
        assert urllib.request.urlopen(base + "/").read() == b"GET / "
        assert send(stub, "GET", "/one/more")[0] == 404
        assert send(stub, "GET", "/broken")[:2] == (500, {"error": "internal error: ZeroDivisionError"})


def test_answers_are_sent_whole_before_the_end(many, serve, published, tmp_path):
    published(many, tmp_path / "many", 1)
    values = list(range(400_000))
    data = json.dumps({"signature_name": "ints", "inputs": values}).encode()
    head = b"POST /v1/models/many:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
    with socket.socket() as connection:
        # So little that most of the answer waits in the server until somebody reads it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with serve(tmp_path, rest_port=0) as stub:
            connection.connect(("127.0.0.1", stub.rest_port))
            connection.settimeout(20)
            connection.sendall(head + data)
            beginning = connection.recv(100)
            rest = []
            reader = threading.Timer(0.5, lambda: rest.append(connection.makefile("rb").read()))
            reader.start()
        reader.join()
    answer = json.loads((beginning + rest[0]).partition(b"\r\n\r\n")[2])
    assert answer["outputs"] == values


def test_pages_of_other_origins_only_where_asked_for(constants, published, serve, server, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0, rest=RestOptions(cors=True)) as stub:
        for port, header in ((server.rest_port, None), (stub.rest_port, "*")):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/v1/models/constant")
            assert connection.getresponse().headers["Access-Control-Allow-Origin"] == header
            connection.close()


def test_request_that_takes_too_long(everything, published, serve, tmp_path):
    published(everything, tmp_path / "models" / "everything", 1)
    with serve(tmp_path / "models", rest_port=0, rest=RestOptions(seconds=0.3)) as stub:
        body = {"signature_name": "hold", "inputs": str(tmp_path / "never")}
        assert send(stub, "POST", "/v1/models/everything:predict", body)[0] == 504
        (tmp_path / "never").touch()


@pytest.mark.parametrize("depth", [70, 600])
def test_lists_deeper_than_a_tensor(server, depth):
    body = b'{"signature_name": "floats", "inputs": ' + b"[" * depth + b"1.0" + b"]" * depth + b"}"
    status, value, _ = send(server, "POST", "/v1/models/many:predict", body)
    assert status == 400
    assert "64 dimensions" in value["error"]


def test_stopping_ends_what_runs_and_refuses_the_rest(everything, published, serve, tmp_path):
    published(everything, tmp_path / "models" / "everything", 1)
    go_on, results = tmp_path / "go on", []
    body = {"signature_name": "hold", "inputs": str(go_on)}
    with serve(tmp_path / "models", rest_port=0) as stub:
        kept = http.client.HTTPConnection("127.0.0.1", stub.rest_port, timeout=20)
        kept.request("GET", "/v1/models/everything")
        kept.getresponse().read()

        def ask():
            results.append(send(stub, "POST", "/v1/models/everything:predict", body)[0])

        def ask_late():
            kept.request("GET", "/v1/models/everything")
            answer = kept.getresponse()
            results.append((answer.status, answer.will_close))
            go_on.touch()

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
        late = threading.Timer(0.7, ask_late)
        late.start()
    late.join()
    asking.join()
    assert results == [(503, True), 200]


def test_rest_refuses_while_a_request_over_grpc_ends(everything, published, serve, stub_of, tmp_path):
    published(everything, tmp_path / "models" / "everything", 1)
    statuses = []
    with serve(tmp_path / "models", rest_port=0) as stub:
        kept = http.client.HTTPConnection("127.0.0.1", stub.rest_port, timeout=20)
        kept.request("GET", "/v1/models/everything")
        kept.getresponse().read()
        # On a channel of its own, which is not closed before the server is told to stop.
        held, results = stub_of(stub.port).hold("everything", tmp_path / "go on")

        def ask_late():
            for ask in (ask_on_the_kept_connection, lambda: send(stub, "GET", "/v1/models/everything")):
                try:
                    statuses.append(ask())
                except (ConnectionError, http.client.HTTPException) as error:
                    statuses.append(type(error))
            (tmp_path / "go on").touch()

        def ask_on_the_kept_connection():
            kept.request("GET", "/v1/models/everything")
            return kept.getresponse().status

        time.sleep(0.3)
        late = threading.Timer(0.7, ask_late)
        late.start()
    late.join()
    held.join()
    assert results == [1]
    # With nothing to answer over REST, that port is closed while the other one still works.
    assert statuses[0] in (503, http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
    assert statuses[1] is ConnectionRefusedError


def test_hosts_that_the_server_is_not_asked_as(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0, demo_indexes=[]) as stub, serve(tmp_path, rest_port=0) as open_to_all:
        for host, port, status in (
            ("localhost:1234", stub.rest_port, 200),
            ("127.0.0.1", stub.rest_port, 200),
            ("[::1]:80", stub.rest_port, 200),
            ("elsewhere.example", stub.rest_port, 403),
            ("localhost.elsewhere.example", stub.rest_port, 403),
            ("", stub.rest_port, 403),
            ("elsewhere.example", open_to_all.rest_port, 200),
        ):
            line = b"GET /v1/models/constant HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode() + b"\r\n\r\n"
            assert exchange(port, line).startswith(b"HTTP/1.1 %d" % status), host


def test_numbers_alone():
    assert dumps([1, 1.0, Float(np.float32(0.1)), "é\n", None, True, {"a": []}]) == (
        '[1, 1.0, 0.1, "é\\n", null, true, {"a": []}]'
    )


def test_two_ports_have_to_differ(tmp_path, capsys):
    from serving.server import main

    with pytest.raises(SystemExit):
        main(["--model_base_path", str(tmp_path), "--port", "8500", "--rest_api_port", "8500"])
    assert "expected two ports" in capsys.readouterr().err
