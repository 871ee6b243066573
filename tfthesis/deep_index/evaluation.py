"""How well an index finds what its queries ask for, by the rule of the dataset."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tfthesis.data.searched_images import Query, SearchedImages
from tfthesis.deep_index.data import IndexedImageData
from tfthesis.deep_index.model import prepared
from tfthesis.deep_index.searching import Rules, Searcher, build_searcher
from tfthesis.errors import UserError
from tfthesis.inverted_index.index import thesis_bytes
from tfthesis.inverted_index.search import Answers, Scoring
from tfthesis.method import Evaluation
from tfthesis.metrics.ranked_lists import NS_IMAGES, average_precision

# Rows and scores of answers that are held at a time.
_HELD = 1 << 23
#: Answers drawn and kept in the table of an evaluation.
SHOWN = 5


def judged(rows: np.ndarray, query: Query) -> np.ndarray:
    """Return the places, ascending from 0, of a query's relevant images in its answers without the ignored ones.

    Args:
        rows: of the answers, best first; negative ones hold no answer.
    """
    rows = rows[rows >= 0]
    if len(query.ignored):
        rows = rows[~np.isin(rows, query.ignored)]
    return np.flatnonzero(np.isin(rows, query.relevant))


def precisions(
    answers: Sequence[np.ndarray], dataset: SearchedImages, numbers: np.ndarray
) -> tuple[list[float], list[int]]:
    """Return the average precision, and the hits among the first four answers, of each of the queries `numbers`."""
    found, hits = [], []
    for rows, number in zip(answers, numbers.tolist(), strict=True):
        query = dataset.queries[number]
        ranks = judged(rows, query)
        found.append(average_precision(ranks, len(query.relevant), dataset.rule))
        hits.append(np.count_nonzero(ranks < NS_IMAGES))
    return found, hits


def evaluate_index(
    model: keras.Model, data: IndexedImageData, rules: Rules, split: str, assignments: Sequence[int]
) -> Evaluation:
    """Measure the search on `split`, in percent, and N-S scores from 0 to 4.

    Args:
        assignments: multiple assignments to measure beside that of the rules.

    Returns:
        Scalars `mean_ap`, `ns_score` of a dataset that is measured by it, `answered` (queries with an answer),
        `bytes_an_image` of ours and `thesis_bytes` of the thesis's layout, all as it is served; `words.mean_ap_ma3` and
        so on without and `gis.mean_ap_ma3` with signatures; `global.mean_ap` of an exhaustive search by the cosine of
        whole images, where the pyramid has them. Samples `average_precision`, one a query, with the same prefixes.
        Table `cost`: seconds a query, which no seed repeats.

    Raises:
        UserError: the split has no images or no queries.
    """
    dataset = data.split(split)
    searcher = build_searcher(model, data, split, rules)
    if not dataset.queries:
        raise UserError(f"{dataset.name}: split {split!r} has no query to measure a search with")
    measured = _settings(rules, assignments)
    figures = {name: (np.zeros(len(dataset.queries)), np.zeros(len(dataset.queries))) for name in measured}
    answered = np.zeros(len(dataset.queries), bool)
    seconds = 0.0
    for numbers, features in _asked(model, data, split, len(searcher)):
        for name, scoring in measured.items():
            start = time.perf_counter()
            answers = searcher.ask(features, len(searcher), scoring)
            if not name:
                seconds += time.perf_counter() - start
                answered[numbers] = answers.rows[:, 0] >= 0
            for kept, part in zip(figures[name], precisions(answers.rows, dataset, numbers), strict=True):
                kept[numbers] = part
    if rules.whole is not None:
        figures["global."] = _exhaustive(model, data, split, rules.whole)
    return _evaluation(dataset, searcher, figures, answered, seconds)


def _settings(rules: Rules, assignments: Sequence[int]) -> dict[str, Scoring]:
    """Return what is measured by the beginning of its names: as it is served, and the grid of the thesis."""
    grid = {}
    for count in dict.fromkeys(assignments):
        own = dataclasses.replace(rules.scoring, assignments=count)
        grid[f"words._ma{count}"] = dataclasses.replace(own, alpha=0.0)
        if rules.scoring.alpha:
            grid[f"gis._ma{count}"] = own
    return {"": rules.scoring, **grid}


def _evaluation(
    dataset: SearchedImages,
    searcher: Searcher,
    figures: dict[str, tuple[np.ndarray, np.ndarray]],
    answered: np.ndarray,
    seconds: float,
) -> Evaluation:
    scalars, samples = {}, {}
    for name, (found, hits) in figures.items():
        prefix, _, suffix = name.partition("_")
        suffix = suffix and f"_{suffix}"
        scalars[f"{prefix}mean_ap{suffix}"] = float(100 * found.mean())
        samples[f"{prefix}average_precision{suffix}"] = found
        if dataset.measure == "ns_score":
            scalars[f"{prefix}ns_score{suffix}"] = float(hits.mean())
            samples[f"{prefix}ns_hits{suffix}"] = hits
    sizes = [index.bytes_an_image()["total"] for index in searcher.indexes]
    widths = [width for index in searcher.indexes if index.signatures for width in index.signatures.widths]
    scalars |= {"answered": float(100 * answered.mean()), "bytes_an_image": float(sum(sizes))}
    scalars["thesis_bytes"] = float(thesis_bytes(widths, searcher.indexes[0].patches * len(searcher.indexes)))
    measure = "ns_score" if dataset.measure == "ns_score" else "mean_ap"
    cost = [{"queries": len(answered), "images": len(searcher), "seconds a query": seconds / len(answered)}]
    return Evaluation(
        f"{'N-S score' if measure == 'ns_score' else 'mean average precision'} of {dataset.name}",
        scalars,
        scalars[measure],
        tables={"cost": cost},
        samples=samples,
    )


def best_answers(
    model: keras.Model, data: IndexedImageData, searcher: Searcher, split: str, numbers: Sequence[int], n: int
) -> Answers:
    """Return the `n` best answers to some queries of `split`, in their order, and a query's own image left out."""
    rows, logs = np.full((len(numbers), n), -1, np.int32), np.full((len(numbers), n), -np.inf)
    queries, wanted = data.split(split).queries, {number: place for place, number in enumerate(numbers)}
    for found, features in _asked(model, data, split, len(searcher)):
        own = [place for place, number in enumerate(found.tolist()) if number in wanted]
        if not own:
            continue
        answers = searcher.ask([part[own] for part in features], n + 1)
        for place, number in enumerate(found[own].tolist()):
            kept = answers.rows[place] != queries[number].row if queries[number].row >= 0 else slice(None)
            best, values = answers.rows[place][kept][:n], answers.logs[place][kept][:n]
            rows[wanted[number], : len(best)], logs[wanted[number], : len(best)] = best, values
    return Answers(rows, logs)


def _asked(
    model: keras.Model, data: IndexedImageData, split: str, images: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield numbers of queries and their prepared features, so few at a time that answers of all images fit."""
    step = max(1, _HELD // images)
    for numbers, features in data.query_features(split):
        for start in range(0, len(numbers), step):
            part = slice(start, start + step)
            yield numbers[part], prepared(model, [own[part] for own in features])


def _exhaustive(model: keras.Model, data: IndexedImageData, split: str, whole: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the cosine of whole images finds when every image is compared; axes are added."""
    dataset = data.split(split)
    images = np.concatenate([_whole(prepared(model, features), whole) for _, features in data.features(split)])
    found, hits = np.zeros(len(dataset.queries)), np.zeros(len(dataset.queries))
    for numbers, features in _asked(model, data, split, len(images)):
        similarities = _whole(features, whole) @ images.T
        answers = np.argsort(-similarities, axis=1, kind="stable")
        found[numbers], hits[numbers] = precisions(answers, dataset, numbers)
    return found, hits


def _whole(features: Sequence[np.ndarray], whole: int) -> np.ndarray:
    return np.concatenate([part[:, whole] for part in features], axis=1)
