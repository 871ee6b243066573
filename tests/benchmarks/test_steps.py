"""The steps that `benchmarks/step.py` compares are the same mathematics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.step import CLASSES, IMAGE, TEXT, batch
from benchmarks.steps import bare, ours, pytorch

DATA = batch(32)


def pairs(model, other):
    """Yield each weight of the library's model with the variable of the bare one that stands for it."""
    weights = {weight.path: weight for weight in model.weights}
    for name, branch in (("image", other.image), ("text", other.text)):
        for number in range(4):
            yield weights[f"{name}_fc{number + 1}/kernel"], branch.kernels[number]
            yield weights[f"{name}_fc{number + 1}/bias"], branch.biases[number]
        for number, layer in enumerate(("input", "fc2", "fc3", "fc4", "fusion")):
            norm = f"{name}_{layer}_norm"
            yield weights[f"{norm}/gamma"], branch.gammas[number]
            yield weights[f"{norm}/beta"], branch.betas[number]
            yield weights[f"{norm}/moving_mean"], branch.moving[number][0]
            yield weights[f"{norm}/moving_variance"], branch.moving[number][1]
        yield weights[f"{name}_fusion/kernel"], branch.fusion
        yield weights[f"{name}_fusion/bias"], branch.fusion_bias
    yield weights["classifier_logits/kernel"], other.classifier


@pytest.fixture
def models():
    """The library's model with its batch, and a bare one of the same weights, hashes and signs, without dropout."""
    keras.utils.set_random_seed(0)
    model, batch = ours.build(DATA, CLASSES, dropout=0.0)
    other = bare.Model((IMAGE, TEXT), CLASSES, dropout=0.0)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign_add(rng.normal(scale=0.01, size=weight.shape))
    for weight, variable in pairs(model, other):
        variable.assign(weight)
    pooling = model.get_layer("classifier_pooling")
    other.hashes, other.signs = ([tf.constant(each) for each in both] for both in (pooling.hashes, pooling.signs))
    return model, batch, other


def test_bare_tensorflow_takes_the_step_of_the_library(models):
    model, batch, other = models
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Of one device the same mathematics, but with more rounding, which tips some of the ReLUs that follow.
            layer.synchronized = False
    loss = float(model.train_step(batch)["loss"])
    assert float(other.train(*map(tf.constant, DATA.values()))) == pytest.approx(loss, rel=1e-6)

    updates = dict(zip((v.path for v in model.trainable_variables), model.optimizer.momentums, strict=True))
    bare_updates = {v.ref(): update for (v, _, _), update in zip(other.weighted, other.momenta, strict=True)}
    assert len(updates) == len(bare_updates) == 41
    for weight, variable in pairs(model, other):
        np.testing.assert_allclose(variable, weight, rtol=1e-5, atol=1e-7, err_msg=weight.path)
        if weight.trainable:
            update = updates[weight.path].numpy()
            # The gradient of a bias before a BatchNormalization is zero but for rounding: it has no scale of its own.
            tolerance = 1e-5 * max(np.abs(update).max(), 1e-4)
            bare_update = bare_updates[variable.ref()]
            np.testing.assert_allclose(bare_update, update, rtol=1e-5, atol=tolerance, err_msg=weight.path)


def test_pytorch_has_the_loss_of_the_library(models):
    torch = pytest.importorskip("torch")
    model, batch, other = models
    modules, hashes, signs, loss = pytorch.build(DATA, CLASSES, dropout=0.0)
    variables = [variable for branch in (other.image, other.text) for variable in in_order(branch)]
    with torch.no_grad():
        for parameter, variable in zip(modules.parameters(), [*variables, other.classifier], strict=True):
            parameter.copy_(torch.from_numpy(variable.numpy().T.reshape(parameter.shape)))
    hashes[:], signs[:] = ([torch.from_numpy(each.numpy()) for each in both] for both in (other.hashes, other.signs))
    assert loss().item() == pytest.approx(float(model.train_step(batch)["loss"]), rel=1e-5)


def in_order(branch):
    """Return the variables of a branch in the order of the parameters of PyTorch's."""
    layers = list(zip(branch.kernels, branch.biases, branch.gammas[:4], branch.betas[:4], strict=True))
    kernel, bias, gamma, beta = layers[0]
    hidden = [variable for layer in layers[1:] for variable in layer]
    return gamma, beta, kernel, bias, *hidden, branch.fusion, branch.fusion_bias, branch.gammas[4], branch.betas[4]
