"""Which images are dressed in whose clothes."""

from __future__ import annotations

import numpy as np
import pytest

from tfthesis.errors import UserError
from tfthesis.metrics.inception_score import inception_score
from tfthesis.swapping.protocol import conditions


def test_swaps_of_the_thesis():
    swaps = conditions(1372)
    assert swaps.shape == (34_300, 2) and swaps.min() == 0 and swaps.max() == 1371
    assert (np.bincount(swaps[:, 0]) == 25).all()
    assert (swaps[:, 0] != swaps[:, 1]).all()
    assert len(np.unique(swaps, axis=0)) == 34_300
    # Every image is a condition about as often.
    counts = np.bincount(swaps[:, 1], minlength=1372)
    assert abs(counts.mean() - 25) < 1e-9 and counts.std() < 6


def test_parts_of_the_swaps_are_fair_to_references_and_to_conditions():
    """An image's class is that of whose clothes it shows; in the order of references those had small scores."""
    swaps = conditions(120, 5)
    classes = np.eye(8)[np.random.default_rng(0).integers(0, 8, 120)]
    by_reference, by_condition = (inception_score(classes[swaps[:, side]])[0] for side in (0, 1))
    assert by_reference == pytest.approx(by_condition, rel=0.05)
    in_order = swaps[np.argsort(swaps[:, 0], kind="stable")]
    assert inception_score(classes[in_order[:, 0]])[0] < 0.9 * by_reference


def test_swaps_depend_on_the_seed_alone():
    np.testing.assert_array_equal(conditions(20, 5, 3), conditions(20, 5, 3))
    assert (conditions(20, 5, 3) != conditions(20, 5, 4)).any()
    few = conditions(4, 25)
    assert len(few) == 12 and {tuple(row) for row in few.tolist()} == {
        (r, c) for r in range(4) for c in range(4) if r != c
    }


@pytest.mark.parametrize(("images", "each"), [(1, 25), (4, 0)])
def test_refuses(images, each):
    with pytest.raises(UserError, match=f"got {images} images and {each} conditions"):
        conditions(images, each)
