"""Structural similarity of images (SSIM)."""

from __future__ import annotations

import numpy as np
import skimage.metrics

from tfthesis.errors import UserError

#: Side of the Gaussian window in pixels; images have to be as large.
WINDOW = 11


def structural_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each of two images float64 `[n]`, the mean over pixels and channels.

    With the Gaussian window (deviation 1.5 pixels) and the constants of Wang et al. (2004), which Liu 2018 cites for
    Table 8.3; the thesis does not say whether it compares colours or grey.

    Args:
        first, second: uint8 `[n, H, W, C]`.

    Raises:
        UserError: images that differ in shape or are no bytes, or are smaller than the window.
    """
    if first.shape != second.shape or first.ndim != 4 or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise UserError(
            f"structural similarity: expected two uint8 [n, H, W, C] of one shape, got {first.dtype} "
            f"{list(first.shape)} and {second.dtype} {list(second.shape)}"
        )
    if min(first.shape[1:3]) < WINDOW:
        raise UserError(f"structural similarity: expected at least {WINDOW} x {WINDOW} pixels, got {first.shape[1:3]}")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return np.array(
        [
            skimage.metrics.structural_similarity(one, other, channel_axis=-1, **options)
            for one, other in zip(first, second, strict=True)
        ]
    )
