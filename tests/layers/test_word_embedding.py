"""Word vectors by row number: exact rows, frozen vectors that stay frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import layers

ROWS = 2000
VECTORS = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


def opened(**options):
    layer = layers.WordEmbedding(ROWS, 3, **options)
    layer.build((None, None))
    layer.set_weights([VECTORS])
    return layer


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_large_rows_keep_their_number_in_every_precision(policy):
    layer = opened(dtype=policy)
    rows = np.array([[0, 1003, 1999], [257, 5, 0]])
    expected = VECTORS[rows].astype(layer.compute_dtype)
    for kind in (np.int32, np.int64, np.float32):
        found = layer(rows.astype(kind))
        assert found.dtype == layer.compute_dtype
        np.testing.assert_array_equal(found, expected)


def test_vectors_train_only_if_they_were_meant_to():
    frozen, trained = opened(), opened(train_vectors=True)
    frozen.trainable = trained.trainable = True
    assert not frozen.trainable_weights and len(frozen.weights) == 1
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(trained(np.array([[3, 3, 1]])) * [1.0, 2.0, 3.0])
    gradient = tf.convert_to_tensor(tape.gradient(loss, trained.trainable_variables[0].value)).numpy()
    assert sorted(np.flatnonzero(gradient.any(axis=1))) == [1, 3]
    np.testing.assert_array_equal(gradient[3], [2, 4, 6])
    trained.trainable = False
    assert not trained.trainable_weights


def test_vectors_survive_saving(tmp_path):
    layer = layers.WordEmbedding(ROWS, 3)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([VECTORS])
    assert model.output_shape == (None, 4, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.weights[0], VECTORS)


def test_rows_beyond_the_vectors_are_refused():
    for row in (-1, ROWS):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"= {row} is not in"):
            opened()(np.array([[row]]))


@pytest.mark.parametrize("layer", [layers.WordEmbedding(9, 2, train_vectors=True), layers.BiLSTMMax(7)], ids=["e", "l"])
def test_configurations_round_trip(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
