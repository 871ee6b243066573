"""CycleMatch: counts of the thesis, what the losses compare, shared weights, the variants of Table 6.1, fusion."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.data.paired import PairArrays
from tfthesis.discovery import load_method
from tfthesis.errors import UserError
from tfthesis.matching.embedding import embed
from tfthesis.matching.served import matching_galleries
from tfthesis.method import Spec
from tfthesis.methods import cycle_match as module

CYCLE_MATCH = load_method("cycle_match")
FLICKR = Spec(inputs={"image": (2048,), "text": (4096,)})
SMALL = Spec(inputs={"image": (12,), "text": (7,)})


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"image": rng.normal(size=(n, 12)), "text": rng.normal(size=(n, 7))}
    return {k: tf.constant(v, tf.float32) for k, v in inputs.items()}, {"image_id": tf.constant(np.arange(n) // 2)}


def arrays(n=30, captions=2):
    rng = np.random.default_rng(5)
    image, text = rng.normal(size=(n, 12)).astype(np.float32), rng.normal(size=(n * captions, 7)).astype(np.float32)
    names = [str(i) for i in range(n * captions)]
    return PairArrays(image, text, np.repeat(np.arange(n), captions), None, names[:n], names, names)


class Split:
    """Stands in for a dataset of which only arrays are asked."""

    def arrays(self, split):
        return arrays()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_thesis_counts():
    model = CYCLE_MATCH.build(CYCLE_MATCH.recipe("thesis"), FLICKR)
    dense = [
        w for layer in model.layers if layer.name[3:6] == "_fc" and "norm" not in layer.name for w in layer.weights
    ]
    assert sum(int(np.prod(w.shape)) for w in dense) == 18_362_368
    assert len(dense) == 2 * 4 * 2


def mapped(model, name, x, second=False):
    """A mapping at inference, from its weights alone."""
    layer = lambda part: {w.name: w.numpy() for w in model.get_layer(part).weights}  # noqa: E731

    def norm(at, h):
        w = layer(f"{name}_{'second_' if second else ''}{at}_norm")
        return (h - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-5) * w["gamma"] + w["beta"]

    def dense(number, h):
        w = layer(f"{name}_fc{number}")
        return h @ w["kernel"] + w["bias"]

    x = np.maximum(dense(1, norm("input", x)), 0)
    for number in (2, 3):
        x = np.maximum(norm(f"fc{number}", dense(number, x)), 0)
    return x, dense(4, x)


def space(model, name, features):
    """A space at inference: the features, or those with the mean and deviation of training."""
    layer = model.get_layer(f"{name}_space")
    if not layer.weights:
        return features
    return (features - layer.moving_mean.numpy()) / np.sqrt(layer.moving_variance.numpy() + 1e-5)


@pytest.mark.parametrize("standardised", [False, True])
def test_cycles_run_through_shared_weights_with_normalisations_of_their_own(standardised):
    recipe = CYCLE_MATCH.recipe("tiny", dropout=0.0, standardised=standardised)
    model = CYCLE_MATCH.build(recipe, SMALL)
    CYCLE_MATCH.compile(model, recipe, CYCLE_MATCH.stages(recipe)[0])
    for seed in range(5):
        model.train_step(batch(12, seed))
    inputs = batch(9, 99)[0]
    found = {name: value.numpy() for name, value in model(inputs).items()}
    image, text = (space(model, name, inputs[name].numpy()) for name in ("image", "text"))
    latent, dual = mapped(model, "i2t", image)
    text_latent, text_dual = mapped(model, "t2i", text)
    back_latent, back = mapped(model, "t2i", dual, second=True)
    text_back_latent, text_back = mapped(model, "i2t", text_dual, second=True)
    expected = {
        "i2t": dual,
        "t2i": text_dual,
        "i2t2i": back,
        "t2i2t": text_back,
        "image_latent": latent,
        "text_latent": text_latent,
        "i2t2i_latent": back_latent,
        "t2i2t_latent": text_back_latent,
        "image_space": image,
        "text_space": text,
    }
    assert set(found) == {*expected, "image_embedding", "text_embedding"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=2e-5, err_msg=name)
    cosines = [(unit(a), unit(b)) for a, b in ((image, text_dual), (dual, text), (latent, text_latent))]
    average = sum(np.sum(a * b, axis=1) for a, b in cosines) / 3
    together = np.sum(found["image_embedding"] * found["text_embedding"], axis=1)
    np.testing.assert_allclose(together, average, atol=1e-4)


def test_shared_norms_pass_twice_through_the_same_ones():
    model = CYCLE_MATCH.build(CYCLE_MATCH.recipe("tiny", shared_norms=True), SMALL)
    assert not [layer.name for layer in model.layers if "second" in layer.name]
    own = CYCLE_MATCH.build(CYCLE_MATCH.recipe("tiny"), SMALL)
    assert len([layer for layer in own.layers if "second" in layer.name]) == 6


def test_standardised_spaces_have_mean_zero_and_deviation_one():
    recipe = CYCLE_MATCH.recipe("tiny", standardised=True)
    model = CYCLE_MATCH.build(recipe, SMALL)
    inputs = {name: 5 + 3 * value for name, value in batch(64)[0].items()}
    space = model(inputs, training=True)["image_space"].numpy()
    np.testing.assert_allclose([space.mean(), space.std()], [0, 1], atol=1e-3)
    assert not model.get_layer("image_space").trainable_weights


PARTS = {
    None: "dual_i2t dual_t2i reconstructed_i2t2i reconstructed_t2i2t latent_i2t2i latent_t2i2t",
    "latent_match": "latent_direct",
    "dual_match": "dual_i2t dual_t2i",
    "without_latent": "dual_i2t dual_t2i reconstructed_i2t2i reconstructed_t2i2t",
    "i2t2i": "dual_i2t dual_t2i reconstructed_i2t2i latent_i2t2i",
    "t2i2t": "dual_i2t dual_t2i reconstructed_t2i2t latent_t2i2t",
}


@pytest.mark.parametrize("variant", PARTS)
def test_variants_train_the_losses_of_table_6_1(variant):
    recipe = CYCLE_MATCH.recipe("tiny", variant)
    model = CYCLE_MATCH.build(recipe, SMALL)
    stage = CYCLE_MATCH.stages(recipe)[0]
    assert list(stage.loss_weights) == PARTS[variant].split() and set(stage.loss_weights.values()) == {1.0}
    CYCLE_MATCH.compile(model, recipe, stage)
    before = [weight.numpy() for weight in model.trainable_weights]
    logs = model.train_step(batch(10))
    assert float(logs["loss"]) == pytest.approx(sum(float(logs[part]) for part in PARTS[variant].split()), rel=1e-5)
    kernels = [
        (weight.path, not np.array_equal(old, weight))
        for old, weight in zip(before, model.trainable_weights, strict=True)
        if weight.path.endswith("kernel")
    ]
    # LatentMatch has no FC4; everything else learns.
    assert {path for path, changed in kernels if not changed} == set()
    expected = set() if variant == "latent_match" else {"i2t_fc4/kernel", "t2i_fc4/kernel"}
    assert {path for path, _ in kernels if "fc4" in path} == expected


def ranked(mapped, target, ids, margin, alpha, count):
    """Eq 6.2, 6.4 and 6.5: the first hinge has negatives among the targets, the weighted one on the mapped side."""
    mapped, target = unit(mapped), unit(target)
    rows = []
    for i in range(len(ids)):
        match, others = mapped[i] @ target[i], [k for k in range(len(ids)) if ids[k] != ids[i]]
        first = sorted((max(0.0, margin - match + mapped[i] @ target[k]) for k in others), reverse=True)
        second = sorted((max(0.0, margin - match + mapped[k] @ target[i]) for k in others), reverse=True)
        rows.append((sum(first[:count]) + alpha * sum(second[:count])) / count)
    return float(np.mean(rows))


def test_losses_follow_the_equations_with_alpha_on_the_mapped_side():
    recipe = CYCLE_MATCH.recipe("tiny", dropout=0.0, margin=0.5, negatives=3)
    model = CYCLE_MATCH.build(recipe, SMALL)
    CYCLE_MATCH.compile(model, recipe, CYCLE_MATCH.stages(recipe)[0])
    inputs, targets = batch(10)
    out = {name: value.numpy().astype(np.float64) for name, value in model(inputs, training=True).items()}
    logs = model.train_step((inputs, targets))
    equations = {
        "dual_i2t": (out["i2t"], out["text_space"]),
        "reconstructed_i2t2i": (out["i2t2i"], out["image_space"]),
        "latent_i2t2i": (out["image_latent"], out["i2t2i_latent"]),
        "dual_t2i": (out["t2i"], out["image_space"]),
        "reconstructed_t2i2t": (out["t2i2t"], out["text_space"]),
        "latent_t2i2t": (out["text_latent"], out["t2i2t_latent"]),
    }
    for part, sides in equations.items():
        expected = ranked(*sides, targets["image_id"].numpy(), 0.5, 2.0, 3)
        assert float(logs[part]) == pytest.approx(expected, rel=1e-5), part
        assert abs(expected - ranked(*sides[::-1], targets["image_id"].numpy(), 0.5, 2.0, 3)) > 1e-4 * expected, part


def test_a_cycle_loss_reaches_both_mappings():
    """Eq 6.4: the reconstructed loss has an effect on the first mapping as well."""
    recipe = CYCLE_MATCH.recipe("tiny", duals=(), cycles=("i2t2i",), latent="none")
    model = CYCLE_MATCH.build(recipe, SMALL)
    CYCLE_MATCH.compile(model, recipe, CYCLE_MATCH.stages(recipe)[0])
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    model.train_step(batch(10))
    changed = {w.path for w in model.trainable_weights if not np.array_equal(before[w.path], w)}
    assert {"i2t_fc1/kernel", "i2t_fc4/kernel", "t2i_fc1/kernel", "t2i_fc4/kernel"} <= changed


def test_every_inference_of_table_6_3_is_measured_on_the_test_split():
    recipe = CYCLE_MATCH.recipe("tiny")
    model = CYCLE_MATCH.build(recipe, SMALL)
    test, val = (CYCLE_MATCH.evaluate(model, Split(), recipe, split).scalars for split in ("test", "val"))
    names = {"visual", "textual", "latent", "two_average", "two_adaptive", "three_average", "three_adaptive"}
    assert {name.rpartition(".")[0] for name in test} == {"", *names}
    assert {"i2t_balanced", "t2i_balanced"} == {name for name in test if "balanced" in name}
    assert {name.rpartition(".")[0] for name in val} == {""}
    assert test["r_sum"] == test["two_adaptive.r_sum"]


def test_balanced_shares_count_weights_about_one_half():
    recipe = CYCLE_MATCH.recipe("tiny", standardised=False)
    model = CYCLE_MATCH.build(recipe, SMALL)
    CYCLE_MATCH.compile(model, recipe, CYCLE_MATCH.stages(recipe)[0])
    for seed in range(5):
        model.train_step(batch(12, seed))
    split = arrays()
    dual = {"text": mapped(model, "i2t", split.image)[1], "image": mapped(model, "t2i", split.text)[1]}
    visual, textual = unit(split.image) @ unit(dual["image"]).T, unit(dual["text"]) @ unit(split.text).T
    found = CYCLE_MATCH.evaluate(model, Split(), recipe, "test").scalars
    for axis, name in ((1, "i2t_balanced"), (0, "t2i_balanced")):
        areas = [np.maximum(score, 0).sum(axis=axis) + 1e-12 for score in (visual, textual)]
        weight = (1 / areas[0]) / (1 / areas[0] + 1 / areas[1])
        expected = 100 * np.mean((weight >= 0.4) & (weight <= 0.6))
        assert 0 < expected < 100 and found[name] == pytest.approx(expected)


def test_adaptive_fusion_follows_the_equations():
    """Eq 6.7 to 6.11, score by score."""
    recipe = CYCLE_MATCH.recipe("tiny", standardised=False)
    model, split = CYCLE_MATCH.build(recipe, SMALL), arrays()
    image, text = (
        {"latent": m[0], "dual": m[1]} for m in (mapped(model, "i2t", split.image), mapped(model, "t2i", split.text))
    )
    visual = unit(split.image) @ unit(text["dual"]).T
    textual = unit(image["dual"]) @ unit(split.text).T
    areas = [np.maximum(score, 0).sum(axis=1) + 1e-12 for score in (visual, textual)]
    weights = [1 / area / (1 / areas[0] + 1 / areas[1]) for area in areas]
    fused = weights[0][:, None] * visual + weights[1][:, None] * textual
    own = split.owner[None] == np.arange(len(split.image))[:, None]
    best = np.where(own, fused, -np.inf).max(axis=1)
    ranks = ((fused >= best[:, None]) & ~own).sum(axis=1)
    samples = CYCLE_MATCH.evaluate(model, Split(), recipe, "test").samples
    np.testing.assert_array_equal(samples["two_adaptive.i2t_rank"], ranks)


def test_galleries_hold_the_scores_of_the_recipe_only():
    for scores, width in ((("visual", "textual"), 12 + 7), (("textual",), 7), (module.SCORES, 12 + 7 + 16)):
        recipe = CYCLE_MATCH.recipe("tiny", scores=scores)
        model = CYCLE_MATCH.build(recipe, SMALL)
        gallery = CYCLE_MATCH.galleries(model, recipe, Split(), "test")["image"]
        assert gallery.vectors.shape == (30, width)
        np.testing.assert_allclose(np.linalg.norm(gallery.vectors, axis=1), 1, rtol=1e-5)
    assert matching_galleries(model, arrays())["image"].vectors.shape == embed(model, "image", arrays().image).shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duals": ("i2i",)}, "duals"),
        ({"cycles": ("i2t2i", "i2t2i")}, "names a part twice"),
        ({"scores": ()}, "expected some of"),
        ({"duals": (), "cycles": (), "latent": "direct"}, "scores"),
        ({"cycles": ()}, "'cycle' needs a cycle"),
        ({"duals": (), "cycles": (), "latent": "none", "scores": ("latent",)}, "nothing would train"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        CYCLE_MATCH.build(CYCLE_MATCH.recipe("tiny", **changes), SMALL)
