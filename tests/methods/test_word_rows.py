"""Every image-text method may train a sentence encoder on the words of its texts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_word_vectors import write_arrays
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from training.dry_run import activations, dry_run_text
from training.execution import execute
from training.export import export_run
from training.request import Request

WORDS = ["a", "red", "blue", "green", "circle", "square", "triangle", "on", "and", "large", "small", "left", "right"]


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
    path = write_arrays(tmp_path_factory.mktemp("vectors") / "v.npy", vectors, WORDS)
    options = (f"word_vectors={path}", "max_length=12")
    return {"text_encoder": "word_rows", "text_options": options, "sentence_units": 4}


def opened(name, fields, **changes):
    method = load_method(name)
    recipe = method.recipe("tiny", **fields, **changes)
    data = method.data(recipe, "scenes", None)
    return method, recipe, data, method.build(recipe, data.spec)


def first_batch(data):
    return next(iter(data.batches("train", [np.arange(24)], key=(0, 0))))


@pytest.mark.parametrize("name", ["rrf_net", "cycle_match", "mmc_net"])
def test_the_sentence_encoder_trains_and_its_word_vectors_do_not(name, fields):
    method, recipe, data, model = opened(name, fields)
    stage = method.stages(recipe)[0]
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    before = {weight.path: weight.numpy() for weight in model.weights}
    assert np.isfinite(float(model.train_step(first_batch(data))["loss"]))
    changed = {w.path for w in model.weights if not np.array_equal(before[w.path], w.numpy())}
    assert any(path.startswith("text_bilstm_max/") for path in changed)
    assert not any(path.startswith("text_words/") for path in changed)
    paths = [variable.path for variable in model.trainable_variables]
    decays = dict(zip(paths, model.optimizer._decays, strict=True))
    for part, decay in (("kernel", recipe.weight_decay), ("recurrent", recipe.weight_decay), ("bias", 0)):
        assert {decays[path] for path in paths if path.startswith("text_bilstm_max/") and part in path} == {decay}


def test_stage_two_of_mmc_net_freezes_the_sentence_encoder(fields):
    method, recipe, data, model = opened("mmc_net", fields)
    stage = method.stages(recipe)[1]
    model.train_only(stage.trainable)
    method.compile(model, recipe, stage)
    before = {weight.path: weight.numpy() for weight in model.weights if weight.path.startswith("text_")}
    model.train_step(first_batch(data))
    after = {weight.path: weight.numpy() for weight in model.weights if weight.path.startswith("text_")}
    assert all(np.array_equal(before[path], after[path]) for path in before if "dropout" not in path)


def test_the_space_of_cycle_match_is_what_the_sentence_encoder_gives(fields):
    _, _, data, model = opened("cycle_match", fields)
    assert model.output["text_space"].shape == model.output["i2t"].shape == (None, 2 * 4)
    assert data.spec.inputs["text"] == (12,)


def test_members_of_an_ensemble_cannot_share_a_sentence_encoder(fields):
    with pytest.raises(UserError, match="has one sentence encoder that trains"):
        opened("rrf_net", fields, recurrences=(1, 2))


def test_a_dry_run_counts_what_the_recurrence_holds(fields):
    _, _, _, model = opened("rrf_net", fields)
    outputs = sum(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    block = model.get_layer("image_rrf3")
    assert block.held_numbers() == (3 * 4 + 3) * 16
    held = model.get_layer("text_bilstm_max").held_numbers()
    assert held == 12 * 2 * 6 * 4
    assert activations(model) == outputs + (held - 8) + 2 * (block.held_numbers() - 16)
    request = Request.create("rrf_net", "tiny", changes=fields)
    assert "text_bilstm" not in dry_run_text(request, request.open_data())


def test_an_export_takes_texts(fields, tmp_path):
    request = Request.create("cycle_match", "tiny", changes={**fields, "epochs": (1,)})
    assert execute(request, tmp_path / "run")
    served = tf.saved_model.load(str(export_run(tmp_path / "run", tmp_path / "exports")))
    texts = tf.constant(["a red circle", "nothing known"])
    features = served.signatures["encode_text"](text=texts)["embedding"]
    assert features.shape[0] == 2 and np.ptp(features.numpy(), axis=0).max() > 0
    assert served.signatures["search_by_text"](text=texts)["ids"].shape[0] == 2
