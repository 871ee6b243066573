"""Edge networks measured by the Berkeley benchmark (Liu 2018, section 2.4.5)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfthesis.edges.counting import EdgeCounts, count_edges, even_thresholds
from tfthesis.edges.data import EdgeData
from tfthesis.edges.detection import EdgeDetector
from tfthesis.edges.recipe import EdgeRecipe
from tfthesis.edges.scores import EdgeScores, score_edges
from tfthesis.edges.thinning import suppress_non_maxima
from tfthesis.method import Evaluation
from tfthesis.processes import allowed_processes, map_in_processes

# Processes take seconds to start, in which one of them counts so many binary maps.
_FEW_MAPS = 1000


def edge_maps(
    model: keras.Model, data: EdgeData, recipe: EdgeRecipe, split: str, rows: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the edge map float64 `[H, W]` of each of `rows` at its image's size, as it is measured."""
    detect = tf.function(
        EdgeDetector(model, recipe.test_scales).probabilities,
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    )
    for row in rows.tolist():
        edges = np.asarray(detect(tf.constant(data.image(split, row))), np.float64)
        yield suppress_non_maxima(edges) if recipe.suppress else edges


def evaluate_edges(model: keras.Model, data: EdgeData, recipe: EdgeRecipe, split: str) -> Evaluation:
    """Measure `model` on the images of `split` that the recipe names, in percent.

    Where there is much to count it is shared among the processes that `tfthesis.processes` allows.

    Returns:
        Scalars `ods`, `ois` and `ap`, with the threshold, recall and precision of the first; `ods` selects. Of the test
        split the same at each of `recipe.further_reaches`, with names that begin with `reach_`, its share of the
        diagonal, and a dot. Table `images`; curve `precision` over recall; samples `best_f`, the F of each image at its
        own best threshold, and `row`, which image it is.
    """
    limit, count, reaches = recipe.test_images, recipe.thresholds, (recipe.max_dist, *recipe.further_reaches)
    if split == "val":
        limit, count, reaches = recipe.val_images, recipe.val_thresholds, (recipe.max_dist,)
    rows = np.arange(min(limit or data.size(split), data.size(split)))
    thresholds = even_thresholds(count)
    maps = edge_maps(model, data, recipe, split, rows)
    images = ((edges, data.annotators(split, row)) for row, edges in zip(rows.tolist(), maps, strict=True))
    count_image = functools.partial(_count_at, thresholds=thresholds, reaches=reaches)
    processes = allowed_processes() if len(rows) * count * len(reaches) >= _FEW_MAPS else 1
    counts = list(map_in_processes(count_image, images, processes, "with fewer cores the run needs less memory"))
    scores, *others = (score_edges(list(own), thresholds) for own in zip(*counts, strict=True))
    names = data.item_ids(split, rows)
    table = [
        {"image": name, "threshold": best.threshold, "recall": best.recall, "precision": best.precision, "f": best.f}
        for name, best in zip(names, scores.images, strict=True)
    ]
    scalars = _scalars(scores)
    for reach, found in zip(reaches[1:], others, strict=True):
        scalars |= {f"reach_{reach:g}.{name}": value for name, value in _scalars(found).items()}
    return Evaluation(
        f"Berkeley benchmark, {count} thresholds, reach {', '.join(map(str, reaches))}",
        scalars,
        scalars["ods"],
        tables={"images": table},
        curves={"precision": (scores.recall.tolist(), scores.precision.tolist())},
        samples={"best_f": np.array([best.f for best in scores.images]), "row": rows},
    )


def _count_at(
    edges: np.ndarray, annotators: Sequence[np.ndarray], thresholds: np.ndarray, reaches: Sequence[float]
) -> list[EdgeCounts]:
    """Return the counts of an edge map at each reach."""
    return [count_edges(edges, annotators, thresholds, max_dist=reach) for reach in reaches]


def _scalars(scores: EdgeScores) -> dict[str, float]:
    return {
        "ods": 100 * scores.ods.f,
        "ois": 100 * scores.ois.f,
        "ap": 100 * scores.average_precision,
        "ods_threshold": scores.ods.threshold,
        "ods_recall": 100 * scores.ods.recall,
        "ods_precision": 100 * scores.ods.precision,
    }
