"""A trained MMC-Net answers over gRPC what the notebook computes."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import Client
from serving.config import catalogue_below
from serving.embedded import EmbeddedServer, Options
from tfthesis.data.paired import PairArrays, PairedData
from tfthesis.matching.embedding import embed
from tfthesis.matching.served import LABELS, RESULTS
from training.execution import execute
from training.export import export_run, load_model
from training.request import Request

MODEL = "mmc_net_tiny"


@dataclasses.dataclass
class World:
    """The run as a notebook has it, and the port of the server that serves its export."""

    model: object
    data: PairedData
    arrays: PairArrays
    images: list[bytes]
    port: int
    client: Client


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mmc_net") / "run"
    assert execute(Request.create("mmc_net", "tiny"), folder)
    return folder


@pytest.fixture(scope="module")
def world(run, tmp_path_factory) -> Iterator[World]:
    exports = tmp_path_factory.mktemp("exports")
    export_run(run, exports)
    request = Request.create("mmc_net", "tiny")
    data = request.open_data()
    arrays = data.arrays("test")
    images = [data.image_bytes("test", index) for index in range(len(arrays.image_ids))]
    server = EmbeddedServer(catalogue_below(exports, None), Options(port=0, poll_seconds=0.0, grace_seconds=5.0))
    assert server.start(threading.Event())
    try:
        with Client(port=server.port, model=MODEL) as client:
            yield World(load_model(run, request), data, arrays, images, server.port, client)
    finally:
        assert server.stop()


def test_the_export_has_every_signature(world):
    names = {f"{verb}_{modality}" for verb in ("encode", "search_by") for modality in ("image", "text")}
    expected = {*names, *(f"{name}_features" for name in names), "classify"}
    assert world.client.models() == [MODEL]
    assert [state.state for state in world.client.status()] == ["AVAILABLE"]
    assert expected <= set(world.client.metadata())


def test_images_are_embedded_as_in_a_notebook(world):
    expected = embed(world.model, "image", world.arrays.image)
    served = world.client.predict({"image": world.images}, "encode_image")["embedding"]
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01, "the images must not all be embedded alike"


def test_texts_are_embedded_as_in_a_notebook(world):
    expected = embed(world.model, "text", world.arrays.text)
    served = world.client.predict({"text": world.arrays.captions}, "encode_text")["embedding"]
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01


def test_features_are_embedded_as_what_they_were_made_of(world):
    for modality in ("image", "text"):
        features = getattr(world.arrays, modality)
        served = world.client.predict({modality: features}, f"encode_{modality}_features")["embedding"]
        np.testing.assert_allclose(served, embed(world.model, modality, features), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("query", "found"), [("text", "image"), ("image", "text")])
def test_search_ranks_as_inner_products_in_numpy(world, query, found):
    arrays = world.arrays
    queries = embed(world.model, query, getattr(arrays, query))
    scores = queries @ embed(world.model, found, getattr(arrays, found)).T
    if query == "text":
        answers, ids = world.client.search_by_text(arrays.captions), list(arrays.image_ids)
    else:
        answers, ids = world.client.search_by_image(world.images), list(arrays.text_ids)
    assert len(answers) == len(queries)
    for row, hits in zip(scores, answers, strict=True):
        assert len({hit.id for hit in hits}) == len(hits) == min(RESULTS, len(ids))
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1][: len(hits)], rtol=0, atol=1e-5)
        # Equal scores may come in any order; each hit must still have the score of its own item.
        own = [row[ids.index(hit.id)] for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], own, rtol=0, atol=1e-5)


def test_hits_carry_the_captions(world):
    arrays = world.arrays
    captions = dict(zip(arrays.text_ids, arrays.captions, strict=True))
    for hit in world.client.search_by_image(world.images[:1])[0]:
        assert hit.payload == captions[hit.id]
    described = {arrays.image_ids[image]: caption for image, caption in zip(arrays.owner, arrays.captions, strict=True)}
    assert {hit.id for hit in world.client.search_by_text(arrays.captions[:1])[0]} <= set(described)


def test_classes_are_those_of_the_model(world):
    arrays, owner = world.arrays, world.arrays.owner
    inputs = {"image": tf.constant(arrays.image[owner]), "text": tf.constant(arrays.text)}
    logits = world.model(inputs, training=False)["logits"]
    assert world.data.spec.multi_label
    expected = tf.sigmoid(logits).numpy()
    answers = world.client.classify(images=[world.images[image] for image in owner], texts=arrays.captions)
    classes = list(world.data.spec.classes)
    assert len(answers) == len(expected)
    for row, labels in zip(expected, answers, strict=True):
        assert len({label.name for label in labels}) == len(labels) == min(LABELS, len(classes))
        probabilities = [label.probability for label in labels]
        np.testing.assert_allclose(probabilities, np.sort(row)[::-1][: len(labels)], rtol=0, atol=1e-4)
        assert [label.predicted for label in labels] == [probability > 0.5 for probability in probabilities]
        own = [row[classes.index(label.name)] for label in labels]
        np.testing.assert_allclose(probabilities, own, rtol=0, atol=1e-4)


def refusal(world: World, signature: str, **inputs: object) -> tuple[grpc.StatusCode, str]:
    """Send a request on the official stub; returns the code and message with which it is refused."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with grpc.insecure_channel(f"127.0.0.1:{world.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("signature", ["encode_image_features", "search_by_image_features"])
def test_features_of_another_width_are_refused_with_both_widths(world, signature):
    width = world.arrays.image.shape[1]
    code, message = refusal(world, signature, image=np.zeros((2, width + 3), np.float32))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"{width}" in message and f"{width + 3}" in message, message


def cut(image: bytes) -> bytes:
    """Return the first half of a JPEG."""
    return image[: len(image) // 2]


def header_of(image: bytes) -> bytes:
    """Return a JPEG up to where its pixels begin."""
    return image[: image.index(b"\xff\xda")]


def png_header(image: bytes) -> bytes:
    """Return the signature and the first chunk of the same picture as PNG."""
    return tf.io.encode_png(tf.io.decode_jpeg(image)).numpy()[:33]


@pytest.mark.parametrize("spoil", [cut, header_of, png_header])
@pytest.mark.parametrize("signature", ["encode_image", "search_by_image", "classify"])
def test_an_image_that_does_not_decode_is_named_by_input_and_row(world, signature, spoil):
    good = [tf.io.encode_jpeg(tf.io.decode_image(image)).numpy() for image in world.images[:3]]
    images = [*good, spoil(good[0]), good[0], spoil(good[1])]
    inputs = {"image": np.array(images, object)}
    if signature == "classify":
        inputs["text"] = np.array([b"a red circle"] * len(images), object)
    code, message = refusal(world, signature, **inputs)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("input 'image', row 3: "), message
    assert "cut off" in message
    assert len(world.client.predict({"image": good}, "encode_image")["embedding"]) == 3, "it must go on answering"


def test_another_fault_of_a_request_with_good_images_keeps_its_message(world):
    code, message = refusal(world, "encode_image", image=np.array([world.images[:2]], object))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "row" not in message and message
