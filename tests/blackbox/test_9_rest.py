"""Contract section 9: the REST API."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse

import numpy as np
import pytest

from tests.blackbox.client import Code, refused

AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def states(*versions):
    return {"model_version_status": [{"version": version, **AVAILABLE} for version in versions]}


@pytest.mark.parametrize(
    ("choice", "value"), [("", 3.0), ("/versions/2", 2.0), ("/labels/stable", 1.0)], ids=["latest", "version", "label"]
)
def test_predict_by_path(server, choice, value):
    answer = server.rest("POST", f"/v1/models/steady{choice}:predict", {"instances": [0.0]})
    assert (answer.status, answer.value) == (200, {"predictions": [value]})


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models/steady", states("3", "2", "1")),
        ("/v1/models/steady/versions/2", states("2")),
        ("/v1/models/steady/labels/stable", states("3", "2", "1")),
    ],
)
def test_status(server, path, answer):
    response = server.rest("GET", path)
    assert (response.status, response.value) == (200, answer)


@pytest.mark.parametrize(("choice", "version"), [("", "3"), ("/versions/2", "2"), ("/labels/stable", "1")])
def test_metadata_by_path(server, choice, version):
    answer = server.rest("GET", f"/v1/models/steady{choice}/metadata")
    assert answer.status == 200
    assert answer.value["model_spec"]["name"] == "steady"
    assert answer.value["model_spec"]["version"] == version


def test_metadata_keeps_proto_names_and_is_nested_twice(server):
    described = server.rest("GET", "/v1/models/kinds/metadata").value["metadata"]["signature_def"]["signature_def"]
    assert "__saved_model_init_op" in described
    add = described["add"]
    assert set(add["inputs"]) == {"a", "b"}
    assert set(add["outputs"]) == {"sum", "twice"}
    assert add["method_name"] == "tensorflow/serving/predict"
    assert add["inputs"]["b"]["dtype"] == "DT_INT64"
    assert [side["size"] for side in add["inputs"]["b"]["tensor_shape"]["dim"]] == ["-1"]


def test_names_are_decoded(server):
    name = urllib.parse.quote("rolled back")
    assert "%20" in name
    answer = server.rest("POST", f"/v1/models/{name}:predict", {"instances": [0.0]})
    assert answer.value == {"predictions": [2.0]}
    assert server.rest("GET", "/v1/models/newest%20two").status == 200


@pytest.mark.parametrize("path", ["/", "/v2/models/kinds", "/index.html"])
def test_path_outside_the_api(server, path):
    answer = server.rest("GET", path)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/kinds:predict"),
        ("POST", "/v1/models/kinds:explain"),
        ("POST", "/v1/models/kinds"),
        ("DELETE", "/v1/models/kinds"),
    ],
)
def test_path_within_the_api_that_does_not_match(server, method, path):
    answer = server.rest(method, path, b"{}" if method == "POST" else None)
    assert answer.status == 400
    assert f"Malformed request: {method} {path}" in answer.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/models/kinds", 200), ("GET", "/", 404), ("GET", "/v1/models/nobody", 404), ("GET", "/v1/no", 400)],
)
def test_every_answer_is_json(server, method, path, status):
    answer = server.rest(method, path)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    json.loads(answer.text)


@pytest.mark.parametrize(
    ("signature", "inputs", "status", "message"),
    [
        pytest.param("fail", None, 400, "No signature", id="unknown signature: INVALID_ARGUMENT"),
        pytest.param("long_error", [7], 400, "assertion failed", id="INVALID_ARGUMENT"),
        pytest.param("out_of_range", 1.0, 400, "End of sequence", id="OUT_OF_RANGE"),
        pytest.param("read", "no such file", 404, "No such file", id="NOT_FOUND"),
        pytest.param("cancelled", 1.0, 499, "closed", id="CANCELLED"),
        pytest.param("data_loss", "garbage", 500, "inflate", id="DATA_LOSS, one of the rest"),
        pytest.param("echo_float16", [1.0], 501, "", id="UNIMPLEMENTED"),
    ],
)
def test_http_status_of_an_error(server, signature, inputs, status, message):
    answer = server.ask(signature, {"inputs": inputs})
    assert answer.status == status
    assert message in answer.error


def test_http_status_of_a_failed_precondition(batched):
    answer = batched.rest("POST", "/v1/models/merged:predict", {"signature_name": "total", "inputs": [1.0, 2.0]})
    assert answer.status == 400
    assert answer.error


def test_http_status_of_a_full_queue(batched, folder):
    import concurrent.futures

    path = folder.marks / "full over rest"
    held = batched.hold("full", path, in_rows=True)
    body = {"signature_name": "hold", "instances": [str(path)]}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        requests = [pool.submit(batched.rest, "POST", "/v1/models/full:predict", body) for _ in range(4)]
        first = next(concurrent.futures.as_completed(requests)).result()
        held.release()
    assert first.status == 503
    assert "The batch scheduling queue to which this task was submitted is full" in first.error


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("nobody", 404, "Servable not found for request: Latest(nobody)"),
        ("steady/versions/9", 404, "Servable not found for request: Specific(steady, 9)"),
        ("steady/labels/best", 400, "Unrecognized servable version label: best"),
    ],
)
def test_unknown_models(server, model, status, message):
    answer = server.ask("", {"inputs": [1.0]}, model)
    assert answer.status == status
    assert message in answer.error


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nobody", "Could not find any versions of model nobody"),
        ("steady/versions/9", "Could not find version 9 of model steady"),
    ],
)
def test_status_of_unknown_models(server, path, message):
    answer = server.rest("GET", f"/v1/models/{path}")
    assert answer.status == 404
    assert message in answer.error


def test_metadata_of_an_unknown_model(server):
    assert server.rest("GET", "/v1/models/nobody/metadata").status == 404


@pytest.mark.parametrize("instances", [[1.0, 2.5], [{"x": 1.0}, {"x": 2.5}]], ids=["bare", "named"])
def test_rows_of_one_input(server, instances):
    assert server.ask("echo_float32", {"instances": instances}).value == {"predictions": [1.0, 2.5]}


def test_rows_of_several_inputs_and_outputs_are_objects(server):
    rows = [{"a": 1, "b": 2}, {"a": 0.5, "b": -1}]
    assert server.ask("add", {"instances": rows}).value == {
        "predictions": [{"sum": 3.0, "twice": 2.0}, {"sum": -0.5, "twice": 1.0}]
    }


def test_columns_of_one_input_and_output_are_bare(server):
    assert server.ask("echo_float32", {"inputs": [[1.0, 2.0]]}).value == {"outputs": [[1.0, 2.0]]}


def test_columns_of_several_inputs_and_outputs_are_objects(server):
    answer = server.ask("add", {"inputs": {"a": [1.0], "b": [2]}})
    assert answer.value == {"outputs": {"sum": [3.0], "twice": [2.0]}}


@pytest.mark.parametrize(
    ("signature", "outputs"),
    [("total", 3.0), ("uneven", {"y": [1.0, 2.0], "double": [1.0, 2.0, 1.0, 2.0]})],
    ids=["rank 0", "different 0th dimensions"],
)
def test_columns_take_outputs_that_rows_cannot(server, signature, outputs):
    assert server.ask(signature, {"inputs": [1.0, 2.0]}).value == {"outputs": outputs}
    answer = server.ask(signature, {"instances": [1.0, 2.0]})
    assert answer.status == 400
    assert answer.error


def test_no_signature_name_is_the_default(server):
    answer = server.rest("POST", "/v1/models/kinds:predict", {"instances": [[1.0]]})
    assert answer.value == {"predictions": [{"y": [2.0], "z": [2.0]}]}


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        pytest.param("echo_float32", {"instances": [1.0], "inputs": [1.0]}, id="both formats"),
        pytest.param("echo_float32", {}, id="neither format"),
        pytest.param("echo_float32", {"instances": []}, id="empty instances"),
        pytest.param("echo_float32", {"instances": 1.0}, id="instances that are no list"),
        pytest.param("echo_float32", {"inputs": [[1.0], [1.0, 2.0]]}, id="ragged lists"),
        pytest.param("echo_float32", {"instances": [[1.0], [1.0, 2.0]]}, id="ragged rows"),
        pytest.param("echo_float32", {"inputs": [[1.0], 2.0]}, id="lists of different depths"),
        pytest.param("echo_float32", {"inputs": [True]}, id="truth for a float"),
        pytest.param("echo_float32", {"inputs": ["1"]}, id="text for a float"),
        pytest.param("echo_float32", {"inputs": [None]}, id="null for a float"),
        pytest.param("echo_int32", {"inputs": [1.0]}, id="decimal for an integer"),
        pytest.param("echo_bool", {"inputs": [1]}, id="number for a truth"),
        pytest.param("strings", {"inputs": [1]}, id="number for a string"),
        pytest.param("strings", {"inputs": [{"b64": "?"}]}, id="b64 that is not base64"),
        pytest.param("add", {"instances": [{"a": 1.0}]}, id="row without a key"),
        pytest.param("add", {"instances": [{"a": 1.0, "b": 1, "c": 1}]}, id="row with a key more"),
        pytest.param("add", {"instances": [{"a": 1.0, "b": 1}, {"a": 1.0}]}, id="rows of different keys"),
        pytest.param("add", {"inputs": {"a": [1.0]}}, id="columns without a key"),
        pytest.param("add", {"inputs": {"a": [1.0], "b": [1], "c": [1]}}, id="columns with a key more"),
        pytest.param("add", {"inputs": [1.0]}, id="bare column for several inputs"),
    ],
)
def test_bad_prediction(server, signature, body):
    answer = server.ask(signature, body)
    assert answer.status == 400
    assert answer.error


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff"], ids=["empty", "cut", "list", "number", "bytes"])
def test_body_that_is_no_object(server, body):
    answer = server.rest("POST", "/v1/models/kinds:predict", body)
    assert answer.status == 400
    assert answer.error


def test_integers_are_fine_for_floats(server):
    assert server.ask("echo_float32", {"inputs": [1, -2]}).value == {"outputs": [1.0, -2.0]}


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        pytest.param("float32", "3", "3.0", id="a point"),
        pytest.param("float32", "2.1", "2.1", id="short as float32 allows"),
        pytest.param("float32", "0.1", "0.1", id="not 0.100000001"),
        pytest.param("float32", "-0.0", "-0.0", id="negative zero"),
        pytest.param("float32", "NaN", "NaN", id="not a number"),
        pytest.param("float32", "Infinity", "Infinity", id="infinity"),
        pytest.param("float32", "-Infinity", "-Infinity", id="negative infinity"),
        pytest.param("float64", "2.1", "2.1", id="double"),
        pytest.param("float64", "3", "3.0", id="double with a point"),
        pytest.param("int32", "3", "3", id="integers have none"),
        pytest.param("int64", "9007199254740993", "9007199254740993", id="large integers are whole"),
        pytest.param("uint8", "200", "200", id="unsigned"),
        pytest.param("bool", "true", "true", id="truth"),
    ],
)
def test_number(server, name, given, text):
    body = f'{{"signature_name": "echo_{name}", "inputs": [{given}]}}'.encode()
    answer = server.rest("POST", "/v1/models/kinds:predict", body)
    assert answer.status == 200, answer.text
    assert re.sub(r"\s", "", answer.text) == f'{{"outputs":[{text}]}}'


@pytest.mark.parametrize("value", [1e30, 1e-30, 1.0 / 3.0, 16777216.0, 3.4028235e38, 1e-45])
def test_floats_carry_a_point_or_an_exponent_and_come_back_the_same(server, value):
    text = server.ask("echo_float32", {"inputs": value}).text
    (number,) = re.findall(r"[-+.\de]+(?=\s*})", text)
    assert re.search(r"[.e]", number)
    assert np.float32(number) == np.float32(value)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("data", [b"\x00\xff\xfe", b"", b"text"])
@pytest.mark.parametrize("form", ["instances", "inputs", "nested", "named"])
def test_bytes(server, data, form):
    """An output whose alias ends in `_bytes` comes back as it went in; the other one as text."""
    value = b64(data)
    body = {
        "instances": {"instances": [value]},
        "inputs": {"inputs": [value]},
        "nested": {"instances": [[value, value]]},
        "named": {"instances": [{"text": value}]},
    }[form]
    answer = server.ask("strings", body).value
    raw = answer["outputs"]["raw_bytes"][0] if form == "inputs" else answer["predictions"][0]["raw_bytes"]
    assert raw == ([value, value] if form == "nested" else value)


def test_strings_are_text_where_the_alias_does_not_end_in_bytes(server):
    answer = server.ask("strings", {"instances": ["grüße", b64(b"bytes")]}).value["predictions"]
    assert [row["text"] for row in answer] == ["grüße", "bytes"]
    assert [row["raw_bytes"] for row in answer] == [b64("grüße".encode()), b64(b"bytes")]
    assert [row["length"] for row in answer] == [7, 5]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "complex64", "complex128"])
def test_inputs_that_have_no_json(server, name):
    answer = server.ask(f"echo_{name}", {"inputs": [1.0]})
    assert answer.status == 501
    assert answer.error


@pytest.mark.parametrize("signature", ["to_half", "to_complex"])
def test_outputs_that_have_no_json(server, signature):
    answer = server.ask(signature, {"inputs": [1.0]})
    assert answer.status == 400
    assert answer.error


def test_unknown_signature_is_looked_up_before_predict(server):
    answer = server.ask("nothing", {"inputs": [1.0]})
    assert answer.status == 400
    with refused(Code.FAILED_PRECONDITION, 'Serving signature key "nothing" not found.'):
        server.predict("kinds", {}, "nothing")


@pytest.mark.parametrize("choice", ["", "/versions/4"])
def test_classify(server, choice):
    body = {"examples": [{"x": 0.25}, {"x": [1.0]}]}
    answer = server.rest("POST", f"/v1/models/judge{choice}:classify", body)
    assert answer.value == {"results": [[["low", 0.75], ["high", 0.25]], [["low", 0.0], ["high", 1.0]]]}


def test_regress(server):
    body = {"signature_name": "twice", "examples": [{"x": 1.5}, {"x": [2.5]}]}
    assert server.rest("POST", "/v1/models/judge:regress", body).value == {"results": [3.0, 5.0]}


def test_context(server):
    body = {"signature_name": "twice", "context": {"x": 1.0}, "examples": [{}, {"x": 7.0}]}
    assert server.rest("POST", "/v1/models/judge:regress", body).value == {"results": [2.0, 14.0]}


def test_scores_without_classes_have_empty_labels(server):
    body = {"signature_name": "scores", "examples": [{"x": 0.25}]}
    assert server.rest("POST", "/v1/models/judge:classify", body).value == {"results": [[["", 0.75], ["", 0.25]]]}


def test_bytes_in_examples(server, folder):
    path = folder.marks / "example"
    body = {"signature_name": "twice", "examples": [{"x": 1.0, "path": b64(str(path).encode())}]}
    assert server.rest("POST", "/v1/models/judge:regress", body).value == {"results": [2.0]}
    assert path.with_name("example.0").exists()


def test_text_in_examples(server, folder):
    path = folder.marks / "text example"
    body = {"signature_name": "twice", "examples": [{"x": 1.0, "path": str(path)}]}
    assert server.rest("POST", "/v1/models/judge:regress", body).value == {"results": [2.0]}
    assert path.with_name("text example.0").exists()


def test_whole_number_is_no_float_feature(server):
    answer = server.rest("POST", "/v1/models/judge:classify", {"examples": [{"x": 2}]})
    assert answer.status == 400
    assert "x" in answer.error
    assert server.rest("POST", "/v1/models/judge:classify", {"examples": [{"x": 2.0}]}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="no examples"),
        pytest.param({"examples": []}, id="empty examples"),
        pytest.param({"examples": {}}, id="examples that are no list"),
        pytest.param({"examples": [3]}, id="example that is no object"),
        pytest.param({"examples": [{"x": [1.0, "a"]}]}, id="feature of several types"),
        pytest.param({"examples": [{"x": 1.0}], "context": 3}, id="context that is no object"),
        pytest.param({"examples": [{"x": 1.0}], "signature_name": "nothing"}, id="unknown signature"),
        pytest.param({"examples": [{"x": 1.0}], "signature_name": "twice"}, id="signature of another method"),
    ],
)
def test_bad_examples(server, body):
    answer = server.rest("POST", "/v1/models/judge:classify", body)
    assert answer.status == 400
    assert answer.error


def test_default_input_may_be_left_out(server):
    name = "/v1/models/with%20default:predict"
    assert server.rest("POST", name, {"inputs": {"x": [2.0]}}).value == {"outputs": [6.0]}


def test_no_cors_header_by_default(server):
    headers = server.rest("GET", "/v1/models/kinds").headers
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_cors_header_where_the_flag_asks_for_it(batched):
    assert batched.rest("GET", "/v1/models/merged").headers["Access-Control-Allow-Origin"] == "*"
