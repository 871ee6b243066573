"""The maximum over a bidirectional LSTM against one written out in numpy, and against PyTorch's packed sequences."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import layers
from tfthesis.errors import UserError
from tfthesis.layers.bi_lstm_max import torch_lstm_weights

UNITS, WIDTH, LENGTHS = 4, 3, (5, 1, 3, 0, 4)
GOLDEN = Path(__file__).parents[1] / "golden/bi_lstm_max.npz"
KINDS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def torch_arrays(units=UNITS, width=WIDTH, seed=0):
    """Return the state dict of a `torch.nn.LSTM`, as InferSent names it."""
    rng = np.random.default_rng(seed)
    shapes = dict(zip(KINDS, ((4 * units, width), (4 * units, units), (4 * units,), (4 * units,)), strict=True))
    return {
        f"enc_lstm.{kind}{direction}": rng.normal(scale=0.5, size=shape).astype(np.float32)
        for direction in ("", "_reverse")
        for kind, shape in shapes.items()
    }


def outputs(sentence, arrays, suffix=""):
    """Return what one direction gives after each word `[L, units]`, by the equations of PyTorch's manual."""
    w, u, b, c = (arrays[f"enc_lstm.{kind}{suffix}"].astype(np.float64) for kind in KINDS)
    output = cell = np.zeros(u.shape[1])
    found = []
    for word in sentence:
        i, f, g, o = np.split(w @ word + b + u @ output + c, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        output = o * np.tanh(cell)
        found.append(output)
    return np.array(found)


def expected(words, lengths, arrays):
    rows = []
    for sentence, length in zip(words.astype(np.float64), lengths, strict=True):
        both = [outputs(sentence[:length], arrays), outputs(sentence[:length][::-1], arrays, "_reverse")]
        rows.append(np.concatenate([np.max(each, axis=0) if length else np.zeros(UNITS) for each in both]))
    return np.array(rows)


def batch(lengths=LENGTHS, longest=6, width=WIDTH, seed=1):
    words = np.random.default_rng(seed).normal(size=(len(lengths), longest, width)).astype(np.float32)
    return words, np.arange(longest) < np.array(lengths)[:, None]


def opened(arrays=None, units=UNITS, width=WIDTH, **options):
    layer = layers.BiLSTMMax(units, **options)
    layer.build([(None, None, width), (None, None)])
    layer.set_torch_weights(torch_arrays() if arrays is None else arrays)
    return layer


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_equals_an_lstm_in_numpy(compiled):
    layer, (words, present) = opened(), batch()
    call = layer if compiled is None else tf.function(layer, jit_compile=compiled)
    found = call([tf.constant(words), tf.constant(present)])
    np.testing.assert_allclose(found, expected(words, LENGTHS, torch_arrays()), rtol=1e-5, atol=1e-6)
    assert not np.any(found[3])


def test_equals_what_pytorch_gave():
    """The file is made by tests/golden/make_bi_lstm_max.py."""
    with np.load(GOLDEN) as file:
        golden = dict(file)
    arrays = {name: array for name, array in golden.items() if name.startswith("enc_lstm.")}
    words, lengths = golden["words"], golden["lengths"]
    found = opened(arrays, golden["expected"].shape[1] // 2, words.shape[2])
    present = np.arange(words.shape[1]) < lengths[:, None]
    np.testing.assert_allclose(found([words, present]), golden["expected"], rtol=0, atol=1e-5)
    assert len(set(lengths)) > 3 and str(golden["torch"]).startswith("2.13.0")


def test_equals_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    units, width, lengths = 32, 20, (9, 7, 7, 3, 1)
    words, present = batch(lengths, 12, width)
    arrays = torch_arrays(units, width)
    lstm = torch.nn.LSTM(width, units, 1, bidirectional=True)
    lstm.load_state_dict({name.removeprefix("enc_lstm."): torch.from_numpy(array) for name, array in arrays.items()})
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(words.transpose(1, 0, 2)), lengths)
    padded = torch.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], padding_value=-torch.inf)[0]
    found = opened(arrays, units, width)([words, present])
    np.testing.assert_allclose(found, padded.max(0)[0].detach().numpy(), rtol=0, atol=1e-5)


def test_padding_has_no_effect_wherever_it_stands():
    layer, (words, present) = opened(), batch()
    alone = layer([words, present])
    np.testing.assert_array_equal(layer([np.where(present[:, :, None], words, 9.0), present]), alone)
    longer = np.pad(words, [(0, 0), (2, 7), (0, 0)], constant_values=-5.0)
    np.testing.assert_allclose(layer([longer, np.pad(present, [(0, 0), (2, 7)])]), alone, rtol=1e-6)
    spread, places = np.zeros((len(words), 12, WIDTH), np.float32), np.zeros((len(words), 12), bool)
    spread[:, ::2], places[:, ::2] = words, present
    np.testing.assert_allclose(layer([spread, places]), alone, rtol=1e-6)


def test_presence_may_be_a_number():
    layer, (words, present) = opened(), batch()
    rows = np.where(present, np.arange(1, 7), 0)
    for kind in (np.int32, np.float32):
        np.testing.assert_array_equal(layer([words, rows.astype(kind)]), layer([words, present]))


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_gradients_are_those_of_finite_differences_and_none_reaches_padding(compiled):
    layer, (words, present) = opened(dtype="float64"), batch()
    words = tf.Variable(words, dtype=tf.float64)

    @tf.function(jit_compile=compiled)
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer([words, present])))
        return tape.gradient(loss, [words, *(weight.value for weight in layer.trainable_weights)])

    found, step = gradients(), 1e-6
    assert not np.any(np.where(present[:, :, None], 0, found[0]))
    rng = np.random.default_rng(0)
    for variable, gradient in zip([words, *(w.value for w in layer.trainable_weights)], found, strict=True):
        direction = tf.constant(rng.normal(size=variable.shape))
        sides = []
        for sign in (1, -1):
            variable.assign_add(sign * step * direction)
            sides.append(float(tf.reduce_sum(tf.sin(layer([words, present])))))
            variable.assign_sub(sign * step * direction)
        slope = float(tf.reduce_sum(gradient * direction))
        assert slope == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-7)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize("lengths", [(), (0, 0)], ids=["no sentence", "no words"])
def test_gradient_of_empty_batches_is_zero(lengths):
    layer, (words, present) = opened(), batch(lengths, 6)

    @tf.function
    def gradients(words, present):
        with tf.GradientTape() as tape:
            result = layer([words, present])
        return result, tape.gradient(result, layer.trainable_variables)

    result, found = gradients(tf.constant(words), tf.constant(present))
    assert result.shape == (len(lengths), 2 * UNITS) and not np.any(result)
    assert all(not np.any(gradient) for gradient in found)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.03), ("mixed_float16", 0.004)])
def test_mixed_precision_stays_near_float32_over_many_words(policy, tolerance):
    layer, (words, present) = opened(dtype=policy), batch((40, 33), 40)
    found = layer([words, present])
    assert found.dtype == layer.compute_dtype and layer.forward.kernel.dtype == "float32"
    np.testing.assert_allclose(tf.cast(found, tf.float32), opened()([words, present]), atol=tolerance)


def test_a_model_with_the_layer_survives_saving(tmp_path):
    words, present = batch()
    inputs = {"words": keras.Input((None, WIDTH), name="words"), "present": keras.Input((None,), name="present")}
    layer = layers.BiLSTMMax(UNITS)
    model = keras.Model(inputs, layer([inputs["words"], inputs["present"]]))
    layer.set_torch_weights(torch_arrays())
    assert model.output_shape == (None, 2 * UNITS)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    rows = {"words": words, "present": present.astype(np.float32)}
    np.testing.assert_array_equal(again(rows), layer([words, present]))


def test_weights_start_differently_within_the_bounds_of_pytorch():
    layer = layers.BiLSTMMax(16)
    layer.build([(None, None, WIDTH), (None, None)])
    names = [f"{direction}_{kind}" for direction in ("forward", "backward") for kind in ("kernel", "recurrent", "bias")]
    assert [weight.name for weight in layer.trainable_weights] == names
    assert all(0.15 < np.abs(weight).max() <= 0.25 for weight in layer.trainable_weights)
    assert np.any(layer.forward.kernel != layer.backward.kernel)


def without(name):
    return {key: array for key, array in torch_arrays().items() if key != name}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "missing .*enc_lstm.weight_ih_l0"),
        (without("enc_lstm.bias_hh_l0_reverse"), r"missing \['enc_lstm.bias_hh_l0_reverse'\]"),
        (torch_arrays() | {"enc_lstm.weight_ih_l1": np.zeros((16, 8))}, r"not part of one \['enc_lstm.weight_ih_l1'\]"),
        (torch_arrays() | {"enc_lstm.weight_ih_l0": np.zeros(16)}, r"weight_ih_l0: expected shape .* got \(16,\)"),
        (torch_arrays() | {"enc_lstm.weight_hh_l0": np.zeros((16, 5))}, r"expected shape \(16, 4\).* got \(16, 5\)"),
        (torch_arrays(width=5) | {"enc_lstm.weight_ih_l0_reverse": np.zeros((16, 3))}, r"_reverse: .*\(16, 5\)"),
        (torch_arrays() | {"enc_lstm.bias_ih_l0": np.full(16, np.nan, np.float32)}, "bias_ih_l0: not all .* finite"),
    ],
)
def test_arrays_of_another_network_are_named(arrays, message):
    with pytest.raises(UserError, match=message):
        torch_lstm_weights(arrays)


def test_impossible_layers_are_refused():
    with pytest.raises(ValueError, match="units must be positive, got 0"):
        layers.BiLSTMMax(0)
    with pytest.raises(ValueError, match="got 3 inputs"):
        layers.BiLSTMMax(2).build([(None, 2, 3)] * 3)
