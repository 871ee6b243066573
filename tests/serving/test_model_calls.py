"""GetModelMetadata and GetModelStatus."""

from __future__ import annotations

import grpc
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2

Code = grpc.StatusCode


def test_metadata_holds_every_signature(server):
    response = server.metadata(model_spec={"name": "everything"}, metadata_field=["signature_def"])
    assert (response.model_spec.name, response.model_spec.version.value) == ("everything", 7)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    names = {"serving_default", "project", "echo", "add", "hold", "fail", "__saved_model_init_op"}
    assert set(signatures.signature_def) == names
    assert set(signatures.signature_def["serving_default"].outputs) == {"y", "z"}


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"metadata_field": ["signature_def"]}, Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        ({"model_spec": {"name": "everything"}}, Code.INVALID_ARGUMENT, "at least one metadata_field"),
        (
            {"model_spec": {"name": "everything"}, "metadata_field": ["signature_def", "colour"]},
            Code.INVALID_ARGUMENT,
            "Metadata field colour is not supported",
        ),
        (
            {"model_spec": {}, "metadata_field": ["signature_def"]},
            Code.INVALID_ARGUMENT,
            "ModelSpec has no name specified.",
        ),
        (
            {"model_spec": {"name": "nobody"}, "metadata_field": ["signature_def"]},
            Code.NOT_FOUND,
            "Servable not found for request: Latest(nobody)",
        ),
        (
            {"model_spec": {"name": "everything", "version": {"value": 8}}, "metadata_field": ["signature_def"]},
            Code.NOT_FOUND,
            "Servable not found for request: Specific(everything, 8)",
        ),
    ],
)
def test_bad_metadata_request(server, request_, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        server.metadata(**request_)
    assert caught.value.code() is code
    assert message in caught.value.details()


@pytest.mark.parametrize("spec", [{}, {"version": {"value": 7}}, {"version_label": "ignored"}])
def test_status_of_a_served_version(server, spec):
    assert server.status(name="everything", **spec) == {7: ("AVAILABLE", 0, "")}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "nobody"}, "Could not find any versions of model nobody"),
        ({"name": "everything", "version": {"value": 8}}, "Could not find version 8 of model everything"),
    ],
)
def test_status_of_what_is_not_there(server, spec, message):
    with pytest.raises(grpc.RpcError) as caught:
        server.status(**spec)
    assert (caught.value.code(), caught.value.details()) == (Code.NOT_FOUND, message)
