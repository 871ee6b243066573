"""From a method and its model to an export."""

import types

import keras
import numpy as np
import pytest

from tests.export import toy
from tfthesis.encoders import open_encoder
from tfthesis.errors import UserError
from tfthesis.export.exporter import build_index, export, weights_fingerprint
from tfthesis.export.manifest import verify_export
from tfthesis.export.session import open_session
from tfthesis.method import Gallery, Method, Served, Signature, Spec
from tfthesis.recipe import Recipe

DATA = types.SimpleNamespace(size=lambda split: 4)


def nothing(*arguments):
    raise NotImplementedError


def galleries(model, recipe, data, split):
    vectors = np.eye(data.size(split), toy.WIDTH, dtype=np.float32)
    return {"image": Gallery([f"{split} {row}" for row in range(len(vectors))], vectors, [""] * len(vectors))}


def signatures(model, recipe, spec, index, encoders):
    encoder = encoders["text"]
    spec = toy.tf.TensorSpec([None], toy.tf.string, name="text")

    def search(text):
        return index["image"].search(model(encoder(text)[:, : toy.WIDTH]), 2)

    signature = Signature(search, {"text": spec}, {"text": np.array(["a red ball"], object)}, "find images")
    return Served({"search_by_text": signature}, [model, encoder, index["image"]])


@pytest.fixture(scope="module")
def encoder():
    return open_encoder("hashed_words")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return toy.build_model()


@pytest.fixture(scope="module")
def method():
    presets = dict.fromkeys(("thesis", "quick", "tiny"), Recipe())
    return Method("Toy", "Chapter 0", "", presets, nothing, nothing, nothing, nothing, nothing, galleries, signatures,
                  nothing)  # fmt: skip


@pytest.fixture(scope="module")
def spec(encoder):
    return Spec({"text": (toy.WIDTH,)}, encoders={"text": encoder.describe()})


def test_round_trip_with_an_encoder_opened_from_the_spec(method, model, spec, encoder, tmp_path):
    path = export(method, "toy-tiny", model, Recipe(), spec, DATA, tmp_path, model_card="card")
    assert path == tmp_path / "toy-tiny" / "1"
    metadata = verify_export(path)["metadata"]
    assert metadata["method"]["title"] == "Toy"
    assert metadata["recipe"] == Recipe().to_json()
    assert Spec.from_json(metadata["spec"]) == Spec.from_json(spec.to_json())
    assert metadata["model"]["fingerprint"] == weights_fingerprint(model)
    expected = {"kind": "exact", "size": 4, "dimension": 6, "reason": "asked for", "split": "test"}
    assert metadata["index"] == {"image": expected}
    texts = np.array(["a blue box", "", "käse"], object)
    with open_session(path) as served:
        found = served.callable("search_by_text")({"text": texts})
    embedded = model.predict(encoder(texts)[:, : toy.WIDTH], verbose=0)
    best = np.argsort(-embedded[:, :4], axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(found["ids"], np.array([b"test %d" % row for row in range(4)])[best])


def test_split_version_and_encoders_can_be_given(method, model, spec, encoder, tmp_path):
    changed = Spec(spec.inputs, encoders={"text": {**encoder.describe(), "fingerprint": "0" * 64}})
    with pytest.raises(UserError, match="fingerprint"):
        export(method, "toy", model, Recipe(), changed, DATA, tmp_path)
    given = {"split": "val", "version": 30, "encoders": {"text": encoder}}
    path = export(method, "toy", model, Recipe(), changed, DATA, tmp_path, **given)
    assert path.name == "30"
    assert verify_export(path)["metadata"]["index"]["image"]["split"] == "val"


def test_mistakes_are_told_before_the_work(method, model, spec, tmp_path):
    with pytest.raises(UserError, match="Did you mean 'scann'"):
        export(method, "toy", model, Recipe(), spec, DATA, tmp_path, kind="scan")
    with pytest.raises(UserError, match="name of the export"):
        export(method, "../toy", model, Recipe(), spec, DATA, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_gallery_is_named():
    with pytest.raises(UserError, match="gallery 'text': gallery: it has no items"):
        build_index({"text": Gallery([], np.zeros((0, 3)), [])}, "exact")


def test_other_galleries_of_the_same_width_are_the_queries(monkeypatch):
    asked = {}

    def build(gallery, kind, queries, name):
        asked[name] = [rows.shape for rows in queries]

    monkeypatch.setattr("tfthesis.export.exporter.build_neighbours", build)
    sizes = {"image": (5, 3), "text": (7, 3), "other": (4, 2)}
    build_index({name: Gallery([], np.zeros(shape), []) for name, shape in sizes.items()}, "scann")
    assert asked == {"image": [(7, 3)], "text": [(5, 3)], "other": []}


def test_the_fingerprint_follows_the_weights(model):
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    assert weights_fingerprint(copy) == before
    copy.layers[1].bias.assign_add(np.full(8, 1e-7))
    assert weights_fingerprint(copy) != before
