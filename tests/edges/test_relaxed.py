"""Labels 0, 1 and 2 of edge networks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tfthesis.data.scenes.render import render
from tfthesis.data.scenes.scene import sample_scene
from tfthesis.edges.relaxed import (
    CANNY_SIGMAS,
    MEAN_FACTORS,
    above_mean,
    agreed_edges,
    canny,
    dilate,
    packed_labels,
    relaxed_labels,
    segmentation_edges,
    unpacked_labels,
)


def test_labels_of_the_check_sheet():
    detected, truth = np.array([[1, 1, 0], [0, 1, 1]], bool), np.array([[1, 0, 0], [0, 1, 0]], bool)
    found = relaxed_labels(truth, detected, dilated=False)
    assert found.tolist() == [[1, 2, 0], [0, 1, 2]] and found.dtype == np.uint8


def test_positive_labels_win_after_dilation():
    truth, detected = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    truth[3, 2], detected[3, 4] = True, True
    found = relaxed_labels(truth, detected)
    assert found[3].tolist() == [0, 1, 1, 1, 2, 2, 0, 0, 0]
    assert (found == 1).sum() == 9 and (found == 2).sum() == 6
    # Without anything relaxed the side outputs are supervised by the ground truth.
    np.testing.assert_array_equal(relaxed_labels(truth, truth), dilate(truth))


def test_labels_as_a_byte_a_pixel():
    """Every set of labels that a pixel can have comes back: an edge, or any of the sides relaxed."""
    sides = np.indices([2] * 5).reshape(5, -1).T
    labels = np.concatenate([[[1] * 6], np.pad(2 * sides, ((0, 0), (1, 0)))]).astype(np.uint8).reshape(3, 11, 6)
    packed = packed_labels(labels)
    assert packed.dtype == np.uint8 and packed.shape == (3, 11) and len(np.unique(packed)) == 33
    found = unpacked_labels(packed, 5)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


def test_three_annotators_make_an_edge():
    annotators = np.arange(5)[:, None, None] < np.array([[0, 1, 2, 3, 4, 5]])
    assert agreed_edges(annotators).tolist() == [[False, False, False, True, True, True]]
    assert agreed_edges(annotators, 5).tolist() == [[False] * 5 + [True]]
    # Of two annotators both have to agree.
    assert agreed_edges(annotators[:2]).tolist() == [[False, False, True, True, True, True]]


def test_above_mean_is_strict():
    edges = np.array([[0.0, 0.2, 0.4, 0.6]])
    assert above_mean(edges, 1.0).tolist() == [[False, False, True, True]]
    assert above_mean(edges, 2.0).tolist() == [[False] * 4]
    assert above_mean(np.full((2, 2), 0.5), 1.0).sum() == 0
    sizes = [above_mean(np.random.default_rng(0).uniform(size=(20, 20)) ** 2, factor).sum() for factor in MEAN_FACTORS]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 5


def test_segmentations_have_edges_where_classes_meet():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 255, 1]])
    # The pixel without a class lies beside three others, and takes the class of one of them.
    assert segmentation_edges(labels).astype(int)[:2].tolist() == [[0, 1, 0], [1, 1, 0]]
    assert segmentation_edges(labels, ignored=254).astype(int).tolist() == [[0, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert not segmentation_edges(np.full((4, 4), 7)).any()
    assert not segmentation_edges(np.full((4, 4), 255)).any()


def test_the_band_around_an_object_of_voc_has_the_border_in_its_middle():
    labels = np.zeros((5, 20), np.uint8)
    labels[:, 6:11], labels[:, 11:] = 255, 3
    found = segmentation_edges(labels)
    assert found.sum() == 5 and found[:, 8].all()


def test_canny_finds_the_outline_of_a_square():
    image = np.full((80, 80), 60, np.uint8)
    outline = np.zeros((80, 80), bool)
    outline[20:60, 20:60], outline[21:59, 21:59] = True, False
    image[20:60, 20:60] = 200
    # Halfway, so that the steepest place is one pixel and not between two.
    image[outline] = 130
    edges = canny(image, 1.0)
    assert edges[20, 26:54].all() and edges[26:54, 59].all()
    assert not (edges & ~dilate(outline)).any() and edges.sum() <= outline.sum()
    assert not canny(np.full((30, 30), 9, np.uint8), 3.0).any()


def test_canny_takes_the_thresholds_of_the_brightest_gradients():
    # A strong and a weak step: the weak one is below four tenths of the 64th that most pixels stay below.
    image = np.zeros((60, 200))
    image[:, 60:] += 200
    image[:, 140:] += 2
    edges = canny(image.astype(np.uint8), 1.0)
    columns = np.flatnonzero(edges[30])
    assert {59, 60} & set(columns.tolist()) and set(columns.tolist()) <= {59, 60}
    # With 70% of the pixels below the first bin the higher threshold is 1/64 of the largest gradient, here of 200.
    smooth = scipy.ndimage.gaussian_filter1d(image[30], 1.0, mode="nearest")
    gradient = np.abs(np.convolve(smooth, [1, 0, -1], "same"))[1:-1]
    weak = gradient[120:160].max() / gradient.max()
    assert 0.4 / 64 < weak < 1 / 64
    image[:, 140:] += 4
    assert {139, 140} & set(np.flatnonzero(canny(image.astype(np.uint8), 1.0)[30]).tolist())


def test_canny_becomes_coarser():
    image = render(sample_scene((3, 0, 1)), 128).image
    counts = [int(canny(image, sigma).sum()) for sigma in CANNY_SIGMAS]
    assert counts == sorted(counts, reverse=True) and counts[0] > 2 * counts[-1] > 0
    assert not np.array_equal(canny(image, 1.0), canny(image[..., ::-1], 1.0))


@pytest.mark.parametrize("sigma", CANNY_SIGMAS)
def test_higher_threshold_is_the_64th_that_seventy_percent_stay_below(sigma):
    image = render(sample_scene((3, 0, 2)), 96).image
    grey = image @ [0.2989, 0.5870, 0.1140] / 255
    smooth = scipy.ndimage.gaussian_filter(grey, sigma, mode="nearest", truncate=4.0)
    magnitude = np.hypot(scipy.ndimage.sobel(smooth, 0), scipy.ndimage.sobel(smooth, 1))
    magnitude = magnitude / magnitude.max()
    # Every edge passes the lower threshold, and every connected one the higher somewhere.
    places = np.floor(magnitude * 63 + 0.5)
    high = next(k for k in range(64) if (places <= k).sum() > 0.7 * places.size) + 1
    edges = canny(image, sigma)
    labels, count = scipy.ndimage.label(edges, np.ones((3, 3)))
    peaks = scipy.ndimage.maximum(magnitude, labels, np.arange(1, count + 1))
    assert count and min(peaks) >= high / 64 - 1e-9 and magnitude[edges].min() >= 0.4 * high / 64 - 1e-9
