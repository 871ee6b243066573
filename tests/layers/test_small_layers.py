"""LayerFusion, BilinearPooling and SignedSquareRoot."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import layers

RNG = np.random.default_rng(3)
A, B, C = RNG.normal(size=(3, 4, 5)).astype(np.float32)


def test_convolution_starts_as_the_mean_and_has_one_weight_a_layer_and_one_bias():
    fusion = layers.LayerFusion("convolution")
    np.testing.assert_allclose(fusion([A, B, C]), (A + B + C) / 3, rtol=1e-5, atol=1e-6)
    assert [tuple(weight.shape) for weight in fusion.weights] == [(3,), ()]
    fusion.set_weights([np.array([1.0, -2.0, 0.5]), np.array(0.25)])
    np.testing.assert_allclose(fusion([A, B, C]), A - 2 * B + 0.5 * C + 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mode", "expected"), [("sum", A + B + C), ("multiply", A * B * C)])
def test_element_wise_fusions(mode, expected):
    fusion = layers.LayerFusion(mode)
    np.testing.assert_allclose(fusion([A, B, C]), expected, rtol=1e-5, atol=1e-6)
    assert not fusion.weights


def test_fusion_errors_name_what_came():
    with pytest.raises(ValueError, match="got 'mean'"):
        layers.LayerFusion("mean")
    with pytest.raises(ValueError, match=r"got \[\(None, 5\), \(None, 4\)\]"):
        layers.LayerFusion("sum").build([(None, 5), (None, 4)])


def test_bilinear_pooling_is_the_outer_product():
    expected = np.einsum("bi,bj->bij", A, B).reshape(4, 25)
    np.testing.assert_allclose(layers.BilinearPooling()([A, B]), expected, rtol=1e-6)
    assert layers.BilinearPooling().compute_output_shape([(None, 512), (None, 512)]) == (None, 262144)


def test_signed_square_root_and_its_gradient_at_zero():
    x = tf.constant([-4.0, 0.0, 9.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        roots = layers.SignedSquareRoot()(x)
    np.testing.assert_allclose(roots, [-2, 0, 3], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(roots, x), [0.25, 0, 1 / 6], rtol=1e-6)


def test_example_dropout_scales_repeats_by_seed_and_counts_steps():
    x = tf.ones([200, 50])
    one, two = layers.ExampleDropout(0.3, seed=7), layers.ExampleDropout(0.3, seed=7)
    first, second = one(x, training=True).numpy(), one(x, training=True).numpy()
    assert set(np.unique(first)) == {0.0, np.float32(1 / np.float32(0.7))}
    assert abs((first == 0).mean() - 0.3) < 0.02
    assert (first != second).any()
    np.testing.assert_array_equal(first, two(x, training=True))
    two.set_weights(one.get_weights())
    np.testing.assert_array_equal(one(x, training=True), two(x, training=True))
    np.testing.assert_array_equal(one(x, training=False), x)


def test_example_dropout_masks_a_row_alike_in_any_share_of_the_batch(logical_devices):
    strategy = tf.distribute.MirroredStrategy(
        logical_devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce()
    )
    assert strategy.num_replicas_in_sync == 4
    with strategy.scope():
        shared = layers.ExampleDropout(0.5, seed=1)
        shared.build((None, 8))
    alone = layers.ExampleDropout(0.5, seed=1)
    shares = [3, 1, 0, 2]
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.ones([shares[context.replica_id_in_sync_group], 8])
    )
    for _ in range(2):
        parts = strategy.run(tf.function(lambda x: shared(x, training=True)), args=(values,))
        got = tf.concat(strategy.experimental_local_results(parts), axis=0)
        np.testing.assert_array_equal(got, alone(tf.ones([sum(shares), 8]), training=True))


def test_layers_are_found_by_class_name_and_unknown_names_say_so():
    assert layers.LayerFusion is layers.layer_fusion.LayerFusion
    with pytest.raises(AttributeError, match="no file missing_layer.py"):
        _ = layers.MissingLayer


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerFusion("sum"),
        layers.ExampleDropout(0.2, seed=4),
        layers.CompactBilinearPooling(9, seed=2),
        layers.BilinearPooling(),
        layers.SignedSquareRoot(1e-6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_configurations_round_trip(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
