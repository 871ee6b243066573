"""R@K against sorting, with several captions an image and ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfthesis.errors import UserError
from tfthesis.metrics.recall import recalls, retrieval_ranks


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 10_000), st.integers(1, 7))
def test_ranks_equal_sorting_when_nothing_ties(n, m, seed, chunk):
    rng = np.random.default_rng(seed)
    image, text, owner = rng.normal(size=(n, 5)), rng.normal(size=(m, 5)), rng.integers(n, size=m)
    image_rank, text_rank = retrieval_ranks(image, text, owner, chunk=chunk)
    scores = image @ text.T
    for i in range(n):
        order = np.argsort(-scores[i])
        own = np.flatnonzero(owner[order] == i)
        # Every caption ahead of the best own one belongs to another image, so its position is the rank.
        assert image_rank[i] == (own[0] if len(own) else m)
    for j in range(m):
        assert text_rank[j] == list(np.argsort(-scores[:, j])).index(owner[j])


def test_collapsed_embeddings_score_zero():
    image_rank, text_rank = retrieval_ranks(np.ones((20, 3)), np.ones((100, 3)), np.arange(100) // 5)
    assert recalls(image_rank)["r10"] == 0 and recalls(text_rank)["r10"] == 0


def test_recalls_are_percentages():
    assert recalls(np.array([0, 0, 4, 5, 9, 10]), "i2t_") == {
        "i2t_r1": pytest.approx(100 / 3),
        "i2t_r5": 50.0,
        "i2t_r10": pytest.approx(500 / 6),
    }


@pytest.mark.parametrize(
    ("image", "text", "owner", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [0, 1], r"got \(2, 3\) and \(2, 4\)"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, 2], "owner must hold 2 rows of 2 images"),
        (np.ones((2, 3)), np.ones((3, 3)), [0, 1], "owner must hold 3 rows"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), [0, 1], "image holds values that are not finite"),
    ],
)
def test_bad_input_is_named(image, text, owner, message):
    with pytest.raises(UserError, match=message):
        retrieval_ranks(image, text, np.array(owner))
