"""One unchanged client translates photos and swaps clothes, and is told what a request lacks."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from serving.client import Client, ClientError
from serving.config import catalogue_below
from serving.embedded import EmbeddedServer, Options
from tfthesis.method import Served
from training.execution import execute
from training.export import export_run, load_model
from training.request import Request

METHODS = ("cycle_gan", "swap_gan")


@dataclasses.dataclass
class World:
    """The functions of each method as a notebook calls them, its data, and the port of the server."""

    served: dict[str, Served]
    data: dict[str, Any]
    port: int


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    exports, found = tmp_path_factory.mktemp("exports"), World({}, {}, 0)
    for name in METHODS:
        request = Request.create(name, "tiny", changes={"epochs": 1, "decay_epochs": 0})
        folder = tmp_path_factory.mktemp(name) / "run"
        assert execute(request, folder)
        export_run(folder, exports, name=name)
        found.data[name] = data = request.open_data()
        model = load_model(folder, request)
        found.served[name] = request.method.signatures(model, request.recipe, data.spec, {}, {})
    server = EmbeddedServer(catalogue_below(exports, None), Options(port=0, poll_seconds=0.0, grace_seconds=5.0))
    assert server.start(threading.Event())
    try:
        yield dataclasses.replace(found, port=server.port)
    finally:
        assert server.stop()


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    PIL.Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def check(world: World, name: str, signature: str, inputs: Mapping[str, list[bytes]]) -> dict[str, np.ndarray]:
    """Return the pictures of a server's answer by output, after comparing them with those of the function itself."""
    with Client(port=world.port, model=name) as client:
        answer = client.predict(inputs, signature)
    function = world.served[name].signatures[signature].function
    expected = function(**{key: tf.constant(values) for key, values in inputs.items()})
    assert set(answer) == set(expected)
    pictures = {}
    for key, values in answer.items():
        first, second = (np.asarray(PIL.Image.open(io.BytesIO(data))) for data in (values[0], expected[key].numpy()[0]))
        np.testing.assert_allclose(first.astype(int), second, atol=1)
        pictures[key] = first
    return pictures


def test_photos_are_translated_both_ways(world):
    data = world.data["cycle_gan"]
    for place, signature in enumerate(("photo_to_label", "label_to_photo")):
        image = data.opened("test").images[place][0]
        wide = np.asarray(PIL.Image.fromarray(image).resize((50, 40)))
        pictures = check(world, "cycle_gan", signature, {"image": [png(wide)]})
        assert {picture.shape for picture in pictures.values()} == {(40, 50, 3)}


def request_of(data: Any) -> dict[str, list[bytes]]:
    opened = data.opened("test")
    return {
        "condition_image": [png(opened.images[0])],
        "condition_map_image": [png(opened.segments[0])],
        "reference_image": [png(opened.images[-1])],
        "reference_map_image": [png(opened.segments[-1])],
        "reference_joints_file": [" ".join(map(str, opened.joints[-1].ravel().tolist())).encode()],
    }


def test_clothes_are_swapped(world):
    data = world.data["swap_gan"]
    pictures = check(world, "swap_gan", "swap_clothes", request_of(data))
    opened = data.opened("test")
    head = opened.segments[-1] == 1
    assert head.any()
    np.testing.assert_array_equal(pictures["swapped_bytes"][head], opened.images[-1][head])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_map_image": [png(np.zeros((9, 9), np.uint8))]}, "expected the height and width of its photo"),
        (
            {"condition_map_image": [png(np.full((32, 32), 77, np.uint8))]},
            "expected a grey image with the values 0 to 5",
        ),
        ({"reference_joints_file": [b"1 2 3"]}, "expected 54 numbers"),
    ],
)
def test_what_does_not_fit_is_named(world, changes, message):
    with Client(port=world.port, model="swap_gan") as client, pytest.raises(ClientError) as caught:
        client.predict({**request_of(world.data["swap_gan"]), **changes}, "swap_clothes")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT and message in caught.value.message
