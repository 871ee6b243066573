"""Contract section 10: the Prometheus page."""

from __future__ import annotations

import re

import grpc
import pytest

from tests.blackbox.models import METRICS_PATH, example, examples

LINE = re.compile(r"^:tensorflow:serving:(\w+)\{(.*?)\} (\S+)$", re.MULTILINE)


@pytest.fixture
def page(server):
    """Return a function that reads the page: the number of each line by its name and labels."""

    def read():
        answer = server.rest("GET", METRICS_PATH)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        return {
            (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(number)
            for name, labels, number in LINE.findall(answer.text)
        }

    return read


def grown(before, after, name, **labels):
    key = name, frozenset(labels.items())
    return after.get(key, 0) - before.get(key, 0)


def failing(call, *arguments):
    with pytest.raises(grpc.RpcError):
        call(*arguments)


def test_requests_are_counted_by_model_and_status(server, page):
    before = page()
    for _ in range(3):
        server.value("steady")
    server.ask("", {"instances": [0.0]}, "steady")
    failing(server.predict, "steady", {})
    after = page()
    assert grown(before, after, "request_count", model_name="steady", status="OK") == 4
    assert grown(before, after, "request_count", model_name="steady", status="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize("entrypoint", ["GRPC", "REST"])
def test_latency_of_what_succeeds_in_microseconds(server, page, entrypoint):
    before = page()
    for _ in range(2):
        if entrypoint == "GRPC":
            server.value("steady")
        else:
            server.ask("", {"instances": [0.0]}, "steady")
    failing(server.predict, "steady", {})
    server.ask("nothing", {"instances": [0.0]}, "steady")
    after = page()
    labels = {"model_name": "steady", "API": "Predict", "entrypoint": entrypoint}
    assert grown(before, after, "request_latency_count", **labels) == 2
    assert grown(before, after, "request_latency_bucket", **labels, le="+Inf") == 2
    assert 20 < grown(before, after, "request_latency_sum", **labels) < 20e6


@pytest.mark.parametrize(
    ("api", "ask"),
    [
        ("Classify", lambda server: server.classify(examples(example(x=1.0)))),
        ("Regress", lambda server: server.regress(examples(example(x=1.0)), "twice")),
    ],
    ids=["Classify", "Regress"],
)
def test_latency_of_other_calls(server, page, api, ask):
    before = page()
    ask(server)
    after = page()
    labels = {"model_name": "judge", "API": api, "entrypoint": "GRPC"}
    assert grown(before, after, "request_latency_count", **labels) == 1


def test_buckets_rise_to_the_count(server, page):
    server.value("steady")
    lines = page()
    labels = frozenset({("model_name", "steady"), ("API", "Predict"), ("entrypoint", "GRPC")})
    buckets = sorted(
        (float(dict(own)["le"]), number)
        for (name, own), number in lines.items()
        if name == "request_latency_bucket" and labels < own
    )
    counts = [number for _, number in buckets]
    assert counts == sorted(counts)
    assert buckets[-1] == (float("inf"), lines["request_latency_count", labels])


def test_time_in_the_runtime(server, page):
    before = page()
    for _ in range(2):
        server.value("steady")
    after = page()
    labels = {"model_name": "steady", "API": "Predict", "runtime": "TF1"}
    assert grown(before, after, "runtime_latency_count", **labels) == 2
    whole = {"model_name": "steady", "API": "Predict", "entrypoint": "GRPC"}
    assert (
        0 < grown(before, after, "runtime_latency_sum", **labels) < grown(before, after, "request_latency_sum", **whole)
    )


def test_numbers_of_examples(server, page):
    before = page()
    for count in (1, 3):
        server.classify(examples(*(example(x=1.0) for _ in range(count))))
    after = page()
    assert grown(before, after, "request_example_counts_count", model="judge") == 2
    assert grown(before, after, "request_example_counts_sum", model="judge") == 4
    assert grown(before, after, "request_example_count_total", model="judge") == 4


def test_time_of_warm_ups(server, page):
    counts = [number for (name, _), number in page().items() if name == "model_warmup_latency_count"]
    assert counts
    assert min(counts) >= 1


def test_unknown_names_share_one_line(ours, server, page):
    before = page()
    for number in range(5):
        failing(server.value, f"nobody-{number}")
    after = page()
    assert not [labels for _, labels in after if "nobody" in str(labels)]
    assert len(set(after) - set(before)) <= 1
    assert sum(after[key] - before.get(key, 0) for key in after if ("status", "NOT_FOUND") in key[1]) == 5


def test_no_page_without_the_flag(batched):
    answer = batched.rest("GET", METRICS_PATH)
    assert answer.status == 404
    assert answer.error
