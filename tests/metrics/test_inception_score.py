"""Inception score and structural similarity, beside a few lines of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tfthesis.errors import UserError
from tfthesis.metrics.inception_score import inception_score
from tfthesis.metrics.structural_similarity import structural_similarity


def score(rows):
    """Eq 8.20 and 8.21 as they are printed."""
    mean = [sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))]
    total = 0.0
    for row in rows:
        total += sum(p * (np.log(p) - np.log(q)) for p, q in zip(row, mean, strict=True) if p > 0)
    return np.exp(total / len(rows))


def test_score_of_random_probabilities_in_parts():
    rows = np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=47)
    mean, deviation = inception_score(rows, splits=4)
    # Parts of 12, 12, 12 and 11.
    scores = [score(rows[start:end].tolist()) for start, end in ((0, 12), (12, 24), (24, 36), (36, 47))]
    np.testing.assert_allclose(mean, sum(scores) / 4)
    np.testing.assert_allclose(deviation, np.sqrt(np.mean((np.array(scores) - np.mean(scores)) ** 2)))


@pytest.mark.parametrize("splits", [1, 5])
def test_bounds(splits):
    sure = np.eye(7)[np.arange(70) % 7]
    np.testing.assert_allclose(inception_score(sure, splits), (7, 0), atol=1e-12)
    same = np.tile(np.random.default_rng(0).dirichlet(np.ones(7)), (70, 1))
    np.testing.assert_allclose(inception_score(same, splits), (1, 0), atol=1e-12)
    # One class alone is sure, but not diverse.
    np.testing.assert_allclose(inception_score(np.eye(7)[np.zeros(70, int)], splits), (1, 0), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "splits", "message"),
    [
        (np.full((4, 2), 0.5), 5, r"got \[4, 2\] and 5 parts"),
        (np.full((4, 2), 0.5), 0, "1 to n parts"),
        (np.full(4, 0.25), 1, r"got \[4\]"),
        (np.full((4, 2), 0.6), 1, "sum up to 1"),
        (np.array([[1.5, -0.5]]), 1, "positive"),
        (np.array([[np.nan, 1.0]]), 1, "sum up to 1"),
    ],
)
def test_score_refuses(rows, splits, message):
    with pytest.raises(UserError, match=message):
        inception_score(rows, splits)


def similarity(first, second):
    """SSIM of Wang et al. (2004) with a Gaussian window of deviation 1.5, cut at 5 pixels."""
    values = []
    for channel in range(first.shape[-1]):
        x, y = first[..., channel].astype(float), second[..., channel].astype(float)

        def window(z):
            return scipy.ndimage.gaussian_filter(z, 1.5, truncate=3.5)

        mx, my = window(x), window(y)
        vx, vy, cov = window(x * x) - mx**2, window(y * y) - my**2, window(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        ssim = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        # The rim, where the window leaves the image, does not count.
        values.append(ssim[5:-5, 5:-5].mean())
    return np.mean(values)


def test_similarity():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    noisy = np.clip(first + generator.normal(0, 30, first.shape), 0, 255).astype(np.uint8)
    found = structural_similarity(first, noisy)
    np.testing.assert_allclose(found, [similarity(a, b) for a, b in zip(first, noisy, strict=True)], rtol=1e-6)
    np.testing.assert_allclose(structural_similarity(first, first), 1)


def test_similarity_refuses():
    images = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match=r"got uint8 \[2, 16, 16, 3\] and float32 \[2, 16, 16, 3\]"):
        structural_similarity(images, images.astype(np.float32))
    with pytest.raises(UserError, match="of one shape"):
        structural_similarity(images, images[:1])
    with pytest.raises(UserError, match="at least 11 x 11 pixels"):
        structural_similarity(images[:, :8], images[:, :8])
