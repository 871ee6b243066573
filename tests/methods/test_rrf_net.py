"""RRF-Net: counts of the thesis, the two kinds of network without a block, ensembles, DSPE."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import layers
from tfthesis.data.paired import PairArrays
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.matching.embedding import embed
from tfthesis.method import Spec

RRF_NET = load_method("rrf_net")
FLICKR = Spec(inputs={"image": (2048,), "text": (6000,)})
SMALL = Spec(inputs={"image": (12,), "text": (7,)})


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def count(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"image": rng.normal(size=(n, 12)), "text": rng.normal(size=(n, 7))}
    return {k: tf.constant(v, tf.float32) for k, v in inputs.items()}, {"image_id": tf.constant(np.arange(n) // 2)}


def arrays(n=20, captions=2):
    rng = np.random.default_rng(5)
    image, text = rng.normal(size=(n, 12)).astype(np.float32), rng.normal(size=(n * captions, 7)).astype(np.float32)
    owner = np.repeat(np.arange(n), captions)
    names = [str(i) for i in range(n * captions)]
    return PairArrays(image, text, owner, None, names[:n], names, names)


class Split:
    """Stands in for a dataset of which only arrays are asked."""

    def arrays(self, split):
        return arrays()


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        (None, {}, 19_663_598),
        ("t2", {}, 19_663_598 - 2_050),
        ("t4", {}, 19_663_598 + 2_050),
        ("fusion_none", {}, 19_663_598 - 2 * (4 + 1) - 4),
        ("fusion_sum", {}, 19_663_598 - 2 * (4 + 1)),
        # Baseline and T = 0 count alike and are different networks.
        ("baseline", {}, 19_657_440),
        ("residual", {}, 19_657_440),
    ],
)
def test_thesis_counts(variant, changes, expected):
    assert count(RRF_NET.build(RRF_NET.recipe("thesis", variant, **changes), FLICKR)) == expected


def test_the_baseline_is_plain_and_no_recurrence_is_residual():
    plain, residual = (RRF_NET.build(RRF_NET.recipe("tiny", v), SMALL) for v in ("baseline", "residual"))
    blocks = [layer for layer in residual.layers if isinstance(layer, layers.RecurrentResidualFusion)]
    assert not any(isinstance(layer, layers.RecurrentResidualFusion) for layer in plain.layers)
    assert [block.recurrences for block in blocks] == [0, 0]
    inputs = batch(4)[0]
    for block in blocks:
        block.kernel.assign(tf.zeros_like(block.kernel))
    plain.get_layer("image_fc3").kernel.assign(tf.zeros_like(plain.get_layer("image_fc3").kernel))
    # With zero weights the residual network still passes its features on, the plain one forgets them.
    assert np.ptp(residual(inputs)["image_embedding"].numpy(), axis=0).max() > 1e-3
    assert np.ptp(plain(inputs)["image_embedding"].numpy(), axis=0).max() == pytest.approx(0, abs=1e-6)


def test_blocks_stand_where_the_recipe_says():
    recipe = RRF_NET.recipe("tiny", blocks=(3, 4), widths=(32, 16, 16, 16, 16))
    model = RRF_NET.build(recipe, SMALL)
    blocks = [layer.name for layer in model.layers if isinstance(layer, layers.RecurrentResidualFusion)]
    assert sorted(blocks) == ["image_rrf3", "image_rrf4", "text_rrf3", "text_rrf4"]


def test_biases_learn_twice_as_fast_and_only_kernels_decay():
    recipe = RRF_NET.recipe("tiny", weight_decay=0.004)
    model = RRF_NET.build(recipe, SMALL)
    RRF_NET.compile(model, recipe, RRF_NET.stages(recipe)[0])
    paths = [variable.path for variable in model.trainable_variables]
    rates = dict(zip(paths, model.optimizer._rates, strict=True))
    decays = dict(zip(paths, model.optimizer._decays, strict=True))
    assert rates["image_rrf3/bias"] == 2 and rates["image_fc2/bias"] == 2 and rates["image_rrf3/kernel"] == 1
    assert decays["image_rrf3/kernel"] == 0.004 and decays["image_rrf3/bias"] == 0
    assert decays["image_rrf3/norm_0/gamma"] == 0


def test_the_rate_falls_after_each_stretch():
    stages = RRF_NET.stages(RRF_NET.recipe("thesis"))
    assert [stage.epochs for stage in stages] == [20, 20, 20, 5]
    np.testing.assert_allclose([stage.learning_rate for stage in stages], [0.1, 0.01, 0.001, 0.0001])


def test_members_of_an_ensemble_train_apart_and_are_searched_together():
    recipe = RRF_NET.recipe("tiny", recurrences=(1, 3), epochs=(1,))
    model = RRF_NET.build(recipe, SMALL)
    stages = RRF_NET.stages(recipe)
    assert [stage.name for stage in stages] == ["t1_matching_1", "t3_matching_1"]
    assert [stage.select for stage in stages] == ["t1.r_sum", "t3.r_sum"]
    for stage in stages:
        model.train_only(stage.trainable)
        RRF_NET.compile(model, recipe, stage)
        before = {weight.path: weight.numpy() for weight in model.weights}
        model.train_step(batch(9))
        changed = {w.path for w in model.weights if not np.array_equal(before[w.path], w.numpy())}
        own = stage.name[:3]
        assert changed and all(path.startswith(own) for path in changed if "dropout" not in path)
    split = arrays()
    image, text = embed(model, "image", split.image), embed(model, "text", split.text)
    outputs = model({"image": split.image[split.owner], "text": split.text})
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    cosines = [
        np.sum(unit(outputs[f"t{t}_image"].numpy()) * unit(outputs[f"t{t}_text"].numpy()), axis=1) for t in (1, 3)
    ]
    np.testing.assert_allclose(np.sum(image[split.owner] * text, axis=1), np.mean(cosines, axis=0), atol=1e-5)


def test_a_member_of_an_ensemble_is_the_network_that_trains_alone():
    """The stages of an ensemble do to a member what a run of its own does; masks and start set alike."""
    alone, both = (RRF_NET.recipe("tiny", recurrences=t, epochs=(1,), dropout=0.0) for t in ((3,), (1, 3)))
    one, two = RRF_NET.build(alone, SMALL), RRF_NET.build(both, SMALL)
    by_path = {weight.path: weight for weight in two.weights}
    for weight in one.weights:
        by_path[f"t3_{weight.path}"].assign(weight)
    for model, recipe, stage in ((one, alone, RRF_NET.stages(alone)[0]), (two, both, RRF_NET.stages(both)[1])):
        model.train_only(stage.trainable)
        RRF_NET.compile(model, recipe, stage)
        for seed in range(3):
            model.train_step(batch(9, seed))
    for weight in one.weights:
        np.testing.assert_allclose(weight, by_path[f"t3_{weight.path}"], rtol=1e-3, atol=1e-5)


def test_every_subset_of_an_ensemble_is_measured_on_the_test_split_only():
    recipe = RRF_NET.recipe("tiny", recurrences=(1, 2, 4))
    model = RRF_NET.build(recipe, SMALL)
    test, val = (RRF_NET.evaluate(model, Split(), recipe, split).scalars for split in ("test", "val"))
    heads = {name.rpartition(".")[0] for name in test}
    assert heads == {"", "t1", "t2", "t4", "t1_t2", "t1_t4", "t2_t4"}
    assert {name.rpartition(".")[0] for name in val} == {"", "t1", "t2", "t4"}


def test_dspe_has_two_layers_and_keeps_captions_together():
    recipe = RRF_NET.recipe("thesis", "dspe")
    model = RRF_NET.build(recipe, dataclasses.replace(FLICKR, inputs={"image": (4096,), "text": (6000,)}))
    names = {layer.name for layer in model.layers if layer.name.startswith("image_fc")}
    assert names == {"image_fc1", "image_fc2", "image_fc2_norm"}
    RRF_NET.compile(model, recipe, RRF_NET.stages(recipe)[0])
    assert model.objective.neighbours == {"matching": 0.05} and model.objective.alphas == (1, 0, 2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": (1,)}, "FC1 has another width"),
        ({"blocks": (4,)}, "last FC no rectifier"),
        ({"blocks": (2,)}, "needs one width, got 32 and 16"),
        ({"recurrences": (2, 2)}, "different numbers"),
        ({"recurrences": ()}, "different numbers"),
        ({"recurrences": (-1,)}, "different numbers"),
        ({"widths": (16,)}, "two layers or more"),
        ({"blocks": (), "recurrences": (2,)}, "no effect without blocks"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        RRF_NET.build(RRF_NET.recipe("tiny", **changes), SMALL)
