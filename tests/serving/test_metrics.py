"""The Prometheus page."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.metrics import COUNT, Metrics, read_path
from tfthesis.errors import UserError

PATH = "/monitoring/prometheus/metrics"


def fetch(stub, path=PATH):
    with urllib.request.urlopen(f"http://127.0.0.1:{stub.rest_port}{path}", timeout=20) as response:
        assert response.headers["Content-Type"] == "text/plain"
        return response.read().decode()


def value(page, name, **labels):
    """Return the number of a line of the page, None without one."""
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    match = re.search("^" + re.escape(f":tensorflow:serving:{name}{{{inside}}} ") + "(.*)$", page, re.MULTILINE)
    return match and float(match[1])


@pytest.fixture
def stub(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0, metrics_path=PATH) as stub:
        yield stub


def ask_rest(stub, body=b'{"instances": [0.0]}', model="constant"):
    url = f"http://127.0.0.1:{stub.rest_port}/v1/models/{model}:predict"
    with urllib.request.urlopen(url, data=body, timeout=20) as response:
        return response.status


def test_requests_are_counted_by_status_and_timed_where_they_succeed(stub):
    for _ in range(3):
        stub.value("constant")
    ask_rest(stub)
    with pytest.raises(urllib.error.HTTPError):
        ask_rest(stub, b"{")
    page = fetch(stub)
    assert value(page, "request_count", model_name="constant", status="OK") == 4
    assert value(page, "request_count", model_name="constant", status="INVALID_ARGUMENT") == 1
    for entrypoint, count in (("GRPC", 3), ("REST", 1)):
        labels = {"model_name": "constant", "API": "Predict", "entrypoint": entrypoint}
        assert value(page, "request_latency_count", **labels) == count
        assert value(page, "request_latency_bucket", **labels, le="+Inf") == count
        assert value(page, "request_latency_sum", **labels) > 10 * count
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram" in page


def test_time_in_the_model_is_part_of_the_latency(stub):
    for _ in range(3):
        stub.value("constant")
    page = fetch(stub)
    run = value(page, "runtime_latency_sum", model_name="constant", API="Predict", runtime="TF1")
    whole = value(page, "request_latency_sum", model_name="constant", API="Predict", entrypoint="GRPC")
    assert 0 < run < whole
    assert value(page, "runtime_latency_count", model_name="constant", API="Predict", runtime="TF1") == 3


def test_examples_and_warm_up(judge, published, serve, tmp_path):
    folder = published(judge, tmp_path / "judge", 1)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "judge"
    for number in range(3):
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(number)
    log = prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    with serve(tmp_path, rest_port=0, metrics_path=PATH) as stub:
        service = prediction_service_pb2_grpc.PredictionServiceStub(stub.channel)
        service.Classify(request, timeout=20)
        del request.input.example_list.examples[1:]
        service.Classify(request, timeout=20)
        page = fetch(stub)
    # What warms up is no request.
    assert value(page, "request_example_count_total", model="judge") == 4
    assert value(page, "request_example_counts_count", model="judge") == 2
    assert value(page, "request_example_counts_bucket", model="judge", le="2.0") == 1
    assert value(page, "request_example_counts_bucket", model="judge", le="4.0") == 2
    assert value(page, "runtime_latency_count", model_name="judge", API="Classify", runtime="TF1") == 2
    assert value(page, "model_warmup_latency_count", model_path=str(folder), status="OK") == 1
    assert value(page, "model_warmup_latency_sum", model_path=str(folder), status="OK") > 100


def test_warm_ups_do_not_grow_the_page_for_ever():
    metrics = Metrics()
    for number in range(300):
        metrics.note_warm_up(Path(f"/models/m/{number}"), grpc.StatusCode.OK, 1.0)
    listed = re.findall(r'warmup_latency_count\{model_path="/models/m/(\d+)"', metrics.page())
    assert sorted(map(int, listed)) == list(range(200, 300))


def test_buckets_rise_to_the_count(stub):
    for _ in range(5):
        stub.value("constant")
    counts = re.findall(r"request_latency_bucket\{.*\} (\d+)$", fetch(stub), re.MULTILINE)
    counts = [int(count) for count in counts]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 5


def test_unknown_models_are_one_line(stub):
    for number in range(5):
        with pytest.raises(grpc.RpcError):
            stub.value(f"nobody-{number}")
    page = fetch(stub)
    assert value(page, "request_count", model_name="(unknown)", status="NOT_FOUND") == 5
    assert "nobody" not in page


def test_no_page_unless_asked_for(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0) as stub, pytest.raises(urllib.error.HTTPError) as caught:
        fetch(stub)
    assert caught.value.code == 404


def test_names_are_escaped():
    metrics = Metrics(lambda: ['a"b\\c\nd'])
    with metrics.measure("Predict", "GRPC", 'a"b\\c\nd'):
        pass
    assert r':tensorflow:serving:request_count{model_name="a\"b\\c\nd",status="OK"} 1' in metrics.page()


def test_what_nobody_expected_counts_as_internal():
    metrics = Metrics(lambda: ["m"])
    with pytest.raises(ZeroDivisionError), metrics.measure("Predict", "GRPC", "m"):
        raise ZeroDivisionError
    assert 'status="INTERNAL"} 1' in metrics.page()


def test_reload_tells_by_how_much_counters_grew(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, allowed_base_paths=[tmp_path]) as stub:
        stub.value("constant")
        request = model_management_pb2.ReloadConfigRequest(metric_names=[COUNT, "/unknown"])
        config = f'config {{ name: "constant" base_path: "{tmp_path}/constant" model_platform: "tensorflow" }}'
        text_format.Parse(f"model_config_list {{ {config} }}", request.config)
        response = model_service_pb2_grpc.ModelServiceStub(stub.channel).HandleReloadConfigRequest(request, timeout=20)
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [(COUNT, 0)]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", PATH),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ],
)
def test_configuration(tmp_path, text, path):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert read_path(file) == path


@pytest.mark.parametrize("text", ["prometheus {", 'prometheus_config { enable: true path: "m" }'])
def test_bad_configuration(tmp_path, text):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    with pytest.raises(UserError, match="--monitoring_config_file"):
        read_path(file)
