"""Contract section 4: Classify, Regress, MultiInference and GetModelMetadata."""

from __future__ import annotations

import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, input_pb2

from tests.blackbox.client import TIMEOUT, Code, refused
from tests.blackbox.models import CLASSIFY, ECHOED, REGRESS, example, examples

ONE = examples(example(x=0.25))


def pairs(result):
    return [[(answer.label, answer.score) for answer in row.classes] for row in result.classifications]


def values(result):
    return [answer.value for answer in result.regressions]


def test_classify(server):
    response = server.classify(examples(example(x=0.25), example(x=1.0)))
    assert pairs(response.result) == [[("low", 0.75), ("high", 0.25)], [("low", 0.0), ("high", 1.0)]]


def test_no_classes_output_means_empty_labels(server):
    assert pairs(server.classify(ONE, "scores").result) == [[("", 0.75), ("", 0.25)]]


def test_no_scores_output_means_zeros(server):
    assert pairs(server.classify(ONE, "classes").result) == [[("low", 0.0), ("high", 0.0)]]


@pytest.mark.parametrize(("signature", "factor"), [("twice", 2.0), ("column", 3.0)], ids=["[N]", "[N, 1]"])
def test_regress(server, signature, factor):
    response = server.regress(examples(example(x=0.5), example(x=4.0)), signature)
    assert values(response.result) == [0.5 * factor, 4.0 * factor]


@pytest.mark.parametrize("call", ["classify", "regress"])
def test_method_name_is_not_checked(server, call):
    """The export of TensorFlow 2 says `tensorflow/serving/predict` for both."""
    response = getattr(server, call)(ONE, call, "modern")
    assert response.model_spec.signature_name == call
    answer = pairs(response.result) if call == "classify" else values(response.result)
    assert answer == ([[("low", 0.75), ("high", 0.25)]] if call == "classify" else [0.5])


def test_empty_method_name(server):
    assert values(server.regress(ONE, "unnamed").result) == [1.25]


def test_own_feature_of_an_example_wins_over_the_context(server):
    members = [example(), example(x=7.0)]
    listed = input_pb2.ExampleListWithContext(context=example(x=1.0), examples=members)
    assert values(server.regress(input_pb2.Input(example_list_with_context=listed), "twice").result) == [2.0, 14.0]


NOTHING = {
    "no input": None,
    "input of no kind": input_pb2.Input(),
    "no examples": examples(),
    "context without examples": input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(context=example(x=1.0))
    ),
}


@pytest.mark.parametrize("given", NOTHING)
def test_no_examples(server, given):
    with refused(Code.INVALID_ARGUMENT, "Input is empty"):
        server.classify(NOTHING[given])
    with refused(Code.INVALID_ARGUMENT, "Input is empty"):
        server.regress(NOTHING[given], "twice")


@pytest.mark.parametrize("call", ["classify", "regress"])
def test_unknown_signature_is_an_invalid_argument(server, call):
    with refused(Code.INVALID_ARGUMENT, "No signature was found with the name: nothing"):
        getattr(server, call)(ONE, "nothing")


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        pytest.param("regress", "misnamed", id="input that is not called inputs"),
        pytest.param("regress", "two_inputs", id="two inputs"),
        pytest.param("classify", "twice", id="Classify without classes and scores"),
        pytest.param("classify", "three", id="Classify of three outputs"),
        pytest.param("classify", "flat_scores", id="scores that are not [N, C]"),
        pytest.param("regress", "scores", id="Regress without outputs"),
        pytest.param("regress", "serving_default", id="Regress of two outputs"),
        pytest.param("regress", "pair", id="outputs that are not [N] or [N, 1]"),
        pytest.param("regress", "whole", id="outputs that are not float"),
    ],
)
def test_signature_that_does_not_fit(server, call, signature):
    with refused(Code.INVALID_ARGUMENT):
        getattr(server, call)(ONE, signature)


@pytest.mark.parametrize("call", ["classify", "regress"])
def test_unknown_model(server, call):
    with refused(Code.NOT_FOUND, "Servable not found for request: Latest(nobody)"):
        getattr(server, call)(ONE, "", "nobody")


def test_example_without_the_feature(server):
    with refused(Code.INVALID_ARGUMENT, "Feature: x"):
        server.classify(examples(example()))


def test_results_in_the_order_of_the_tasks(server):
    first, second = server.infer(ONE, ("judge", "twice", REGRESS), ("judge", "", CLASSIFY)).results
    assert values(first.regression_result) == [0.5]
    assert pairs(second.classification_result) == [[("low", 0.75), ("high", 0.25)]]
    assert [result.model_spec.signature_name for result in (first, second)] == ["twice", "serving_default"]
    assert {result.model_spec.version.value for result in (first, second)} == {4}


def test_several_tasks_are_one_run(server, folder):
    given = examples(example(x=0.5, path=folder.marks / "one run"))
    assert len(server.infer(given, ("judge", "twice", REGRESS), ("judge", "", CLASSIFY)).results) == 2
    assert [path.name for path in folder.marks.glob("one run.*")] == ["one run.0"]


def test_tasks_of_different_inputs(server):
    with refused(Code.INVALID_ARGUMENT):
        server.infer(ONE, ("judge", "twice", REGRESS), ("judge", "elsewhere", REGRESS))


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        pytest.param([], Code.INVALID_ARGUMENT, id="no tasks"),
        pytest.param([("judge", "", CLASSIFY), ("modern", "", CLASSIFY)], Code.INVALID_ARGUMENT, id="two models"),
        pytest.param(
            [("judge", "", CLASSIFY), ("judge", "serving_default", CLASSIFY)],
            Code.INVALID_ARGUMENT,
            id="a signature twice",
        ),
        pytest.param([("judge", "twice", "tensorflow/serving/predict")], Code.UNIMPLEMENTED, id="another method"),
        pytest.param([("judge", "twice", "")], Code.UNIMPLEMENTED, id="no method"),
    ],
)
def test_tasks_that_do_not_go_together(server, tasks, code):
    with refused(code):
        server.infer(ONE, *tasks)


def test_no_examples_for_several_tasks(server):
    with refused(Code.INVALID_ARGUMENT, "Input is empty"):
        server.infer(examples(), ("judge", "twice", REGRESS))


def test_metadata_is_a_map_of_one_message_with_all_signatures(server):
    response = server.metadata("kinds", "signature_def")
    assert (response.model_spec.name, response.model_spec.version.value) == ("kinds", 7)
    assert list(response.metadata) == ["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    names = set(signatures.signature_def)
    assert {"__saved_model_init_op", "serving_default", "hold", *(f"echo_{name}" for name in ECHOED)} <= names
    default = signatures.signature_def["serving_default"]
    assert set(default.inputs) == {"x"}
    assert set(default.outputs) == {"y", "z"}
    assert [side.size for side in default.inputs["x"].tensor_shape.dim] == [-1, 1]


@pytest.mark.parametrize(
    "fields", [(), ("signature",), ("signature_def", "more")], ids=["no field", "another", "one more"]
)
def test_metadata_field_has_to_be_signature_def(server, fields):
    with refused(Code.INVALID_ARGUMENT):
        server.metadata("kinds", *fields)


def test_metadata_of_an_unknown_model(server):
    with refused(Code.NOT_FOUND, "Servable not found for request: Latest(nobody)"):
        server.metadata("nobody", "signature_def")


def test_metadata_of_a_version_and_a_label(server):
    for spec in ({"version": 2}, {"version_label": "canary"}):
        assert server.metadata("steady", "signature_def", **spec).model_spec.version.value == 2


def test_metadata_without_a_model_is_told_first(server):
    with refused(Code.INVALID_ARGUMENT, "Missing ModelSpec"):
        server.predictions.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(), timeout=TIMEOUT)
