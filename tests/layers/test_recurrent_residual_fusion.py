"""The recurrent residual fusion block and joined embeddings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import layers


def block(recurrences, fusion, weight=0.5, bias=1.0, width=1):
    """A block whose normalisations change nothing, as in a network without them."""
    layer = layers.RecurrentResidualFusion(recurrences, fusion, norm_epsilon=0.0)
    layer.build((None, width))
    layer.kernel.assign(weight * np.eye(width))
    layer.bias.assign(np.full(width, bias))
    return layer


def test_one_shared_weight_runs_through_all_recurrences():
    """W = .5, b = 1, x0 = 2: h = 4, 7, 11.5, 18.25, with the sum 40.75."""
    x = tf.constant([[2.0]])
    for recurrences, expected in enumerate((4.0, 7.0, 11.5, 18.25)):
        assert float(block(recurrences, "none")(x)[0, 0]) == pytest.approx(expected)
    assert float(block(3, "sum")(x)[0, 0]) == pytest.approx(40.75)
    mean = block(3, "convolution")
    assert float(mean(x)[0, 0]) == pytest.approx(40.75 / 4)
    mean.fuse.kernel.assign([1.0, 0.0, 0.0, -0.1])
    mean.fuse.bias.assign(0.5)
    assert float(mean(x)[0, 0]) == pytest.approx(4 - 1.825 + 0.5)
    mean.fuse.bias.assign(-90.0)
    assert float(mean(x)[0, 0]) == 0  # the rectifier behind the fusion


def test_negative_activations_leave_the_identity():
    assert float(block(3, "none", weight=-1.0, bias=0.0)(tf.constant([[2.0]]))[0, 0]) == 2


def test_normalisations_are_not_shared_and_weights_are():
    for fusion, extra in (("none", 0), ("sum", 2), ("convolution", 2 + 4 + 1)):
        layer = layers.RecurrentResidualFusion(3, fusion)
        layer.build((None, 8))
        assert sum(np.prod(w.shape) for w in layer.trainable_weights) == 8 * 8 + 8 + 4 * 16 + extra
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    for _ in range(200):
        layer(x, training=True)
    means = [norm.moving_mean.numpy() for norm in layer.norms]
    assert all(not np.allclose(means[0], other, atol=1e-2) for other in means[1:])


def test_each_application_has_the_normalisation_of_its_own():
    layer = block(1, "none")
    layer.norms[1].beta.assign([3.0])
    assert float(layer(tf.constant([[2.0]]))[0, 0]) == pytest.approx(4 + (0.5 * 4 + 1 + 3))


def test_training_normalises_by_the_batch_and_the_fused_vector_as_one_channel():
    layer = layers.RecurrentResidualFusion(1, "sum", kernel_initializer="random_normal", norm_epsilon=1e-5)
    x = np.random.default_rng(1).normal(size=(32, 6)).astype(np.float32)
    found = layer(x, training=True).numpy()
    w, b = layer.kernel.numpy(), layer.bias.numpy()
    normal = lambda h, axis: (h - h.mean(axis)) / np.sqrt(h.var(axis) + 1e-5)  # noqa: E731
    first = np.maximum(normal(x @ w + b, 0), 0) + x
    second = np.maximum(normal(first @ w + b, 0), 0) + first
    np.testing.assert_allclose(found, np.maximum(normal(first + second, None), 0), atol=1e-4)


def test_a_frozen_block_keeps_its_statistics():
    layer = layers.RecurrentResidualFusion(2, "convolution")
    x = np.ones((4, 3), np.float32)
    layer(x)
    layer.trainable = False
    before = [weight.numpy() for weight in layer.weights]
    layer(x, training=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.weights, strict=True))
    assert not layer.trainable_weights


@pytest.mark.parametrize("fusion", ["none", "sum", "convolution"])
def test_a_model_with_the_block_survives_saving(fusion, tmp_path):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.RecurrentResidualFusion(2, fusion, fusion_initializer="random_normal")(inputs))
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(("options", "message"), [({"fusion": "mean"}, "fusion"), ({"recurrences": -1}, "recurrences")])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        layers.RecurrentResidualFusion(**options)


def test_joined_embeddings_average_cosines(tmp_path):
    rng = np.random.default_rng(0)
    left, right = ([rng.normal(size=(6, width)).astype(np.float32) for width in (3, 5)] for _ in range(2))
    layer = layers.JoinedEmbeddings()
    product = layer(left).numpy() @ layer(right).numpy().T
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    cosines = [unit(a) @ unit(b).T for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(product, sum(cosines) / 2, atol=1e-6)
    assert layer.widths == (3, 5)
    inputs = [keras.Input((3,)), keras.Input((5,))]
    model = keras.Model(inputs, layers.JoinedEmbeddings(name="joined")(inputs))
    assert model.output.shape == (None, 8)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(left), layer(left))
    assert again.get_layer("joined").widths == (3, 5)


def test_joined_embeddings_keep_single_precision():
    inputs = [keras.Input((3,), dtype="bfloat16")]
    joined = layers.JoinedEmbeddings(dtype="mixed_bfloat16")(inputs)
    assert joined.dtype == "float32"
    assert keras.Model(inputs, joined)([tf.ones((2, 3), tf.bfloat16)]).dtype == tf.float32
