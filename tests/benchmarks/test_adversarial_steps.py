"""The steps that `benchmarks/adversarial_step.py` compares are the same mathematics."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import adversarial_step, turns
from benchmarks.steps import adversarial, adversarial_pytorch

DATA = adversarial_step.batch(32)
# A large epsilon, so that gradients that are zero but for rounding do not become steps of a whole rate.
SETTINGS = {"filters": 2, "discriminator_filters": 2, "blocks": 1, "epsilon": 0.01, "learning_rate": 0.01, "pool": 1}


def built(variant):
    keras.utils.set_random_seed(0)
    model, recipe = adversarial.build(DATA, variant, **SETTINGS)
    rng = np.random.default_rng(0)
    for kind in ("generator", "discriminator"):
        for network in model.networks(kind):
            for weight in network.weights:
                weight.assign(rng.normal(scale=0.2, size=weight.shape))
    return model, recipe


def trained(model):
    return [np.array(v) for kind in ("generator", "discriminator") for n in model.networks(kind) for v in n.weights]


def library_step(variant):
    """Return the loss of a step of the library and the weights before and after it."""
    model, _ = built(variant)
    before = trained(model)
    loss = model.train_step(({name: tf.constant(images) for name, images in DATA.items()}, {}))["loss"]
    return float(loss), before, trained(model)


def test_loop_takes_the_step_of_the_library():
    _, before, after = library_step("vanilla")
    model, _ = built("vanilla")
    adversarial.taken(model, DATA)()
    for old, new, mine in zip(before, after, trained(model), strict=True):
        np.testing.assert_allclose(mine - old, new - old, rtol=0, atol=5e-5)


@pytest.mark.parametrize("variant", ["vanilla", None])
def test_bare_function_takes_the_step_of_the_library(variant):
    loss, before, after = library_step(variant)
    model, recipe = built(variant)
    bare = adversarial.Bare(model, recipe)
    assert float(bare.train(*(tf.constant(DATA[name]) for name in "ab"))) == pytest.approx(loss, rel=1e-4)
    for old, new, mine in zip(before, after, trained(model), strict=True):
        np.testing.assert_allclose(mine - old, new - old, rtol=0, atol=2e-5)
    # The pool is full: the next image is shown, or takes the place of the one that is.
    image = np.full_like(DATA["a"], 0.5)
    kept = bare.pools[0][0]
    first, shown = np.array(kept), [np.asarray(bare.pooled(image * n, 0)) for n in range(1, 12)]
    assert any(np.array_equal(found, first) for found in shown)
    assert any(np.array_equal(found, image * n) for n, found in enumerate(shown, start=1))
    assert not np.array_equal(kept, first)


@pytest.mark.parametrize("variant", ["vanilla", None])
def test_pytorch_takes_the_step_of_the_library(variant):
    torch = pytest.importorskip("torch")
    loss, before, after = library_step(variant)
    # PyTorch adds epsilon to the root of the corrected moment, which is so much larger in the first step.
    corrected = SETTINGS["epsilon"] / (1 - adversarial.SECOND_BETA) ** 0.5
    recipe = adversarial.recipe_of(DATA, variant, **SETTINGS | {"epsilon": corrected})
    (to_b, to_a, discriminators), take = adversarial_pytorch.build(DATA, recipe)
    parameters = [p for network in (*to_b, *to_a, *discriminators) for p in network.parameters()]
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(torch.from_numpy(turned(value)))
    assert take().item() == pytest.approx(loss, rel=1e-4)
    for parameter, old, new in zip(parameters, before, after, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy() - turned(old), turned(new - old), rtol=0, atol=5e-5)


def turned(weight):
    """Return a weight in PyTorch's order of axes."""
    return weight.transpose(3, 2, 0, 1).copy() if weight.ndim == 4 else weight


def test_pool_of_pytorch_returns_earlier_images():
    pool = adversarial_pytorch.Pool(2)
    assert [pool(number) for number in range(2)] == [0, 1]
    returned = [pool(number) for number in range(2, 40)]
    old = [found for number, found in enumerate(returned, start=2) if found != number]
    assert 8 < len(old) < 30 and len(set(old)) == len(old) and {0, 1} & set(old)


def test_what_is_measured_is_kept(tmp_path, monkeypatch, capsys):
    """Without PyTorch too, whose rows are then left out."""
    monkeypatch.setattr(turns.pytorch, "AVAILABLE", False)
    monkeypatch.setattr(turns, "gemm_rate", lambda: 2e9)
    times = iter([0.03, 0.01, 0.02, 0.05] * 2)
    monkeypatch.setattr(turns, "seconds", lambda step: next(times))
    monkeypatch.setattr(adversarial_step, "make", lambda *case, **settings: lambda: None)
    monkeypatch.setattr(adversarial_step, "memory", lambda name, *case, **settings: len(name))
    small = ["--side", "32", "--filters", "2", "--blocks", "1", "--repeats", "2"]
    adversarial_step.main([*small, "--json", str(tmp_path / "kept.json")])
    rows = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert [(row["model"], row["implementation"]) for row in rows] == [
        (model, name) for model in ("vanilla", "nest") for name in ("the library", "bare TensorFlow")
    ]
    # The second turn begins with the second implementation: 20 ms are those of the bare function.
    ours, bare = rows[:2]
    assert ours["milliseconds"] == {"median": 40.0, "range": [30.0, 50.0]} and ours["ours_over_this"]["median"] == 1
    assert bare["milliseconds"]["range"] == [10.0, 20.0] and bare["ours_over_this"]["range"] == [2.5, 3.0]
    assert bare["added_mib"] == 15 and bare["filters"] == 2 and bare["side"] == 32
    assert "its rows are left out" in capsys.readouterr().out


def test_memory_is_that_of_a_process_of_its_own():
    settings = {"filters": 2, "discriminator_filters": 2, "blocks": 1, "pool": 20_000}
    # Two pools of so many images of 32 pixels, and little beside them.
    pools = 2 * settings["pool"] * 32 * 32 * 3 * 4 / 2**20
    assert pools < adversarial_step.memory("bare TensorFlow", "vanilla", 32, **settings) < 3 * pools
