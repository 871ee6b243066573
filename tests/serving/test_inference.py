"""Classify, Regress and MultiInference over the official stubs."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.errors import ServingError
from serving.inference import multi_inference
from serving.servable import Limits, Servable

Code = grpc.StatusCode
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@pytest.fixture(scope="module")
def stub(judge, tmp_path_factory, serve, published):
    base_path = tmp_path_factory.mktemp("models")
    published(judge, base_path / "judge", 4)
    with serve(base_path) as server:
        yield prediction_service_pb2_grpc.PredictionServiceStub(server.channel)


def example(**features):
    lists = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[value])) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=lists))


def examples(*values):
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example(x=value) for value in values]))


def classify(stub, given, signature="", model="judge"):
    request = classification_pb2.ClassificationRequest(
        model_spec={"name": model, "signature_name": signature}, input=given
    )
    return stub.Classify(request, timeout=20)


def regress(stub, given, signature):
    request = regression_pb2.RegressionRequest(model_spec={"name": "judge", "signature_name": signature}, input=given)
    return stub.Regress(request, timeout=20)


def infer(stub, given, *tasks):
    request = inference_pb2.MultiInferenceRequest(input=given)
    for model, signature, method in tasks:
        request.tasks.add(model_spec={"name": model, "signature_name": signature}, method_name=method)
    return stub.MultiInference(request, timeout=20)


def pairs(classifications):
    return [[(answer.label, answer.score) for answer in row.classes] for row in classifications]


def refused(call, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code
    assert message in caught.value.details()


def test_classes_with_scores_in_the_order_of_the_examples(stub):
    response = classify(stub, examples(0.25, 1.0))
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("judge", "serving_default", 4)
    assert pairs(response.result.classifications) == [[("low", 0.75), ("high", 0.25)], [("low", 0.0), ("high", 1.0)]]


def test_scores_without_classes_have_empty_labels(stub):
    assert pairs(classify(stub, examples(0.25), "scores").result.classifications) == [[("", 0.75), ("", 0.25)]]


def test_classes_without_scores(stub):
    assert pairs(classify(stub, examples(0.25), "classes").result.classifications) == [[("low", 0.0), ("high", 0.0)]]


@pytest.mark.parametrize(("signature", "factor"), [("twice", 2.0), ("column", 3.0)])
def test_regression_of_vectors_and_columns(stub, signature, factor):
    response = regress(stub, examples(0.5, 4.0), signature)
    assert [answer.value for answer in response.result.regressions] == [0.5 * factor, 4.0 * factor]
    assert response.model_spec.signature_name == signature


def test_features_of_an_example_win_over_the_context(stub):
    given = input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(
            context=example(x=1.0), examples=[example(), example(x=7.0)]
        )
    )
    assert [answer.value for answer in regress(stub, given, "twice").result.regressions] == [2.0, 14.0]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("nothing", "No signature was found with the name: nothing"),
        ("twice", "classification needs outputs among ['classes', 'scores']; it has ['outputs']"),
        ("misnamed", "exactly one input, named 'inputs'"),
        ("flat_scores", "output 'scores': expected float32 [1, C], got float32 [1]"),
    ],
)
def test_signatures_that_are_no_classifiers(stub, signature, message):
    refused(lambda: classify(stub, examples(1.0), signature), Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("", "regression needs outputs among ['outputs']"),
        ("pair", "output 'outputs': expected float32 [1] or [1, 1], got float32 [1, 2]"),
        ("whole", "got int32 [1]"),
    ],
)
def test_signatures_that_are_no_regressors(stub, signature, message):
    refused(lambda: regress(stub, examples(1.0), signature), Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize("given", [input_pb2.Input(), examples()])
def test_no_examples(stub, given):
    refused(lambda: classify(stub, given), Code.INVALID_ARGUMENT, "Input is empty.")


def test_an_example_without_the_feature_keeps_the_code_of_the_operation(stub):
    given = input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example()]))
    refused(lambda: classify(stub, given), Code.INVALID_ARGUMENT, "Feature: x")


def test_unknown_model(stub):
    refused(
        lambda: classify(stub, examples(1.0), model="nobody"),
        Code.NOT_FOUND,
        "Servable not found for request: Latest(nobody)",
    )


def test_several_tasks_are_answered_in_their_order(stub):
    response = infer(stub, examples(0.25, 0.5), ("judge", "twice", REGRESS), ("judge", "", CLASSIFY))
    regression, classification = response.results
    assert [answer.value for answer in regression.regression_result.regressions] == [0.5, 1.0]
    assert pairs(classification.classification_result.classifications)[0] == [("low", 0.75), ("high", 0.25)]
    assert [result.model_spec.signature_name for result in response.results] == ["twice", "serving_default"]
    assert {result.model_spec.version.value for result in response.results} == {4}


def test_several_tasks_are_one_run(judge, monkeypatch):
    servable, runs = Servable("judge", 1, judge, Limits(2**20)), []
    run = servable._session._call_tf_sessionrun
    monkeypatch.setattr(servable._session, "_call_tf_sessionrun", lambda *a: runs.append(a) or run(*a))
    request = inference_pb2.MultiInferenceRequest(input=examples(0.5))
    request.tasks.add(model_spec={"signature_name": "twice"}, method_name=REGRESS)
    request.tasks.add(model_spec={"signature_name": "scores"}, method_name=CLASSIFY)
    assert len(multi_inference(servable, request).results) == 2
    assert len(runs) == 1
    servable.close()


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], Code.INVALID_ARGUMENT, "empty"),
        ([("judge", "", CLASSIFY), ("other", "", CLASSIFY)], Code.INVALID_ARGUMENT, "the same model name"),
        ([("judge", "", CLASSIFY), ("judge", "serving_default", CLASSIFY)], Code.INVALID_ARGUMENT, "Duplicate"),
        ([("judge", "twice", REGRESS), ("judge", "elsewhere", REGRESS)], Code.INVALID_ARGUMENT, "Input tensor must"),
        ([("judge", "twice", "tensorflow/serving/predict")], Code.UNIMPLEMENTED, "tensorflow/serving/predict"),
    ],
)
def test_tasks_that_do_not_go_together(stub, tasks, code, message):
    refused(lambda: infer(stub, examples(1.0), *tasks), code, message)


def write_warmup(folder, *logs):
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_all_kinds_of_warmup_records_are_replayed(judge, published, tmp_path, caplog):
    folder = published(judge, tmp_path, 1)
    multi = inference_pb2.MultiInferenceRequest(input=examples(0.5))
    multi.tasks.add(model_spec={"signature_name": "twice"}, method_name=REGRESS)
    logs = [
        prediction_log_pb2.PredictionLog(
            classify_log={"request": classification_pb2.ClassificationRequest(input=examples(0.5))}
        ),
        prediction_log_pb2.PredictionLog(
            regress_log={
                "request": regression_pb2.RegressionRequest(model_spec={"signature_name": "twice"}, input=examples(0.5))
            }
        ),
        prediction_log_pb2.PredictionLog(multi_inference_log={"request": multi}),
    ]
    write_warmup(folder, *logs)
    caplog.set_level("INFO", "serving.servable")
    Servable("judge", 1, folder, Limits(2**20)).close()
    assert "3 warm-up requests" in caplog.text


@pytest.mark.parametrize("field", ["classify_log", "regress_log", "multi_inference_log"])
def test_a_failing_warmup_record_fails_the_load(judge, published, tmp_path, field):
    folder = published(judge, tmp_path, 1)
    log = prediction_log_pb2.PredictionLog()
    getattr(log, field).request.SetInParent()
    write_warmup(folder, log)
    with pytest.raises(ServingError, match="warm-up request 0: "):
        Servable("judge", 1, folder, Limits(2**20))


def test_float_values_survive_bit_for_bit(stub):
    value = np.float32(0.1)
    assert regress(stub, examples(value), "twice").result.regressions[0].value == np.float32(2) * value


def test_number_of_warmup_rounds(judge, published, tmp_path, monkeypatch):
    folder = published(judge, tmp_path, 1)
    request = regression_pb2.RegressionRequest(model_spec={"signature_name": "twice"}, input=examples(0.5))
    write_warmup(folder, prediction_log_pb2.PredictionLog(regress_log={"request": request}))
    runs = []
    run = Servable.run
    monkeypatch.setattr(Servable, "run", lambda *given, **named: runs.append(given) or run(*given, **named))
    for rounds in (0, 3):
        Servable("judge", 1, folder, Limits(2**20, warm_up_rounds=rounds)).close()
        assert len(runs) == rounds
