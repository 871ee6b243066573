"""Contract section 2: how a request names model, version, label and signature."""

from __future__ import annotations

import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.blackbox.client import TIMEOUT, Code, refused
from tests.blackbox.models import example, examples

REQUESTS = {
    "Predict": predict_pb2.PredictRequest(),
    "Classify": classification_pb2.ClassificationRequest(input=examples(example(x=1.0))),
    "Regress": regression_pb2.RegressionRequest(input=examples(example(x=1.0))),
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
}


@pytest.mark.parametrize("call", REQUESTS)
def test_no_model_spec(server, call):
    with refused(Code.INVALID_ARGUMENT, "Missing ModelSpec"):
        getattr(server.predictions, call)(REQUESTS[call], timeout=TIMEOUT)


def test_no_model_spec_for_the_status(server):
    with refused(Code.INVALID_ARGUMENT, "Missing ModelSpec"):
        server.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(), timeout=TIMEOUT)


@pytest.mark.parametrize("call", REQUESTS)
def test_empty_name(server, call):
    request = type(REQUESTS[call])()
    request.CopyFrom(REQUESTS[call])
    request.model_spec.signature_name = "serving_default"
    with refused(Code.INVALID_ARGUMENT, "ModelSpec has no name specified."):
        getattr(server.predictions, call)(request, timeout=TIMEOUT)


def test_neither_version_nor_label_is_the_highest(server):
    assert server.value("steady") == 3


@pytest.mark.parametrize("version", [1, 2, 3])
def test_version(server, version):
    assert server.value("steady", version=version) == version


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2)])
def test_label(server, label, version):
    response = server.predict("steady", {"x": [0.0]}, version_label=label)
    assert response.outputs["y"].float_val[0] == version
    assert response.model_spec.version.value == version


def test_unknown_label_is_an_invalid_argument(server):
    with refused(Code.INVALID_ARGUMENT, "Unrecognized servable version label: best"):
        server.value("steady", version_label="best")


@pytest.mark.parametrize("signature", ["", "serving_default"])
def test_empty_signature_is_the_default_and_answers_echo_what_was_resolved(server, signature):
    spec = server.predict("kinds", {"x": [[1.0]]}, signature).model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("kinds", "serving_default", 7)


def test_classify_and_regress_echo_what_was_resolved(server):
    given = examples(example(x=1.0))
    spec = server.classify(given).model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("judge", "serving_default", 4)
    spec = server.regress(given, "twice").model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("judge", "twice", 4)
