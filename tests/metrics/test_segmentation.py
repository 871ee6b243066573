"""IoU and its companions, against counting pixel by pixel and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from tfthesis.metrics.segmentation import intersection_over_union, pixel_confusion, segmentation_scores


def drawn(classes=4, ignored=True):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, classes, (3, 7, 5)).astype(np.uint8)
    predicted = generator.integers(0, classes, (3, 7, 5)).astype(np.uint8)
    if ignored:
        labels[generator.random(labels.shape) < 0.2] = 255
    return labels, predicted


def test_confusion_counts_pixel_by_pixel():
    labels, predicted = drawn()
    expected = np.zeros((4, 4), int)
    for true, guess in zip(labels.ravel(), predicted.ravel(), strict=True):
        if true != 255:
            expected[true, guess] += 1
    np.testing.assert_array_equal(pixel_confusion(labels, predicted, 4), expected)


def test_scores_against_scikit_learn():
    labels, predicted = drawn()
    scores = segmentation_scores(pixel_confusion(labels, predicted, 4))
    kept = labels != 255
    true, guess = labels[kept], predicted[kept]
    assert scores["mean_iou"] == pytest.approx(100 * jaccard_score(true, guess, average="macro"))
    assert scores["frequency_weighted_iou"] == pytest.approx(100 * jaccard_score(true, guess, average="weighted"))
    assert scores["pixel_accuracy"] == pytest.approx(100 * accuracy_score(true, guess))
    assert scores["mean_accuracy"] == pytest.approx(100 * balanced_accuracy_score(true, guess))


def test_sums_of_images_are_the_whole():
    labels, predicted = drawn()
    parts = sum(pixel_confusion(one, other, 4) for one, other in zip(labels, predicted, strict=True))
    np.testing.assert_array_equal(parts, pixel_confusion(labels, predicted, 4))


def test_classes_that_do_not_occur():
    confusion = np.array([[6, 2, 0, 0], [1, 3, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    overlap = intersection_over_union(confusion)
    # The third class is nowhere, the fourth is predicted but not there.
    np.testing.assert_allclose(overlap, [6 / 9, 3 / 7, np.nan, 0])
    scores = segmentation_scores(confusion)
    assert scores["mean_iou"] == pytest.approx(100 * (6 / 9 + 3 / 7 + 0) / 3)
    assert scores["mean_accuracy"] == pytest.approx(100 * (6 / 8 + 3 / 5) / 2)


def test_without_a_pixel():
    with pytest.raises(ValueError, match="no pixel has a class"):
        segmentation_scores(np.zeros((3, 3), int))
