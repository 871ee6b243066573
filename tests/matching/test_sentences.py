"""Sentences inside a model: what trains, what stays, what is saved, served, and the same on two devices."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.test_word_vectors import write_arrays
from tests.layers.test_bi_lstm_max import expected as numpy_features
from tests.layers.test_bi_lstm_max import torch_arrays
from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.encoders import open_encoder
from tfthesis.errors import UserError
from tfthesis.export.saved_model import write_saved_model
from tfthesis.export.session import open_session
from tfthesis.losses import MatchingAndClassification
from tfthesis.matching.sentences import sentence_features
from tfthesis.matching.served import matching_signatures
from tfthesis.method import Spec
from tfthesis.models import ObjectiveModel
from tfthesis.optimizers import CaffeSGD

WORDS = ["a", "large", "small", "red", "blue", "green", "circle", "square", "and", "of", "the"]
VECTORS = np.random.default_rng(4).normal(size=(len(WORDS), 3)).astype(np.float32)
LENGTH, IMAGE, UNITS = 6, 5, 4


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = write_arrays(tmp_path_factory.mktemp("vectors") / "v.npy", VECTORS, WORDS)
    return open_encoder("word_rows", word_vectors=path, max_length=LENGTH)


@pytest.fixture(scope="module")
def spec(encoder):
    return Spec({"image": (IMAGE,), "text": (LENGTH,)}, encoders={"text": encoder.describe()})


def build(spec, dtype="float32", **options):
    inputs = {name: keras.Input(shape, name=name) for name, shape in spec.inputs.items()}
    text = sentence_features(inputs["text"], spec, units=UNITS, dtype=dtype, **options)
    features = {"image": inputs["image"], "text": text}
    outputs = {}
    for name, value in features.items():
        value = keras.layers.Dense(7, name=f"{name}_fc", dtype=dtype)(value)
        unit = keras.layers.UnitNormalization(name=f"{name}_embedding", dtype=dtype)
        outputs[f"{name}_embedding"] = unit(value)
    return ObjectiveModel(inputs, outputs)


def compiled(model, prefixes=("",)):
    model.train_only(prefixes)
    model.compile(CaffeSGD(0.5, momentum=0.9), loss=MatchingAndClassification({"matching": 1.0}, negatives=3))
    return model


def batch(rows=8, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    words = rng.integers(1, len(WORDS) + 1, size=(rows, LENGTH)) * (np.arange(LENGTH) < rng.integers(0, 7, (rows, 1)))
    inputs = {"image": rng.normal(size=(rows, IMAGE)).astype(dtype), "text": words.astype(dtype)}
    return inputs, {"image_id": np.arange(rows) // 2}


def weights(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def test_features_of_a_text_are_those_of_its_words_in_numpy(encoder, spec):
    rows = keras.Input((LENGTH,), name="text")
    model = keras.Model(rows, sentence_features(rows, spec, units=UNITS))
    assert [layer.name for layer in model.layers[1:]] == ["text_words", "text_bilstm_max"]
    model.get_layer("text_bilstm_max").set_torch_weights(torch_arrays())
    texts = ["The red circle.", "", "a of unknown the square", "unknown"]
    lengths, words = (3, 0, 4, 0), np.zeros((4, LENGTH, 3))
    for row, chosen in zip(words, (["the", "red", "circle"], [], ["a", "of", "the", "square"], []), strict=True):
        row[: len(chosen)] = [VECTORS[WORDS.index(word)] for word in chosen] or np.zeros((0, 3))
    found = model(encoder(tf.constant(texts)))
    np.testing.assert_allclose(found, numpy_features(words, lengths, torch_arrays()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trainable_words", [False, True])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_what_trains(spec, trainable_words, precision):
    model = compiled(build(spec, precision, trainable_words=trainable_words))
    before = weights(model)
    losses = [float(model.train_step(batch())["matching"]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    still = {path for path, value in weights(model).items() if np.array_equal(value, before[path])}
    assert still == (set() if trainable_words else {"text_words/vectors"})
    np.testing.assert_array_equal(before["text_words/vectors"], np.pad(VECTORS, [(1, 0), (0, 0)]))
    # The row that stands for no word has no gradient.
    assert not np.any(weights(model)["text_words/vectors"][0])


@pytest.mark.parametrize("trainable_words", [False, True])
def test_xla_takes_the_same_step(spec, trainable_words):
    found = []
    for xla in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled(build(spec, trainable_words=trainable_words))
        tf.function(model.train_step, jit_compile=xla)(tf.nest.map_structure(tf.constant, batch()))
        found.append(weights(model))
    for path, value in found[0].items():
        np.testing.assert_allclose(found[1][path], value, rtol=1e-4, atol=1e-5, err_msg=path)


def test_stages_freeze_it_by_its_prefix(spec):
    model = compiled(build(spec, trainable_words=True), ("image_",))
    before = weights(model)
    model.train_step(batch())
    changed = {path for path, value in weights(model).items() if not np.array_equal(value, before[path])}
    assert changed == {"image_fc/kernel", "image_fc/bias"}


def test_a_model_survives_saving_without_its_word_vectors_at_hand(tmp_path):
    path = write_arrays(tmp_path / "v.npy", VECTORS, WORDS)
    encoder = open_encoder("word_rows", word_vectors=path, max_length=LENGTH)
    spec = Spec({"image": (IMAGE,), "text": (LENGTH,)}, encoders={"text": encoder.describe()})
    model = compiled(build(spec))
    model.train_step(batch())
    model.save(tmp_path / "model.keras")
    path.unlink()
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(again) is ObjectiveModel
    for name, value in weights(model).items():
        np.testing.assert_array_equal(weights(again)[name], value, err_msg=name)
    for name, value in model(batch()[0]).items():
        np.testing.assert_array_equal(again(batch()[0])[name], value)
    assert not again.get_layer("text_words").trainable_weights
    model.reset_metrics()
    assert float(again.train_step(batch())["loss"]) == pytest.approx(float(model.test_step(batch())["loss"]), rel=1e-6)
    with pytest.raises(UserError, match="no file .*v.npy"):
        build(spec)


def test_pairs_reach_it_through_the_cache_and_an_export_answers_texts(encoder, tmp_path):
    dataset = open_image_text("scenes", images=(6, 3, 4), size=24, captions=3)
    data = PairedData(dataset, open_encoder("pixels"), encoder, cache=tmp_path / "cache")
    assert data.spec.inputs["text"] == (LENGTH,)
    model = compiled(build(data.spec))
    inputs, targets = next(iter(data.batches("train", [np.arange(12)], (0, 0))))
    assert np.count_nonzero(inputs["text"]) and np.isfinite(float(model.train_step((inputs, targets))["loss"]))
    served = matching_signatures(model, data.spec, {}, {"text": encoder})
    folder = write_saved_model(served, tmp_path / "m", metadata={}, stock_only=True)
    arrays = data.arrays("test")
    rows = {"image": np.zeros((len(arrays.text), 64), np.float32), "text": arrays.text}
    expected = model(rows, training=False)["text_embedding"]
    with open_session(folder) as session:
        texts = np.array([caption.encode() for caption in arrays.captions], object)
        found = session.callable("encode_text")({"text": texts})["embedding"]
        of_rows = session.callable("encode_text_features")({"text": arrays.text})["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(of_rows, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({}, "expected text_encoder 'word_rows', got 'none'"),
        ({"text": {"name": "hashed_words"}}, "expected text_encoder 'word_rows', got 'hashed_words'"),
    ],
)
def test_other_encoders_are_refused(encoders, message):
    with pytest.raises(UserError, match=message):
        build(Spec({"image": (IMAGE,), "text": (LENGTH,)}, encoders=encoders))


@pytest.fixture
def float64():
    """Computes everything in float64, metrics included."""
    precision = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(precision)


@pytest.mark.parametrize("trainable_words", [False, True])
@pytest.mark.parametrize("rows", [8, 7, 1], ids=["even", "uneven", "one device without rows"])
def test_two_devices_take_the_step_of_one(spec, logical_devices, float64, rows, trainable_words):
    results = []
    for devices in (1, 2):
        strategy = tf.distribute.MirroredStrategy(
            logical_devices[:devices], cross_device_ops=tf.distribute.HierarchicalCopyAllReduce()
        )
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = compiled(build(spec, "float64", trainable_words=trainable_words))
        step = tf.function(functools.partial(strategy.run, model.train_step), autograph=False)
        losses = [step((share(strategy, batch(rows, "float64", seed), devices),))["loss"] for seed in range(2)]
        losses = [np.array(strategy.experimental_local_results(loss)).ravel() for loss in losses]
        results.append((losses, weights(model)))
    (losses, alone), (shared_losses, shared) = results
    np.testing.assert_allclose(shared_losses, np.repeat(losses, 2, axis=1), rtol=1e-9)
    for path, value in alone.items():
        np.testing.assert_allclose(shared[path], value, rtol=1e-9, atol=1e-12, err_msg=path)


def share(strategy, pairs, replicas):
    """Return a batch whose rows are split over the replicas in order."""
    size = -(-len(pairs[1]["image_id"]) // replicas)

    def cut(value):
        parts = [tf.constant(value[r * size : (r + 1) * size]) for r in range(replicas)]
        return strategy.experimental_distribute_values_from_function(lambda c: parts[c.replica_id_in_sync_group])

    return tuple({name: cut(value) for name, value in part.items()} for part in pairs)
