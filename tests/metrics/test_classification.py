"""Classification figures on cases worked by hand."""

import numpy as np
import pytest

from tfthesis.metrics.classification import (
    average_precisions,
    confusion_matrix,
    labels_in_top_k,
    top_1_multi_label_hits,
    top_k_hits,
)


def test_top_k_hits_count_ties_against_the_true_class():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    labels = np.array([1, 0, 0])
    np.testing.assert_array_equal(top_k_hits(labels, scores, 1), [True, False, False])
    np.testing.assert_array_equal(top_k_hits(labels, scores, 2), [True, True, False])


def test_top_1_of_several_labels():
    labels = np.array([[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(top_1_multi_label_hits(labels, np.array([[0, 1, 2], [3, 1, 2]])), [True, False])


def test_share_of_the_labels_among_the_best_classes():
    labels = np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    scores = np.array([[0.9, 0.8, 0.1, 0.0], [0.1, 0.9, 0.8, 0.7], [1, 2, 3, 4]])
    np.testing.assert_array_equal(labels_in_top_k(labels, scores, 2), [1 / 2, 1, np.nan])
    np.testing.assert_array_equal(labels_in_top_k(labels, scores, 3), [1, 2 / 3, np.nan])


def test_average_precision_by_hand_and_without_positives():
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    scores = np.array([[0.9, 1], [0.8, 2], [0.7, 3], [0.1, 4]])
    first, second = average_precisions(labels, scores)
    assert first == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert np.isnan(second)


def test_confusion_matrix_counts_rows_by_truth():
    matrix = confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 2]), 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
