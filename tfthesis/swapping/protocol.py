"""Which images are dressed in whose clothes (Liu 2018, section 8.2.4)."""

from __future__ import annotations

import numpy as np

from tfthesis.errors import UserError


def conditions(images: int, each: int = 25, seed: int = 0) -> np.ndarray:
    """Return the swaps that are measured, int64 `[images * each, 2]`: rows of a reference and of its condition.

    Every image is the reference of `each` others, which a lot draws without repetition; the lot of an image depends on
    the seed, its row and the number of images alone. Where there are fewer others, all of them are taken. The thesis's
    1,372 test images and 25 conditions make 34,300 swaps. They are mixed, so that neither the references nor the
    conditions of one part of them, over which an inception score is computed, are few.

    Args:
        images: of the split.
        each: conditions of a reference.
        seed: of the lots, and of the order.

    Raises:
        UserError: fewer than two images, or less than one condition.
    """
    if images < 2 or each < 1:
        raise UserError(
            f"swaps: expected at least 2 images and 1 condition of each, got {images} images and {each} conditions"
        )
    swaps = []
    for reference in range(images):
        drawn = np.random.default_rng((seed, reference)).choice(images - 1, min(each, images - 1), replace=False)
        # The others are counted without the reference itself.
        others = drawn + (drawn >= reference)
        swaps.append(np.stack([np.full(len(others), reference), others], axis=1))
    return np.random.default_rng((seed, images, 1)).permutation(np.concatenate(swaps))
