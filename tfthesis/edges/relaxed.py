"""Labels that edge detectors are trained with: agreed edges, relaxed ones, and edges of segmentations.

Liu 2018, chapter 3: a side output of RDS is supervised by the annotators' edges (1) and by what a simple detector finds
beside them (2, relaxed: no loss there); the detector becomes stricter from side to side.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.ndimage
import skimage.feature
import skimage.filters

NEGATIVE, POSITIVE, RELAXED = 0, 1, 2
#: Standard deviations of Canny's Gaussian in pixels for the sides 1 to 5 (section 3.2.1).
CANNY_SIGMAS = (1.0, 3.0, 5.0, 7.0, 9.0)
#: What the mean of a soft edge map is multiplied with for the sides 1 to 5 (section 3.2.1).
MEAN_FACTORS = (0.5, 1.0, 1.5, 2.0, 2.5)
#: So many annotators make an edge of BSDS500 a positive label (section 3.4.2).
AGREEING = 3
_LUMA = (0.2989, 0.5870, 0.1140)
# The automatic thresholds of MATLAB's `edge`: the higher is passed by the rest of the pixels, counted in bins.
_BINS, _NOT_EDGES, _LOW_SHARE = 64, 0.7, 0.4


def canny(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return Canny's edges bool `[H, W]` with the thresholds that MATLAB's `edge` chooses by itself.

    The higher one is the smallest 64th of the largest gradient that 70% of the pixels do not pass, the lower one four
    tenths of it. The thesis names the detector and its sigmas only. Filters, suppression and tracking are those of
    `skimage.feature.canny`, which takes differences of the smoothed image by Sobel's operator where MATLAB convolves
    with the derivative of the Gaussian, and never finds an edge on the outermost pixels. Sobel's own smoothing makes a
    sigma of 1 act as about 1.2, and one of 3 as 3.1.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]`, of which the luma is taken.
        sigma: standard deviation of the Gaussian, in pixels.
    """
    values = image / 255.0
    if values.ndim == 3:
        values = values @ np.array(_LUMA)
    smooth = skimage.filters.gaussian(values, sigma, mode="nearest", preserve_range=True)
    magnitude = np.hypot(scipy.ndimage.sobel(smooth, axis=0), scipy.ndimage.sobel(smooth, axis=1))
    largest = magnitude.max()
    if not largest > 0:
        return np.zeros(magnitude.shape, bool)
    bins = np.floor(magnitude / largest * (_BINS - 1) + 0.5).astype(int)
    passed = np.cumsum(np.bincount(bins.ravel(), minlength=_BINS)) > _NOT_EDGES * magnitude.size
    high = (np.argmax(passed) + 1) / _BINS * largest
    return skimage.feature.canny(values, sigma, low_threshold=_LOW_SHARE * high, high_threshold=high, mode="nearest")


def above_mean(edges: np.ndarray, factor: float) -> np.ndarray:
    """Return where a soft edge map `[H, W]` is above `factor` times its mean, as bool (section 3.2.1).

    Such maps are those of Structured Edges or gPb, which are computed elsewhere and read from files.
    """
    return edges > factor * edges.mean()


def agreed_edges(annotators: np.ndarray, agreeing: int = AGREEING) -> np.ndarray:
    """Return where at least `agreeing` of the annotators' maps bool `[A, H, W]` have an edge, as bool `[H, W]`.

    Edges of fewer are no edges; with fewer annotators than `agreeing` all of them have to agree.
    """
    return np.count_nonzero(annotators, axis=0) >= min(agreeing, len(annotators))


def dilate(edges: np.ndarray) -> np.ndarray:
    """Return the pixels of a map bool `[H, W]` and their eight neighbours (section 3.4.1; the square is our choice)."""
    return scipy.ndimage.binary_dilation(edges, np.ones((3, 3), bool))


def relaxed_labels(truth: np.ndarray, detected: np.ndarray, *, dilated: bool = True) -> np.ndarray:
    """Return the labels uint8 `[H, W]` of one side output (Eq 3.1 and 3.2).

    1 where `truth` has an edge, 2 where only the detector has one, 0 elsewhere. Both are dilated before they are
    merged, so that positive labels win.

    Args:
        truth: bool `[H, W]`, see `agreed_edges`.
        detected: bool `[H, W]`, see `canny` and `above_mean`.
        dilated: whether both are dilated; never for test images.
    """
    if dilated:
        truth, detected = dilate(truth), dilate(detected)
    return np.where(truth, POSITIVE, np.where(detected, RELAXED, NEGATIVE)).astype(np.uint8)


def packed_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels of an image as a byte a pixel, uint8 `[H, W]`: six planes would take six.

    Bit 0 is set on edges, bit n where side output n has a relaxed label.

    Args:
        labels: uint8 `[H, W, 1 + S]`, S up to 7: the edges (0 and 1), and the labels of each side output, which are 1
            on the edges and only there.
    """
    relaxed = labels[..., 1:] == RELAXED
    shifts = np.arange(1, labels.shape[-1], dtype=np.uint8)
    return labels[..., 0] | (relaxed << shifts).sum(axis=-1, dtype=np.uint8)


def unpacked_labels(packed: np.ndarray, sides: int) -> np.ndarray:
    """Return the labels uint8 `[H, W, 1 + sides]` of `packed_labels`."""
    return _labels_of_bytes(sides)[packed]


@functools.cache
def _labels_of_bytes(sides: int) -> np.ndarray:
    """Return the labels `[2 ** (1 + sides), 1 + sides]` of every byte."""
    bits = np.arange(2 ** (1 + sides))[:, None] >> np.arange(1 + sides) & 1
    labels = np.where(bits[:, :1] == 1, POSITIVE, np.where(bits == 1, RELAXED, NEGATIVE))
    return labels.astype(np.uint8)


def segmentation_edges(labels: np.ndarray, ignored: int = 255) -> np.ndarray:
    """Return where the classes of a segmentation `[H, W]` meet, as bool `[H, W]` (coarse annotations, section 3.3).

    Of two neighbours in a row or a column with different labels the left or the upper one is an edge. Pixels without a
    class (`ignored`), which surround every object of PASCAL VOC, belong to the class that is nearest.
    """
    unknown = labels == ignored
    if unknown.any() and not unknown.all():
        nearest = scipy.ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
        labels = labels[tuple(nearest)]
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges
