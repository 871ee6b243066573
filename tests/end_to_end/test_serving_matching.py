"""One unchanged client searches an ensemble of RRF-Nets and CycleMatch, fused adaptively and averaged, over gRPC."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from serving.client import Client
from serving.config import catalogue_below
from serving.embedded import EmbeddedServer, Options
from tfthesis.data.paired import PairArrays
from tfthesis.discovery import load_method
from tfthesis.matching.scores import Comparison, Measure
from tfthesis.matching.served import matching_galleries, matching_signatures
from tfthesis.method import Spec
from tfthesis.retrieval.exact import ExactNeighbours
from training.execution import execute
from training.export import export_run, load_model
from training.request import Request

MODELS = {
    "ensemble": ("rrf_net", {"recurrences": (1, 2), "epochs": (1,)}, Measure((0, 1))),
    "average": ("cycle_match", {"epochs": (1,), "score_fusion": "average"}, Measure((0, 1))),
    "adaptive": ("cycle_match", {"epochs": (1,), "scores": ("visual", "textual", "latent")}, Measure((0, 1, 2), True)),
}


@dataclasses.dataclass
class World:
    """What a notebook computes for each served model, and the port of the server."""

    compared: dict[str, Comparison]
    arrays: PairArrays
    images: list[bytes]
    port: int


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    exports, compared = tmp_path_factory.mktemp("exports"), {}
    for name, (method, changes, _) in MODELS.items():
        request, folder = Request.create(method, "tiny", changes=changes), tmp_path_factory.mktemp(name) / "run"
        assert execute(request, folder)
        export_run(folder, exports, name=name)
        data = request.open_data()
        compared[name] = Comparison.of(load_model(folder, request), data.arrays("test"))
    arrays = data.arrays("test")
    images = [data.image_bytes("test", index) for index in range(len(arrays.image_ids))]
    server = EmbeddedServer(catalogue_below(exports, None), Options(port=0, poll_seconds=0.0, grace_seconds=5.0))
    assert server.start(threading.Event())
    try:
        yield World(compared, arrays, images, server.port)
    finally:
        assert server.stop()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_client_gets_the_fused_scores(world, name):
    compared, measure, arrays = world.compared[name], MODELS[name][2], world.arrays
    with Client(port=world.port, model=name) as client:
        answers = {"text": client.search_by_text(arrays.captions), "image": client.search_by_image(world.images)}
    for modality, found in (("text", arrays.image_ids), ("image", arrays.text_ids)):
        expected = compared.scores(modality, np.arange(len(answers[modality])), measure)
        for row, hits in zip(expected, answers[modality], strict=True):
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1][: len(hits)], atol=1e-4)
            np.testing.assert_allclose([hit.score for hit in hits], [row[found.index(h.id)] for h in hits], atol=1e-4)


def test_only_adaptive_models_have_the_rescored_search(world):
    rescored = {f"search_by_{m}{kind}_top_100_rescored" for m in ("image", "text") for kind in ("", "_features")}
    for name, adaptive in (("adaptive", True), ("average", False), ("ensemble", False)):
        with Client(port=world.port, model=name) as client:
            assert (rescored <= set(client.metadata())) == adaptive


def test_fewer_items_than_candidates_make_the_rescored_search_the_adaptive_one(world):
    """Twelve images: all of them are candidates."""
    with Client(port=world.port, model="adaptive") as client:
        plain, rescored = (
            client.predict({"text": world.arrays.captions}, f"search_by_text{kind}")
            for kind in ("", "_top_100_rescored")
        )
    np.testing.assert_allclose(plain["scores"], rescored["scores"], atol=1e-5)


class Approximate(ExactNeighbours):
    """Stands in for an index that cannot sum over all items."""

    kind = "scann"
    positive_areas = None


def test_an_approximate_index_averages_and_rescores():
    method, spec = load_method("cycle_match"), Spec(inputs={"image": (12,), "text": (7,)})
    recipe = method.recipe("tiny")
    model = method.build(recipe, spec)
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(30, 12)).astype(np.float32), rng.normal(size=(30, 7)).astype(np.float32)
    names = [str(i) for i in range(30)]
    arrays = PairArrays(image, text, np.arange(30), None, names, names, names)
    measure = Measure((0, 1), adaptive=True)
    index = {name: Approximate(gallery) for name, gallery in matching_galleries(model, arrays, measure).items()}
    found = matching_signatures(model, spec, index, {}, measure).signatures
    compared = Comparison.of(model, arrays)
    for name, how in (("", Measure((0, 1))), ("_top_100_rescored", measure)):
        answer = found[f"search_by_text_features{name}"].function(text=text)["scores"].numpy()
        expected = -np.sort(-compared.scores("text", np.arange(30), how), axis=1)[:, : answer.shape[1]]
        np.testing.assert_allclose(answer, expected, atol=1e-5)
