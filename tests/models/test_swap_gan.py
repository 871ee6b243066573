"""SwapGAN: losses, updates, ablations, devices."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.test_cycle_consistent_gan import EPSILON, Adam, noisy
from tfthesis.adversarial.networks import patch_discriminator
from tfthesis.errors import UserError
from tfthesis.losses.perceptual import FeatureDistance
from tfthesis.models import SwapGAN
from tfthesis.swapping.networks import mask_generator, swap_generator

SIDE, CLASSES = 24, 6
WHOLE = {"reference": 1.0, "condition": 1.0, "mask": 5.0, "discriminator": 1.0}


def built(second=True, third=True, seed=0):
    keras.utils.set_random_seed(seed)
    size = {"height": SIDE, "width": SIDE, "filters": 2}
    return SwapGAN(
        swap_generator(channels=6, blocks=1, name="generator_1", **size),
        swap_generator(channels=3 + CLASSES, blocks=1, name="generator_2", **size) if second else None,
        mask_generator(name="generator_3", **size) if third else None,
        patch_discriminator(channels=6, **size),
    )


def batch(rows, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, (3, rows, SIDE, SIDE, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (2, rows, SIDE, SIDE))
    masks = (labels > 0).astype(np.float32)[..., None]
    return {
        "condition": tf.constant(images[0]),
        "reference": tf.constant(images[1]),
        "pose": tf.constant(images[2]),
        "segments": tf.one_hot(labels[0], CLASSES),
        "condition_mask": tf.constant(masks[0]),
        "reference_mask": tf.constant(masks[1]),
    }


def compiled(model, weights=WHOLE, **options):
    model.compile(*(keras.optimizers.Adam(0.01, 0.5, epsilon=EPSILON) for _ in range(2)), weights, **options)
    return model


def joined(*tensors):
    return tf.concat(tensors, axis=-1)


def written_out(model, inputs):
    """Eq 8.12-8.19 as they stand: images, the parts of the generators' loss, and the discriminator's loss."""
    x_r, x_c, p_r, s_c = (inputs[name] for name in ("reference", "condition", "pose", "segments"))
    mean, d, g_3 = tf.reduce_mean, model.discriminator, model.generator_3
    x_1 = model.generator_1(joined(x_c, p_r))
    parts = {"reference": mean((d(joined(x_1, x_c)) - 1) ** 2)}
    loss_d = mean((d(joined(x_r, x_c)) - 1) ** 2) + mean(d(joined(tf.stop_gradient(x_1), x_c)) ** 2)
    masks = [(x_1, inputs["reference_mask"])]
    if model.generator_2 is not None:
        x_2 = model.generator_2(joined(x_1, s_c))
        parts["condition"] = mean((d(joined(x_r, x_2)) - 1) ** 2)
        loss_d += mean(d(joined(x_r, tf.stop_gradient(x_2))) ** 2)
        masks.append((x_2, inputs["condition_mask"]))
    if g_3 is not None:
        parts["mask"] = sum(mean(tf.abs(g_3(image) - mask)) for image, mask in masks)
    return parts, loss_d


@pytest.mark.parametrize(("second", "third", "steps"), [(True, True, 3), (False, True, 1), (True, False, 1)])
def test_steps_against_a_short_implementation(second, third, steps):
    """Eq 8.12-8.19: losses and weights, of the whole model and of both ablations."""
    model, twin = noisy(built(second, third)), noisy(built(second, third))
    weights = {name: value for name, value in WHOLE.items() if second or name != "condition"}
    weights = {name: value for name, value in weights.items() if third or name != "mask"}
    compiled(model, weights)
    optimizers = {"generator": Adam(0.01), "discriminator": Adam(0.01)}
    for step in range(steps):
        inputs = batch(2, seed=step)
        model.reset_metrics()
        logs = {name: float(value) for name, value in model.train_step((inputs, {})).items()}
        with tf.GradientTape(persistent=True) as tape:
            parts, loss_d = written_out(twin, inputs)
            total = tf.add_n([weights[name] * part for name, part in parts.items()])
        expected = {**parts, "discriminator": loss_d, "loss": total + loss_d}
        assert logs == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-4)
        for kind, loss in (("generator", total), ("discriminator", loss_d)):
            variables = [variable for network in twin.networks(kind) for variable in network.trainable_variables]
            gradients = [np.asarray(gradient) for gradient in tape.gradient(loss, variables)]
            values = optimizers[kind]([np.asarray(variable) for variable in variables], gradients)
            mine = [variable for network in model.networks(kind) for variable in network.trainable_variables]
            for variable, value in zip(mine, values, strict=True):
                np.testing.assert_allclose(variable, value, atol=5e-5, err_msg=f"{step} {variable.path}")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        for mine, theirs in zip(model.variables, twin.variables, strict=True):
            mine.assign(theirs)


def test_the_discriminator_moves_no_generator_and_the_generators_no_discriminator():
    for alone, still in (({"discriminator": 1.0}, "generator"), ({**WHOLE, "discriminator": 0.0}, "discriminator")):
        model = noisy(built())
        compiled(model, {name: weight for name, weight in alone.items() if weight})
        before = {kind: [n.get_weights() for n in model.networks(kind)] for kind in ("generator", "discriminator")}
        model.train_step((batch(2), {}))
        moved = {
            kind: any(
                np.any(old != new)
                for network, weights in zip(model.networks(kind), found, strict=True)
                for old, new in zip(weights, network.get_weights(), strict=True)
            )
            for kind, found in before.items()
        }
        assert moved == {"generator": still != "generator", "discriminator": still != "discriminator"}


def test_the_mask_reaches_generators_1_and_2_through_generator_3():
    model, inputs = noisy(built()), batch(1)
    compiled(model, {"mask": 5.0})
    with tf.GradientTape() as tape:
        rows = model.generator_rows(inputs, model.forward(inputs, training=True))
    assert list(rows) == ["mask"]
    variables = [model.generator_1.trainable_variables[0], model.generator_2.trainable_variables[0]]
    assert all(np.any(gradient) for gradient in tape.gradient(rows["mask"], variables))


def test_parts_need_what_they_are_of():
    for weights, missing in (
        ({"condition": 1.0}, "condition"),
        ({"mask": 1.0}, "mask"),
        ({"perceptual": 1.0}, "perceptual"),
    ):
        with pytest.raises(ValueError, match=rf"loss parts \['{missing}'\] need what is not there"):
            compiled(built(second=False, third=False), weights)
    with pytest.raises(ValueError, match="must name some of"):
        compiled(built(), {"cycle": 1.0})


def test_answers_of_the_model():
    model, inputs = noisy(built()), batch(2)
    assert set(model(inputs)) == {"generated", "restored", "generated_mask", "restored_mask"}
    alone = model({"condition": inputs["condition"], "pose": inputs["pose"]})
    assert set(alone) == {"generated", "generated_mask"}
    np.testing.assert_allclose(
        alone["generated"], model.generator_1(joined(inputs["condition"], inputs["pose"])), rtol=1e-5
    )
    assert set(built(second=False, third=False)(inputs)) == {"generated"}


def test_one_and_two_devices_make_the_same_updates(logical_devices):
    """The second device has fewer rows, at last none."""

    def made():
        model = noisy(built())
        # Steps that follow the gradient's size: a division by its root would turn what is zero but for rounding, such
        # as the biases before an instance normalisation, into steps of full length.
        model.compile(*(keras.optimizers.SGD(1e-4, momentum=0.9) for _ in range(2)), WHOLE)
        return model

    one = made()
    strategy = tf.distribute.MirroredStrategy(logical_devices[:2], tf.distribute.HierarchicalCopyAllReduce())
    with strategy.scope():
        two = made()
    specs = {name: tf.TensorSpec([None, *value.shape[1:]]) for name, value in batch(1).items()}
    single = tf.function(lambda inputs: one.train_step((inputs, {})), input_signature=[specs])

    @tf.function(input_signature=[specs, specs])
    def step(first, second):
        def call():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return two.train_step(
                ({n: tf.cond(replica == 0, lambda n=n: first[n], lambda n=n: second[n]) for n in first}, {})
            )

        return strategy.run(call)

    def networks_of(model):
        return [*model.networks("generator"), *model.networks("discriminator")]

    def values(network):
        return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in network.weights])

    for number, rows in enumerate((3, 4, 1)):
        inputs = batch(rows, seed=number)
        half, before = -(-rows // 2), [values(network) for network in networks_of(one)]
        expected = single(inputs)
        found = step({n: v[:half] for n, v in inputs.items()}, {n: v[half:] for n, v in inputs.items()})
        for name, value in expected.items():
            mine = strategy.experimental_local_results(found[name])[0]
            assert float(mine) == pytest.approx(float(value), rel=1e-4), name
        for old, mine, theirs in zip(before, networks_of(one), networks_of(two), strict=True):
            difference, update = values(theirs) - values(mine), values(mine) - old
            assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(update), (number, mine.name)
            # Through several networks with instance normalisation a rounding soon makes the next gradient another one.
            theirs.set_weights(mine.get_weights())


@pytest.mark.parametrize(("second", "third"), [(True, True), (False, False)])
def test_keras_file(tmp_path, second, third):
    model = built(second, third)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert (again.generator_2 is not None, again.generator_3 is not None) == (second, third)
    inputs, answers = batch(1), model(batch(1))
    for name, value in again(inputs).items():
        np.testing.assert_allclose(answers[name], value, rtol=1e-6)


def test_perceptual_loss_is_the_squared_difference_of_features():
    keras.utils.set_random_seed(0)
    distance = FeatureDistance("vgg16", ["block1_conv2", "block2_conv1"], weights=None)
    model, inputs = noisy(built()), batch(2)
    compiled(model, {"perceptual": 0.5, "discriminator": 1.0}, distance=distance)
    outputs = model.forward(inputs, training=True)
    rows = model.generator_rows(inputs, outputs)["perceptual"]
    network = distance._features

    def features(image):
        # Blue first, less the means of ImageNet.
        pixels = (np.asarray(image)[..., ::-1] + 1) * 127.5 - [103.939, 116.779, 123.68]
        return [np.asarray(maps) for maps in network(pixels.astype(np.float32))]

    expected = np.zeros(2)
    for made, target in (("generated", "reference"), ("restored", "condition")):
        pairs = zip(features(outputs[made]), features(inputs[target]), strict=True)
        expected += np.mean([((a - b) ** 2).mean(axis=(1, 2, 3)) for a, b in pairs], axis=0)
    np.testing.assert_allclose(rows, expected, rtol=1e-4)
    before = network.get_weights()
    assert not any("block1_conv2" in variable.path for variable in model.variables)
    model.train_step((inputs, {}))
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_networks_and_weights_of_the_perceptual_loss_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="unknown network of the perceptual loss 'vgg61'"):
        FeatureDistance("vgg61", ["block1_conv1"], None)
    with pytest.raises(UserError, match="unknown layer of vgg16 'block9_conv1'"):
        FeatureDistance("vgg16", ["block9_conv1"], None)
    with pytest.raises(UserError, match="no file nowhere.h5; expected weights of vgg19"):
        FeatureDistance("vgg19", ["block1_conv1"], "nowhere.h5")
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(UserError, match="other.weights.h5 do not fit vgg16"):
        FeatureDistance("vgg16", ["block1_conv1"], str(tmp_path / "other.weights.h5"))
