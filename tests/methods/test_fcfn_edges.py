"""FCFN for edges beside HED; what both share with RDS is tested in test_rds.py."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfthesis.discovery import load_method
from tfthesis.method import Spec

FCFN = load_method("fcfn_edges")


def built(variant=None):
    recipe = FCFN.recipe("tiny", variant)
    return FCFN.build(recipe, Spec(inputs={"image": (48, 48, 3)}))


def test_untrained_it_is_hed():
    """Both fusions start as the mean of the five side outputs."""
    keras.utils.set_random_seed(0)
    local, shared = built(), built("hed")
    for layer in shared.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.random.default_rng(0).normal(size=w.shape, scale=0.1) for w in layer.get_weights()])
            local.get_layer(layer.name).set_weights(layer.get_weights())
    image = tf.random.uniform([1, 48, 48, 3], 0, 255, seed=1)
    outputs = [model({"image": image}, training=False) for model in (local, shared)]
    np.testing.assert_allclose(outputs[0]["fuse"], outputs[1]["fuse"], rtol=1e-4, atol=1e-4)
    sides = [np.asarray(outputs[0][f"side_{number}"]) for number in range(1, 6)]
    np.testing.assert_allclose(outputs[0]["fuse"], np.mean(sides, axis=0), rtol=1e-4, atol=1e-4)


def test_fusion_against_numpy():
    """Eq 2.10 before its sigmoid."""
    model = built()
    fusion = model.get_layer("fusion")
    generator = np.random.default_rng(2)
    for layer in model.layers:
        if layer.name.startswith("side") or layer is fusion:
            layer.set_weights([generator.normal(size=w.shape) for w in layer.get_weights()])
    image = tf.random.uniform([2, 48, 48, 3], 0, 255, seed=1)
    outputs = model({"image": image}, training=False)
    sides = np.stack([outputs[f"side_{number}"] for number in range(1, 6)], axis=-1)
    kernel, bias = (np.asarray(weight) for weight in fusion.weights)
    np.testing.assert_allclose(outputs["fuse"], (sides * kernel).sum(axis=-1) + bias, rtol=1e-3, atol=1e-3)


def test_what_the_thesis_names():
    recipe = FCFN.recipe("thesis")
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_size) == (1e-6, (25,), 8)
    assert (recipe.momentum, recipe.weight_decay, recipe.height, recipe.width) == (0.9, 0.0002, 400, 400)
    assert recipe.fusion == "local" and not recipe.positive and recipe.relaxed == "none"
    _, stage = FCFN.stages(recipe)
    assert set(stage.loss_weights) == {"fuse", *(f"side_{number}" for number in range(1, 6))}
    (_, alone) = FCFN.stages(FCFN.recipe("thesis", "fusion_alone"))
    assert set(alone.loss_weights) == {"fuse"}
