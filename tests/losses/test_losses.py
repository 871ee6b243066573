"""Each loss against a short independent version in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfthesis.losses.classification import multi_label_loss, single_label_loss
from tfthesis.losses.matching_and_classification import MatchingAndClassification
from tfthesis.losses.ranking import bi_directional_rank_loss
from tfthesis.models.replicas import Replicas

ALONE = Replicas(None, 1)


def pairs(n, seed=0, width=6):
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(2, n, width))
    return (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (image, text))


def rank_loss_by_loops(image, text, ids, margin, alpha, k):
    """Eq 7.4 pair by pair, with the distance of Eq 7.3."""
    distance = 1 - image @ text.T
    rows = []
    for i in range(len(ids)):
        others = [j for j in range(len(ids)) if ids[j] != ids[i]]
        texts = sorted((max(0, distance[i, i] - distance[i, j] + margin) for j in others), reverse=True)[:k]
        images = sorted((max(0, distance[i, i] - distance[j, i] + margin) for j in others), reverse=True)[:k]
        rows.append((sum(texts) + alpha * sum(images)) / k)
    return np.array(rows)


@pytest.mark.parametrize(("n", "k"), [(12, 3), (12, 50), (2, 1), (1, 4)])
def test_rank_loss_equals_the_loops(n, k):
    image, text = pairs(n, seed=n + k)
    ids = np.arange(n) // 2
    got = bi_directional_rank_loss(
        tf.constant(image), tf.constant(text), tf.constant(ids), ALONE, margin=0.3, alpha=2.0, negatives=k
    )
    np.testing.assert_allclose(got, rank_loss_by_loops(image, text, ids, 0.3, 2.0, k), rtol=1e-12, atol=1e-14)


def test_captions_of_one_image_are_never_negatives():
    image, text = pairs(4)
    same = bi_directional_rank_loss(
        tf.constant(image), tf.constant(text), tf.zeros([4], tf.int64), ALONE, margin=0.5, alpha=2.0, negatives=2
    )
    np.testing.assert_array_equal(same, np.zeros(4))


def test_rank_loss_takes_the_hardest_not_the_easiest_negatives():
    image = tf.constant([[1.0, 0], [0, 1]])
    text = tf.constant([[1.0, 0], [1, 0]])  # the second text sits on the first image
    loss = bi_directional_rank_loss(image, text, tf.constant([0, 1]), ALONE, margin=0.1, alpha=1.0, negatives=1)
    # Image 0: hinge of text 1 = 1 - 1 + .1; as a text anchor, text 0 has image 1 at similarity 0: no violation.
    # Image 1: text 0 at 0, match at 0: .1; text 1: match 0, image 0 at 1: 1.1.
    np.testing.assert_allclose(loss, [0.1, 1.2], rtol=1e-6)


def test_single_label_loss_equals_the_softmax_formula():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(5, 4)), np.array([0, 3, 1, 2, 3])
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probability[np.arange(5), labels])
    np.testing.assert_allclose(single_label_loss(labels, tf.constant(logits)), expected, rtol=1e-12)


def test_multi_label_loss_sums_the_sigmoid_formula_over_classes():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(5, 4)), rng.integers(2, size=(5, 4))
    probability = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(probability) + (1 - labels) * np.log(1 - probability)).sum(axis=1)
    np.testing.assert_allclose(multi_label_loss(labels, tf.constant(logits)), expected, rtol=1e-12)


def test_objective_computes_only_its_weighted_parts_and_chooses_by_the_labels():
    image, text = (tf.constant(v, tf.float32) for v in pairs(3))
    outputs = {"image_embedding": image, "text_embedding": text, "logits": tf.zeros([3, 2])}
    ids = tf.range(3)
    single = MatchingAndClassification({"classification": 0.5})
    rows = single(outputs, {"image_id": ids, "label": tf.constant([0, 1, 0])}, ALONE)
    assert list(rows) == ["classification"]
    np.testing.assert_allclose(rows["classification"], np.full(3, np.log(2)), rtol=1e-6)
    both = MatchingAndClassification({"matching": 1.0, "classification": 0.5}, negatives=2)
    rows = both(outputs, {"image_id": ids, "label": tf.zeros([3, 2])}, ALONE)
    np.testing.assert_allclose(rows["classification"], np.full(3, 2 * np.log(2)), rtol=1e-6)
    np.testing.assert_allclose(
        rows["matching"], rank_loss_by_loops(image.numpy(), text.numpy(), [0, 1, 2], 0.1, 2.0, 2), rtol=1e-5
    )


def test_objective_round_trips_and_refuses_unknown_parts():
    objective = MatchingAndClassification({"matching": 1.0}, margin=0.2, alpha=3.0, negatives=7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert again.get_config() == objective.get_config()
    for weights in ({"matchng": 1.0}, {}):
        with pytest.raises(ValueError, match="weights must name some of"):
            MatchingAndClassification(weights)
