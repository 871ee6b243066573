"""Edges one pixel wide."""

from __future__ import annotations

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.ndimage
import skimage.morphology

from tfthesis.edges.thinning import normal_angles, suppress_non_maxima, thin, triangle_blur

SIDE = 48
# A line through the middle, by the angle of its normal in degrees.
LINES = {
    0: lambda rows, columns: columns == SIDE // 2,
    90: lambda rows, columns: rows == SIDE // 2,
    45: lambda rows, columns: rows + columns == SIDE,
    135: lambda rows, columns: rows == columns,
}


def ridge(degrees):
    """Return a blurred line and where its crest is."""
    crest = LINES[degrees](*np.indices((SIDE, SIDE)))
    return scipy.ndimage.gaussian_filter(crest.astype(float), 2.0), crest


def inner(array, border=8):
    return array[border:-border, border:-border]


def test_thick_line_becomes_its_middle():
    edges = np.zeros((20, 30), bool)
    edges[8:13, 4:26] = True
    thinned = thin(edges)
    assert thinned[:, 8:22].sum(axis=0).tolist() == [1] * 14 and thinned[10, 8:22].all()
    np.testing.assert_array_equal(thin(thinned), thinned)
    assert not thin(np.zeros((5, 5), bool)).any()


@hypothesis.given(
    hypothesis.extra.numpy.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 4)
)
def test_thinning_is_that_of_skimage(edges, scale):
    edges = np.kron(edges, np.ones((scale, scale), bool)).astype(bool)
    np.testing.assert_array_equal(thin(edges), skimage.morphology.thin(edges))


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.55])
def test_thinning_of_large_shapes_is_that_of_skimage(threshold):
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(1).uniform(size=(90, 130)), 2.5)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    np.testing.assert_array_equal(thin(noise > threshold), skimage.morphology.thin(noise > threshold))


def test_triangle_blur_weighs_as_the_toolbox():
    spot = np.zeros((11, 11))
    spot[5, 5] = 1
    np.testing.assert_allclose(triangle_blur(spot, 1)[4:7, 4:7], np.outer([1, 2, 1], [1, 2, 1]) / 16)
    np.testing.assert_allclose(triangle_blur(spot, 4)[5, 1:10] * 125, [1, 2, 3, 4, 5, 4, 3, 2, 1])
    # Mirrored borders keep a constant as it is.
    np.testing.assert_allclose(triangle_blur(np.full((6, 7), 0.3), 4), 0.3)


@pytest.mark.parametrize("degrees", LINES)
def test_angle_is_across_the_line(degrees):
    edges, crest = ridge(degrees)
    found = np.degrees(inner(normal_angles(edges))[inner(crest)])
    distance = np.abs((found - degrees + 90) % 180 - 90)
    assert distance.max() < 2


@pytest.mark.parametrize("degrees", LINES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_blurred_line_becomes_one_pixel_wide(degrees, dtype):
    edges, crest = ridge(degrees)
    kept = suppress_non_maxima(edges.astype(dtype))
    # Position and value stay.
    np.testing.assert_array_equal(inner(kept) > 0, inner(crest))
    np.testing.assert_allclose(inner(kept)[inner(crest)], inner(triangle_blur(edges, 1))[inner(crest)], rtol=1e-6)
    unblurred = suppress_non_maxima(edges, blur=0)
    np.testing.assert_allclose(inner(unblurred)[inner(crest)], inner(edges)[inner(crest)])


def test_values_fade_towards_the_border():
    edges, _ = ridge(90)
    kept, whole = suppress_non_maxima(edges)[SIDE // 2], suppress_non_maxima(edges, border=0)[SIDE // 2]
    np.testing.assert_allclose(kept[:7], whole[:7] * np.minimum(np.arange(7) / 5, 1))
    np.testing.assert_allclose(kept[::-1][:7], whole[::-1][:7] * np.minimum(np.arange(7) / 5, 1))
    np.testing.assert_array_equal(kept[6:-6], whole[6:-6])
    assert whole.min() > 0


def test_factor_keeps_what_is_nearly_largest():
    edges = np.zeros((15, 15))
    edges[:, 7], edges[:, 8] = 1.0, 0.995
    assert (suppress_non_maxima(edges, blur=0)[7] > 0).sum() == 2
    assert (suppress_non_maxima(edges, blur=0, factor=1.0)[7] > 0).sum() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1)])
def test_maps_of_one_pixel_a_side_stay(shape):
    edges = np.random.default_rng(0).random(shape)
    kept = suppress_non_maxima(edges)
    np.testing.assert_array_equal(kept, edges)
    assert kept is not edges


def test_nothing_comes_of_nothing():
    assert not suppress_non_maxima(np.zeros((9, 9))).any()
