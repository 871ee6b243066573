"""What a search among groups of images finds: average precision, and the N-S score of UKBench."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfthesis.errors import UserError, closest

#: Similarities held at a time.
BLOCK = 1 << 24
RULES = ("step", "trapezoid")
#: Images of a group of UKBench, and length of the list that its score looks at.
NS_IMAGES = 4


def average_precision(ranks: np.ndarray, relevant: int, rule: str = "step") -> float:
    """Return the average precision, 0 to 1, of one ranked list.

    Args:
        ranks: places of the relevant items that the list holds, ascending, 0 being the first.
        relevant: number of relevant items, those that the list lacks included; at least 1.
        rule: "step" is the mean over the relevant items of the precision where each is found; "trapezoid" takes there
            the mean of this precision and of the precision one place before, which is 1 before the first place, as
            the evaluations of Holidays and of Oxford and Paris Buildings do.

    Raises:
        UserError: the rule is unknown, or there is no relevant item.
    """
    if rule not in RULES:
        raise closest(rule, RULES, "rule of average precision")
    if relevant < 1 or len(ranks) > relevant:
        raise UserError(f"average_precision: relevant: expected at least 1 and the {len(ranks)} found, got {relevant}")
    ranks = np.asarray(ranks, np.int64)
    found = np.arange(len(ranks))
    precision = (found + 1) / (ranks + 1)
    if rule == "trapezoid":
        before = np.where(ranks > 0, found / np.maximum(ranks, 1), 1.0)
        precision = (precision + before) / 2
    return float(precision.sum() / relevant)


def group_average_precisions(
    vectors: np.ndarray, groups: np.ndarray, queries: np.ndarray, rule: str = "step"
) -> np.ndarray:
    """Return the average precision, 0 to 1, of each query among all other images; the query itself is in no list.

    An image of another group that scores exactly as high as one of the query's counts as before it. Similarities are
    inner products, computed in blocks.

    Args:
        vectors: `[N, D]`, L2-normalised for the cosine.
        groups: integer `[N]`; images of one group are relevant to each other.
        queries: rows of `vectors`, `[Q]`.
        rule: of `average_precision`.

    Returns:
        float64 `[Q]`.

    Raises:
        UserError: shapes do not fit, a value is not finite, or a query is alone in its group.
    """
    found = group_ranks(vectors, groups, queries)
    return np.array([average_precision(ranks, len(ranks), rule) for ranks in found])


def ns_hits(vectors: np.ndarray, groups: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return how many images of a query's group, the query included, are among the four best: integer `[Q]`, 0 to 4.

    The mean over all images as queries is the N-S score of UKBench, whose groups have four images. The arguments are
    those of `group_average_precisions`, as is what is raised, but for a query that is alone.
    """
    found = group_ranks(vectors, groups, queries, with_query=True)
    return np.array([np.count_nonzero(ranks < NS_IMAGES) for ranks in found], np.int64)


def group_ranks(
    vectors: np.ndarray, groups: np.ndarray, queries: np.ndarray, *, with_query: bool = False
) -> Iterator[np.ndarray]:
    """Yield for each query the ranks, ascending from 0, of the images of its group in the list of all images.

    Args:
        vectors, groups, queries: as of `group_average_precisions`.
        with_query: whether the query is an item of its own list; otherwise it is left out.

    Raises:
        UserError: as `group_average_precisions`.
    """
    vectors, groups, queries = _checked(vectors, groups, queries)
    chunk = max(1, BLOCK // max(len(vectors), 1))
    for start in range(0, len(queries), chunk):
        rows = queries[start : start + chunk]
        for row, scores in zip(rows.tolist(), vectors[rows] @ vectors.T, strict=True):
            own = groups == groups[row]
            others = np.sort(scores[~own])
            own[row] = with_query
            if not own.any():
                raise UserError(f"group_ranks: the query in row {row} is the only image of its group")
            best_first = np.sort(scores[own])[::-1]
            yield np.arange(len(best_first)) + len(others) - np.searchsorted(others, best_first, side="left")


def _checked(vectors: np.ndarray, groups: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vectors, groups, queries = np.asarray(vectors), np.asarray(groups), np.asarray(queries)
    if vectors.ndim != 2 or groups.shape != vectors.shape[:1]:
        raise UserError(f"group_ranks: expected vectors [N, D] and groups [N], got {vectors.shape} and {groups.shape}")
    if queries.ndim != 1 or (len(queries) and not 0 <= queries.min() <= queries.max() < len(vectors)):
        raise UserError(f"group_ranks: queries must be rows of {len(vectors)} vectors, got {queries.shape}")
    if not np.isfinite(vectors.sum(dtype=np.float64)):
        raise UserError("group_ranks: vectors hold values that are not finite")
    return vectors, groups, queries
