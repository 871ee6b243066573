"""A folder of photographs becomes a search page by the README's two commands, in this process and on small pictures.

Only the network differs from the README's: tests have no weights, so patches are described by their pixels.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import signal
import threading
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import PIL.Image
import pytest

from serving.client import Client, ClientError
from serving.config import catalogue_below
from serving.embedded import EmbeddedServer, Options
from tfthesis.data.images import read_image
from tfthesis.data.searched_images import open_searched
from training.run import main

NAME = "deep_index_photos"
COMMAND = ("--method", "deep_index", "--preset", "photos")
SMALL = ("axes=pixels:projection", "width=16", "iterations=5", "thumbnail=24", "reader=crops=4")


class World(NamedTuple):
    """The photographs by their names below the folder, and the ports of the server."""

    photos: dict[str, bytes]
    port: int
    rest_port: int


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("photos")
    drawn = open_searched("scene_views", groups=10, views=2, size=48).images
    photos = {f"holiday {number % 2}/{number}.png": read_image(drawn[2 * number]) for number in range(10)}
    for name, data in photos.items():
        (root / "PHOTOS" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "PHOTOS" / name).write_bytes(data)
    (root / "PHOTOS" / "broken.jpg").write_bytes(b"no photograph")
    places = ("--data-dir", root / "PHOTOS", "--export-dir", root / "saved_models", "--runs-root", root / "runs")
    changes = [part for change in SMALL for part in ("--set", change)]
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([*COMMAND, *map(str, places), "--quiet", *changes]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    options = Options(port=0, rest_port=0, poll_seconds=0.0, grace_seconds=5.0, demo_indexes=())
    server = EmbeddedServer(catalogue_below(root / "saved_models", None), options)
    assert server.start(threading.Event())
    try:
        yield World(photos, server.port, server.rest_port)
    finally:
        assert server.stop()


def ask(world: World, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", world.rest_port, timeout=30)
    connection.request(method, path, body and json.dumps(body))
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def search(world: World, image: bytes) -> tuple[int, dict]:
    """Ask as the page does; returns the status and the answer."""
    inputs = {"image": [{"b64": base64.b64encode(image).decode()}]}
    body = {"signature_name": "search_by_image", "inputs": inputs}
    status, answer = ask(world, "POST", f"/v1/models/{NAME}:predict", body)
    return status, json.loads(answer)


def test_every_photograph_finds_itself_first_with_its_small_picture(world):
    assert json.loads(ask(world, "GET", "/demo/models")[1]) == {"models": [{"name": NAME, "pictures": False}]}
    assert ask(world, "GET", "/demo/")[0] == 200
    for name, data in world.photos.items():
        status, answer = search(world, data)
        found = answer["outputs"]
        assert status == 200
        (ids,), (scores,), (thumbnails,) = (found[key] for key in ("ids", "scores", "thumbnail_bytes"))
        assert ids[0] == name and set(ids) - {""} <= set(world.photos)
        assert scores == sorted(scores, reverse=True) and scores[0] > scores[1]
        for own, thumbnail in zip(ids, thumbnails, strict=True):
            data = base64.b64decode(thumbnail["b64"])
            if not own:
                assert data == b""
                continue
            picture = PIL.Image.open(io.BytesIO(data))
            assert picture.format == "JPEG" and picture.size == (24, 24)
    with Client(port=world.port, model=NAME) as client:
        answers = client.search_by_image(list(world.photos.values()))
    assert [hits[0].id for hits in answers] == list(world.photos)


@pytest.mark.parametrize("kind", ["text", "cut off"])
def test_a_damaged_file_is_refused_and_the_server_goes_on(world, kind):
    name, whole = next(iter(world.photos.items()))
    damaged, message = {
        "text": (b"no photograph", "expected JPEG, PNG, GIF or BMP, got a file that begins with"),
        "cut off": (whole[: len(whole) // 2], "it does not decode, it is damaged or cut off"),
    }[kind]
    status, answer = search(world, damaged)
    assert status == 400 and message in answer["error"]
    with Client(port=world.port, model=NAME) as client:
        with pytest.raises(ClientError, match=message) as caught:
            client.search_by_image([damaged])
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        ((hit, *_),) = client.search_by_image([whole])
    assert hit.id == name
    assert search(world, whole)[1]["outputs"]["ids"][0][0] == name
