"""The bi-rank loss, the neighbour loss and the objective over several pairs, against short versions in numpy."""

import itertools

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis import losses
from tfthesis.losses.ranking import bi_directional_rank_loss, bi_rank_loss, neighbour_loss
from tfthesis.models.replicas import Replicas

ALPHAS = (1.0, 0.5, 2.0, 1.0)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs(n, seed, width=5):
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(n, width))), unit(rng.normal(size=(n, width))), rng.integers(0, max(2, n // 2), n)


def bi_rank(image, text, ids, margin, alphas, count):
    """Eq 5.8 to 5.10 with distances, triplet by triplet, the negatives sorted by their cross-modal hinge."""
    distance = lambda a, b: 1 - a @ b  # noqa: E731
    rows = []
    for i in range(len(ids)):
        positive, total = distance(image[i], text[i]), 0.0
        for anchor, match, others, cross, intra in (
            (image[i], text[i], text, alphas[0], alphas[1]),
            (text[i], image[i], image, alphas[2], alphas[3]),
        ):
            negatives = [others[j] for j in range(len(ids)) if ids[j] != ids[i]]
            hinges = [(positive - distance(anchor, other) + margin, other) for other in negatives]
            hardest = sorted((pair for pair in hinges if pair[0] > 0), key=lambda pair: -pair[0])[:count]
            total += sum(cross * hinge for hinge, _ in hardest)
            total += sum(intra * max(0.0, positive - distance(match, other) + margin) for _, other in hardest)
        rows.append(total / count)
    return np.array(rows)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(2, 12), st.integers(0, 10**6), st.integers(1, 15), st.sampled_from([0.1, 0.7]))
def test_bi_rank_loss_is_the_sum_over_triplets(n, seed, count, margin):
    image, text, ids = pairs(n, seed)
    found = bi_rank_loss(
        *map(tf.constant, (image, text, ids)), Replicas.current(), margin=margin, alphas=ALPHAS, negatives=count
    )
    np.testing.assert_allclose(found, bi_rank(image, text, ids, margin, ALPHAS, count), rtol=1e-9, atol=1e-12)


def test_the_bi_directional_loss_is_the_case_without_intra_modal_terms():
    """Table 5.3 calls it the weights 1, 0, 2, 0; under the printed Eq 5.10 they would delete a direction."""
    image, text, ids = pairs(9, 3)
    arguments = (*map(tf.constant, (image, text, ids)), Replicas.current())
    both = bi_directional_rank_loss(*arguments, margin=0.4, alpha=2.0, negatives=4)
    np.testing.assert_allclose(both, bi_rank(image, text, ids, 0.4, (1, 0, 2, 0), 4), rtol=1e-9)
    assert not np.allclose(both, bi_rank(image, text, ids, 0.4, (1, 0, 0, 0), 4))


def test_captions_of_one_image_contribute_nothing():
    image, text, _ = pairs(2, 0)
    ids = tf.constant([7, 7])
    found = bi_rank_loss(
        tf.constant(image), tf.constant(text), ids, Replicas.current(), margin=5.0, alphas=ALPHAS, negatives=3
    )
    np.testing.assert_array_equal(found, [0, 0])


def test_intra_modal_terms_have_gradients_of_their_own():
    image, text, ids = pairs(8, 1)
    variables = [tf.Variable(image), tf.Variable(text)]
    gradients = []
    for alphas in (ALPHAS, (1.0, 0.0, 2.0, 0.0)):
        with tf.GradientTape() as tape:
            rows = bi_rank_loss(
                *variables, tf.constant(ids), Replicas.current(), margin=0.5, alphas=alphas, negatives=3
            )
            loss = tf.reduce_sum(rows)
        gradients.append(tape.gradient(loss, variables))
    assert all(not np.allclose(a, b) for a, b in zip(*gradients, strict=True))
    step = 1e-6 * np.random.default_rng(0).normal(size=image.shape)
    moved = bi_rank(image + step, text, ids, 0.5, ALPHAS, 3).sum() - bi_rank(image, text, ids, 0.5, ALPHAS, 3).sum()
    assert moved == pytest.approx(float(np.sum(gradients[0][0] * step)), rel=1e-3)


@pytest.mark.parametrize("count", [2, 50])
def test_neighbour_loss_holds_the_farthest_caption_against_the_nearest_strangers(count):
    _, text, _ = pairs(10, 4)
    group = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5])
    found = neighbour_loss(
        tf.constant(text), tf.constant(group), Replicas.current(), margin=0.3, negatives=count
    ).numpy()
    for i in range(10):
        own = [text[i] @ text[j] for j in range(10) if group[j] == group[i] and j != i]
        strangers = [text[i] @ text[j] for j in range(10) if group[j] != group[i]]
        hinges = sorted((max(0.0, s - min(own) + 0.3) for s in strangers), reverse=True) if own else [0.0]
        # Seven of the ten have a neighbour.
        assert found[i] == pytest.approx(sum(hinges[:count]) / count * 10 / 7)


def test_the_objective_normalises_and_keeps_pairs_apart():
    rng = np.random.default_rng(0)
    outputs = {name: tf.constant(rng.normal(size=(6, 4))) for name in "abcd"}
    ids = tf.constant(np.arange(6) // 2)
    objective = losses.PairRanking(
        {"ab": 1.0, "cd": 3.0}, {"ab": "ab", "cd": "cd"}, margin=0.2, alphas=ALPHAS, negatives=2, neighbours={"cd": 0.5}
    )
    found = objective(outputs, {"image_id": ids}, Replicas.current())
    a, b, c, d = (unit(outputs[name].numpy()) for name in "abcd")
    np.testing.assert_allclose(found["ab"], bi_rank(a, b, ids.numpy(), 0.2, ALPHAS, 2), rtol=1e-6)
    near = neighbour_loss(tf.constant(d), ids, Replicas.current(), margin=0.2, negatives=2)
    np.testing.assert_allclose(found["cd"] - 0.5 * near, bi_rank(c, d, ids.numpy(), 0.2, ALPHAS, 2), rtol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    for name, rows in again(outputs, {"image_id": ids}, Replicas.current()).items():
        np.testing.assert_array_equal(rows, found[name])


def test_two_devices_see_each_others_negatives():
    image, text, ids = pairs(8, 2)
    alone = bi_rank(image, text, ids, 0.3, ALPHAS, 4)
    near = neighbour_loss(tf.constant(text), tf.constant(ids), Replicas.current(), margin=0.3, negatives=4)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    shares = [slice(0, 5), slice(5, 8)]

    def rows(part):
        share = [tf.constant(array)[part] for array in (image, text, ids)]
        replicas = Replicas.current()
        ranked = bi_rank_loss(*share, replicas, margin=0.3, alphas=ALPHAS, negatives=4)
        return ranked, neighbour_loss(share[1], share[2], replicas, margin=0.3, negatives=4)

    @tf.function
    def step():
        def share():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            starts, ends = tf.constant([s.start for s in shares]), tf.constant([s.stop for s in shares])
            return rows(slice(starts[number], ends[number]))

        return strategy.run(share)

    ranked, together = step()
    gathered = [
        np.concatenate([part.numpy() for part in strategy.experimental_local_results(v)]) for v in (ranked, together)
    ]
    np.testing.assert_allclose(gathered[0], alone, rtol=1e-9)
    np.testing.assert_allclose(gathered[1], near, rtol=1e-9)


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="weights must name some of"):
        losses.PairRanking({"other": 1.0}, {"ab": ("a", "b")})
    assert list(itertools.chain(losses.PairRanking({"ab": 1.0}, {"ab": ("a", "b")}).parts)) == ["ab"]
