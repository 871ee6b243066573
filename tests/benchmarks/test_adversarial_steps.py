"""The steps that `benchmarks/adversarial_step.py` compares are the same mathematics."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import adversarial_step, turns
from benchmarks.steps import adversarial, cycle_gan_pytorch

# Epsilon is large, so that gradients that are zero but for rounding do not become steps of a whole rate; masks weigh so
# much that Generator III's steps are far above what is allowed between implementations.
SMALL = {"epsilon": 0.01, "learning_rate": 0.01}
OWN = {"vanilla": {"pool": 1}, "nest": {"pool": 1}, "swap_gan": {"batch_size": 2, "mask_weight": 50.0}}
NAMES = tuple(adversarial_step.CASES)


def settings_of(name):
    return adversarial_step.CASES[name].settings(filters=2, blocks=1) | SMALL | OWN[name]


def built(name):
    """Return a small model with weights by lot, its recipe and a batch."""
    keras.utils.set_random_seed(0)
    case = adversarial_step.CASES[name]
    recipe = case.recipe(32, **settings_of(name))
    data = case.steps.batch(recipe)
    model = adversarial.build(case.steps.METHOD, recipe, data)
    rng = np.random.default_rng(0)
    for network in networks(model):
        for weight in network.weights:
            weight.assign(rng.normal(scale=0.2, size=weight.shape))
    return model, recipe, data


def networks(model):
    return [network for kind in ("generator", "discriminator") for network in model.networks(kind)]


def trained(model):
    return [np.array(weight) for network in networks(model) for weight in network.weights]


def tensors(data):
    return {name: tf.constant(values) for name, values in data.items()}


@functools.cache
def library_step(name):
    """Return the loss of a step of the library and the weights before and after it."""
    model, _, data = built(name)
    before = trained(model)
    loss = model.train_step((tensors(data), {}))["loss"]
    return float(loss), before, trained(model)


@pytest.mark.parametrize("name", ["vanilla", "swap_gan"])
def test_loop_takes_the_step_of_the_library(name):
    _, before, after = library_step(name)
    model, _, data = built(name)
    adversarial.taken(model, data)()
    for old, new, mine in zip(before, after, trained(model), strict=True):
        np.testing.assert_allclose(mine - old, new - old, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bare_function_takes_the_step_of_the_library(name):
    loss, before, after = library_step(name)
    model, recipe, data = built(name)
    bare = adversarial_step.CASES[name].steps.Bare(model, recipe)
    assert float(bare.train(tensors(data))) == pytest.approx(loss, rel=1e-4)
    for old, new, mine in zip(before, after, trained(model), strict=True):
        np.testing.assert_allclose(mine - old, new - old, rtol=0, atol=2e-5)


def test_full_pool_of_the_bare_function_returns_earlier_images():
    """The pool is full after a step: the next image is shown, or takes the place of the one that is."""
    model, recipe, data = built("vanilla")
    bare = adversarial_step.CASES["vanilla"].steps.Bare(model, recipe)
    bare.train(tensors(data))
    image = np.full_like(data["a"], 0.5)
    kept = bare.pools[0][0]
    first, shown = np.array(kept), [np.asarray(bare.pooled(image * n, 0)) for n in range(1, 12)]
    assert any(np.array_equal(found, first) for found in shown)
    assert any(np.array_equal(found, image * n) for n, found in enumerate(shown, start=1))
    assert not np.array_equal(kept, first)


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_takes_the_step_of_the_library(name):
    torch = pytest.importorskip("torch")
    loss, before, after = library_step(name)
    _, _, data = built(name)
    # PyTorch adds epsilon to the root of the corrected moment, which is so much larger in the first step.
    corrected = SMALL["epsilon"] / (1 - adversarial.SECOND_BETA) ** 0.5
    case = adversarial_step.CASES[name]
    others, take = case.pytorch.build(data, case.recipe(32, **settings_of(name) | {"epsilon": corrected}))
    parameters = [p for network in others for p in network.parameters()]
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
    pool = cycle_gan_pytorch.Pool(2)
    assert [pool(number) for number in range(2)] == [0, 1]
    returned = [pool(number) for number in range(2, 40)]
    old = [found for number, found in enumerate(returned, start=2) if found != number]
    assert 8 < len(old) < 30 and len(set(old)) == len(old) and {0, 1} & set(old)


@pytest.fixture
def unmeasured(monkeypatch):
    """Steps that do nothing, in 30, 10, 20 and 50 ms one after the other, and no PyTorch."""
    monkeypatch.setattr(turns.pytorch, "AVAILABLE", False)
    monkeypatch.setattr(turns, "gemm_rate", lambda: 2e9)
    times = iter([0.03, 0.01, 0.02, 0.05] * len(NAMES))
    monkeypatch.setattr(turns, "seconds", lambda step: next(times))
    monkeypatch.setattr(adversarial_step, "make", lambda *case, **settings: lambda: None)
    monkeypatch.setattr(adversarial_step, "memory", lambda name, *case, **settings: len(name))
    return ["--side", "32", "--filters", "2", "--blocks", "1", "--repeats", "2"]


def test_what_is_measured_is_kept(tmp_path, unmeasured, capsys):
    """Without PyTorch too, whose rows are then left out."""
    adversarial_step.main([*unmeasured, "--json", str(tmp_path / "kept.json")])
    rows = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert [(row["model"], row["implementation"]) for row in rows] == [
        (model, name) for model in NAMES for name in ("the library", "bare TensorFlow")
    ]
    # The second turn begins with the second implementation: 20 ms are those of the bare function.
    ours, bare = rows[:2]
    assert ours["milliseconds"] == {"median": 40.0, "range": [30.0, 50.0]} and ours["ours_over_this"]["median"] == 1
    assert bare["milliseconds"]["range"] == [10.0, 20.0] and bare["ours_over_this"]["range"] == [2.5, 3.0]
    assert bare["added_mib"] == 15 and bare["filters"] == 2 and bare["side"] == 32 and bare["batch_size"] == 1
    assert rows[-1]["mask_filters"] == 2 and rows[-1]["batch_size"] == 8
    assert "its rows are left out" in capsys.readouterr().out


def test_of_one_model_nothing_is_kept(tmp_path, unmeasured, capsys):
    adversarial_step.main([*unmeasured, "--one", "swap_gan", "--json", str(tmp_path / "kept.json")])
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["swap_gan", "swap_gan", "PyTorch"]
    assert not list(tmp_path.iterdir())


def test_memory_is_that_of_a_process_of_its_own():
    settings = {"filters": 2, "discriminator_filters": 2, "blocks": 1, "pool": 20_000}
    # Two pools of so many images of 32 pixels, and little beside them.
    pools = 2 * settings["pool"] * 32 * 32 * 3 * 4 / 2**20
    assert pools < adversarial_step.memory("bare TensorFlow", "vanilla", 32, **settings) < 3 * pools
