"""Recall at K between images and their captions."""

from __future__ import annotations

import numpy as np

from tfthesis.errors import UserError

#: Similarities held at a time.
BLOCK = 1 << 24


def retrieval_ranks(
    image: np.ndarray, text: np.ndarray, owner: np.ndarray, chunk: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return `image_to_text_ranks` and `text_to_image_ranks` of the same vectors; see there."""
    return image_to_text_ranks(image, text, owner, chunk), text_to_image_ranks(text, image, owner, chunk)


def image_to_text_ranks(image: np.ndarray, text: np.ndarray, owner: np.ndarray, chunk: int | None = None) -> np.ndarray:
    """Return the rank of the best caption of each image among the captions of other images, 0 being the best.

    A wrong answer that scores exactly as high as the right one counts as before it, so that embeddings which
    are all alike score zero and not full marks. Similarities are computed in blocks; no `N x M` matrix is held.

    Args:
        image: the queries `[N, D]`, text: `[M, D]`; compared by inner product, so L2-normalise for the cosine.
        owner: integer `[M]`, the row of the image that each caption describes.
        chunk: queries at a time; None takes as many as 64 MiB of similarities allow.

    Returns:
        Integer `[N]`. Images without a caption have the rank M.

    Raises:
        UserError: widths differ, `owner` does not fit, or a value is not finite.

    Source: the R@K protocol of Liu 2018, section 7.4.1.
    """
    image, text, owner = _checked(image, text, owner)
    ranks = np.full(len(image), len(text), np.int64)
    chunk = chunk or max(1, BLOCK // max(len(text), 1))
    for start in range(0, len(image), chunk):
        scores = image[start : start + chunk] @ text.T
        own = owner[None, :] == np.arange(start, start + len(scores))[:, None]
        best = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf)
        ahead = ((scores >= best[:, None]) & ~own).sum(axis=1)
        ranks[start : start + chunk] = np.where(own.any(axis=1), ahead, len(text))
    return ranks


def text_to_image_ranks(text: np.ndarray, image: np.ndarray, owner: np.ndarray, chunk: int | None = None) -> np.ndarray:
    """Return the rank of each caption's own image among all images; the rules are those of `image_to_text_ranks`.

    Args:
        text: the queries `[M, D]`, image: `[N, D]`.
        owner: integer `[M]`.
        chunk: queries at a time.

    Returns:
        Integer `[M]`.

    Raises:
        UserError: as `image_to_text_ranks`.
    """
    image, text, owner = _checked(image, text, owner)
    ranks = np.empty(len(text), np.int64)
    chunk = chunk or max(1, BLOCK // max(len(image), 1))
    for start in range(0, len(text), chunk):
        scores = text[start : start + chunk] @ image.T
        right = scores[np.arange(len(scores)), owner[start : start + chunk]]
        ranks[start : start + chunk] = (scores >= right[:, None]).sum(axis=1) - 1
    return ranks


def _checked(image: np.ndarray, text: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, text, owner = np.asarray(image), np.asarray(text), np.asarray(owner)
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1]:
        raise UserError(f"retrieval_ranks: expected image [N, D] and text [M, D], got {image.shape} and {text.shape}")
    if owner.shape != text.shape[:1] or (len(owner) and not 0 <= owner.min() <= owner.max() < len(image)):
        raise UserError(f"retrieval_ranks: owner must hold {len(text)} rows of {len(image)} images, got {owner.shape}")
    for name, array in (("image", image), ("text", text)):
        # One number tells, without an array of truth values as large as the gallery.
        if not np.isfinite(array.sum(dtype=np.float64)):
            raise UserError(f"retrieval_ranks: {name} holds values that are not finite")
    return image, text, owner


def recalls(ranks: np.ndarray, prefix: str = "", at: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Return the percentage of ranks below each K as `{prefix}r{K}`."""
    return {f"{prefix}r{k}": float(100 * np.mean(ranks < k)) for k in at}
