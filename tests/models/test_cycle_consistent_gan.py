"""CycleGAN and its longer chains: losses, updates, counts, devices."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.adversarial.networks import patch_discriminator, resnet_generator
from tfthesis.models import CycleConsistentGAN

SIDE = 24
# Large, so that Adam does not make steps of a whole rate out of gradients that are rounding errors.
EPSILON = 0.01


def generator(name):
    return resnet_generator(SIDE, SIDE, filters=2, blocks=1, name=name)


def built(m=1, n=1, shared=False, pool=2, seed=0, normalization="instance"):
    keras.utils.set_random_seed(seed)
    chains = [[generator(f"generator_{t}_{k}") for k in range(1 if shared else c)] for t, c in (("b", m), ("a", n))]
    discriminators = [
        patch_discriminator(SIDE, SIDE, filters=2, normalization=normalization, name=f"discriminator_{d}") for d in "ab"
    ]
    return CycleConsistentGAN(*chains, *discriminators, steps=(m, n), pool=pool)


def batch(rows, seed=0):
    a, b = np.random.default_rng(seed).uniform(-1, 1, (2, rows, SIDE, SIDE, 3)).astype(np.float32)
    return {"a": tf.constant(a), "b": tf.constant(b)}, {"row": tf.range(rows)}


def compiled(model, rate=0.01, decay=0.0, **weights):
    weights = weights or {"adversarial": 1.0, "cycle": 10.0, "discriminator": 1.0}
    adam = [keras.optimizers.Adam(rate, 0.5, epsilon=EPSILON) for _ in range(2)]
    model.compile(*adam, weights, decay)
    return model


def noisy(model, seed=0):
    """Give every weight of the networks a value that matters; they start near zero."""
    rng = np.random.default_rng(seed)
    for kind in ("generator", "discriminator"):
        for network in model.networks(kind):
            for weight in network.weights:
                weight.assign(rng.normal(scale=0.2, size=weight.shape))
    return model


class Adam:
    """Kingma and Ba's update, for comparison."""

    def __init__(self, rate, first=0.5, second=0.999, epsilon=EPSILON):
        self.rate, self.first, self.second, self.epsilon = rate, first, second, epsilon
        self.moments, self.time = {}, 0

    def __call__(self, values, gradients):
        self.time += 1
        result = []
        for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            m, v = self.moments.get(place, (0.0, 0.0))
            m = self.first * m + (1 - self.first) * gradient
            v = self.second * v + (1 - self.second) * gradient**2
            self.moments[place] = m, v
            rate = self.rate * np.sqrt(1 - self.second**self.time) / (1 - self.first**self.time)
            result.append(value - rate * m / (np.sqrt(v) + self.epsilon))
        return result


def test_vanilla_steps_against_a_short_implementation():
    """Eq 8.1-8.3: two steps of losses and weights, with a pool of one image a domain."""
    model, twin = noisy(built(pool=1)), noisy(built(pool=1))
    compiled(model)
    (g,), (f,), da, db = twin.to_b, twin.to_a, twin.discriminator_a, twin.discriminator_b
    optimizers = {"generator": Adam(0.01), "discriminator": Adam(0.01)}
    kept, mean = {}, tf.reduce_mean
    for step in range(3):
        inputs, targets = batch(1, seed=step)
        a, b = inputs["a"], inputs["b"]
        model.reset_metrics()
        logs = {name: float(value) for name, value in model.train_step((inputs, targets)).items()}
        with tf.GradientTape(persistent=True) as tape:
            fake_b, fake_a = g(a), f(b)
            adversarial = mean((db(fake_b) - 1) ** 2) + mean((da(fake_a) - 1) ** 2)
            cycle = mean(tf.abs(f(fake_b) - a)) + mean(tf.abs(g(fake_a) - b))
            total = adversarial + 10 * cycle
            shown = {}
            for domain, fake, pool in (("a", fake_a, model.pool_a), ("b", fake_b, model.pool_b)):
                lots = tf.random.stateless_uniform([2], [pool.seed, step])
                shown[domain] = tf.stop_gradient(fake)
                if step and lots[0] >= 0.5:
                    shown[domain], kept[domain] = kept[domain], shown[domain]
                kept.setdefault(domain, shown[domain])
            loss_d = mean((da(a) - 1) ** 2) + mean(da(shown["a"]) ** 2)
            loss_d += mean((db(b) - 1) ** 2) + mean(db(shown["b"]) ** 2)
        expected = {"adversarial": adversarial, "cycle": cycle, "discriminator": loss_d, "loss": total + loss_d}
        assert logs == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-4)
        for kind, loss in (("generator", total), ("discriminator", loss_d)):
            variables = [variable for network in twin.networks(kind) for variable in network.trainable_variables]
            gradients = [np.asarray(gradient) for gradient in tape.gradient(loss, variables)]
            values = optimizers[kind]([np.asarray(variable) for variable in variables], gradients)
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            mine = [variable for network in model.networks(kind) for variable in network.trainable_variables]
            for variable, value in zip(mine, values, strict=True):
                np.testing.assert_allclose(variable, value, atol=2e-5, err_msg=f"{step} {variable.path}")
    assert set(kept) == {"a", "b"}


def rows_of(model, inputs, **weights):
    compiled(model, **weights)
    return {
        name: np.asarray(rows)
        for name, rows in model.generator_rows(inputs, model.forward(inputs, training=True)).items()
    }


def distance(first, second):
    return np.abs(np.asarray(first) - np.asarray(second)).mean(axis=(1, 2, 3))


def test_nest_losses_of_two_and_three_generators():
    """Eq 8.7-8.11; the inner cycle m uses the last m generators of the way back."""
    model = noisy(built(2, 3))
    inputs, _ = batch(2)
    a, b = inputs["a"], inputs["b"]
    (g1, g2), (h1, h2, h3) = model.to_b, model.to_a
    rows = rows_of(model, inputs, adversarial=1.0, cycle=10.0, inner=10.0, similarity=1.0, identity=5.0)
    to_b, to_a = g2(g1(a)), h3(h2(h1(b)))
    answers = np.asarray(model.discriminator_b(to_b)), np.asarray(model.discriminator_a(to_a))
    expected = {
        "adversarial": sum(((answer - 1) ** 2).mean(axis=(1, 2, 3)) for answer in answers),
        "cycle": distance(h3(h2(h1(to_b))), a) + distance(g2(g1(to_a)), b),
        # From A only one of two generators is inner; from B two of three are, and the way back has two.
        "inner": distance(h3(g1(a)), a) + distance(g2(h1(b)), b) + distance(g2(g1(h2(h1(b)))), b),
        "similarity": distance(g1(a), h1(b)),
        "identity": distance(g2(g1(b)), b) + distance(h3(h2(h1(a))), a),
    }
    assert list(rows) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(rows[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_long_with_one_generator_is_vanilla_and_the_outer_cycle_is_no_inner_one():
    inputs, _ = batch(2)
    vanilla = rows_of(noisy(built(1, 1)), inputs, adversarial=1.0, cycle=10.0, inner=10.0)
    assert not vanilla["inner"].any()
    longer = noisy(built(2, 1))
    without = rows_of(longer, inputs, adversarial=1.0, cycle=10.0)
    both = rows_of(longer, inputs, adversarial=1.0, cycle=10.0, inner=10.0)
    for name in ("adversarial", "cycle"):
        np.testing.assert_array_equal(without[name], both[name])
    assert (both["inner"] > 0).all()


def test_thesis_counts():
    """check figures: 11,378,179 and 2,764,737 weights; vanilla 28,285,832, Long and Nest 51,042,190."""
    sizes = resnet_generator(256, 256).count_params(), patch_discriminator(256, 256).count_params()
    assert sizes == (11_378_179, 2_764_737)
    assert 2 * sum(sizes) == 28_285_832 and 4 * sizes[0] + 2 * sizes[1] == 51_042_190
    assert resnet_generator(128, 128, blocks=6).count_params() == 7_837_699
    assert resnet_generator(256, 256, affine=True).count_params() == sizes[0] + 10_496
    assert patch_discriminator(256, 256).output_shape == (None, 30, 30, 1)
    assert patch_discriminator(128, 128).output_shape == (None, 14, 14, 1)
    assert patch_discriminator(128, 128, channels=6).count_params() == 2_767_809


def test_shared_generators_are_one():
    shared, apart = noisy(built(2, 2, shared=True)), noisy(built(2, 2))
    counted = [sum(v.shape.num_elements() for v in model.trainable_variables) for model in (shared, apart)]
    size = shared.to_b[0].count_params()
    assert counted[1] - counted[0] == 2 * size
    inputs, _ = batch(1)
    (g,) = shared.to_b
    np.testing.assert_allclose(shared(inputs)["to_b"], g(g(inputs["a"])), rtol=1e-5)
    with pytest.raises(ValueError, match="expected 1 generator or as many as steps, 3, got 2"):
        CycleConsistentGAN(apart.to_b, apart.to_a, apart.discriminator_a, apart.discriminator_b, (3, 2))


NEST = {"adversarial": 1.0, "cycle": 10.0, "inner": 10.0, "similarity": 1.0, "discriminator": 1.0}


@pytest.mark.parametrize(
    ("chains", "normalization", "weights", "adam"),
    # One inner cycle is enough; each further generator makes the graphs of both steps longer.
    [((2, 1), "instance", NEST, False), ((1, 1), "spectral", {"adversarial": 1.0, "discriminator": 1.0}, True)],
)
def test_one_and_two_devices_make_the_same_updates(logical_devices, chains, normalization, weights, adam):
    """Generators, discriminators, pools and power iterations; the second device has fewer rows, at last none."""
    sizes = (3, 4, 1)

    def made():
        model = noisy(built(*chains, pool=3, normalization=normalization))
        # Steps that follow the gradient's size: a division by its root would turn what is zero but for rounding, such
        # as the biases before an instance normalisation, into steps of full length. A large epsilon prevents that too.
        if adam:
            optimizers = [keras.optimizers.Adam(1e-4, 0.5, epsilon=0.01) for _ in range(2)]
        else:
            optimizers = [keras.optimizers.SGD(1e-4, momentum=0.9) for _ in range(2)]
        model.compile(*optimizers, weights, weight_decay=0.5 if adam else 0.0)
        return model

    one = made()
    strategy = tf.distribute.MirroredStrategy(logical_devices[:2], tf.distribute.HierarchicalCopyAllReduce())
    with strategy.scope():
        two = made()
    images = {name: tf.TensorSpec([None, SIDE, SIDE, 3]) for name in "ab"}
    single = tf.function(lambda inputs: one.train_step((inputs, {})), input_signature=[images])

    @tf.function(input_signature=[images, images])
    def step(first, second):
        def call():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return two.train_step(
                ({n: tf.cond(replica == 0, lambda n=n: first[n], lambda n=n: second[n]) for n in first}, {})
            )

        return strategy.run(call)

    def networks_of(model):
        return [*model.networks("generator"), *model.networks("discriminator")]

    def values(model):
        weights = [weight for network in networks_of(model) for weight in network.weights]
        return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in weights])

    for number, rows in enumerate(sizes):
        inputs, _ = batch(rows, seed=number)
        half, before = -(-rows // 2), values(one)
        expected = single(inputs)
        found = step({n: v[:half] for n, v in inputs.items()}, {n: v[half:] for n, v in inputs.items()})
        for name, value in expected.items():
            mine = strategy.experimental_local_results(found[name])[0]
            assert float(mine) == pytest.approx(float(value), rel=1e-4), name
        difference, update = values(two) - values(one), values(one) - before
        assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(update), number
        # Through four networks with instance normalisation a rounding soon makes the next gradient another one.
        for mine, theirs in zip(networks_of(one), networks_of(two), strict=True):
            theirs.set_weights(mine.get_weights())
    for name in ("pool_a", "pool_b"):
        mine, theirs = getattr(one, name), getattr(two, name)
        counts = [int(keras.ops.convert_to_numpy(pool.count)) for pool in (mine, theirs)]
        assert counts == [sum(sizes)] * 2
        np.testing.assert_allclose(*(keras.ops.convert_to_numpy(pool.images) for pool in (mine, theirs)), atol=1e-4)


def test_weight_decay_is_added_to_the_gradients_of_kernels():
    models = [noisy(built()) for _ in range(2)]
    inputs = batch(1)
    before = {v.path: np.asarray(v) for v in models[0].trainable_variables}
    for model, decay in zip(models, (0.0, 0.5), strict=True):
        model.compile(
            keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01), {"cycle": 1.0, "discriminator": 1.0}, decay
        )
        model.train_step(inputs)
    for plain, decayed in zip(models[0].trainable_variables, models[1].trainable_variables, strict=True):
        expected = np.asarray(plain) - (0.005 * before[plain.path] if plain.name == "kernel" else 0)
        np.testing.assert_allclose(decayed, expected, rtol=1e-4, atol=1e-5, err_msg=plain.path)


def test_frozen_networks_do_not_move():
    model = built()
    model.train_only(("discriminator_a",))
    compiled(model, adversarial=1.0, discriminator=1.0)
    assert list(model.optimizers) == ["discriminator"]
    before = [np.asarray(v) for v in model.networks("generator")[0].weights]
    model.train_step(batch(1))
    for old, new in zip(before, model.networks("generator")[0].weights, strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="no network starts with 'decoder'"):
        model.train_only(("decoder",))
    with pytest.raises(ValueError, match="must name some of"):
        compiled(model, perceptual=1.0)


def test_keras_file(tmp_path):
    # A step of the discriminators alone puts images into the pools.
    model = compiled(built(2, 1, pool=2), discriminator=1.0)
    model.train_step(batch(1))
    assert np.any(model.pool_a.images) and np.any(model.pool_b.images)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert len(model.variables) == len(again.variables)
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    inputs, _ = batch(1, seed=3)
    np.testing.assert_allclose(model(inputs)["to_b"], again(inputs)["to_b"], rtol=1e-6)
    assert set(model({"a": inputs["a"]})) == {"to_b"}
