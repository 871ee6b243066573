"""Translations measured: how well images come back, and what a segmentation network sees in generated photos."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from tfthesis.adversarial.data import DOMAINS, TranslationData, network_values, pixel_values
from tfthesis.method import Evaluation
from tfthesis.metrics.segmentation import pixel_confusion, segmentation_scores

_PIXELS = 250_000


def translated(
    model: keras.Model, data: TranslationData, split: str, domain: str, rows: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, list[np.ndarray], np.ndarray]]:
    """Yield images of a domain, what each step of their chain makes of them, and what the way back makes of that.

    Args:
        model: a `tfthesis.models.CycleConsistentGAN`.
        data: where the images are.
        split: of which.
        domain: "a" or "b".
        rows: of the domain; None takes all.

    Yields:
        float32 `[n, H, W, 3]` in -1..1 each, a few images at a time.
    """
    other = DOMAINS[1 - DOMAINS.index(domain)]
    images = data.opened(split).images[DOMAINS.index(domain)]
    chosen = np.arange(len(images)) if rows is None else np.asarray(rows)
    count = max(1, _PIXELS // (data.height * data.width))
    for start in range(0, len(chosen), count):
        given = network_values(images[chosen[start : start + count]])
        steps = model.translate(given, other)
        back = model.translate(steps[-1], domain)[-1]
        yield np.asarray(given), [np.asarray(step) for step in steps], np.asarray(back)


def evaluate_translation(
    model: keras.Model, data: TranslationData, split: str, scorer: keras.Model | None, remark: str = ""
) -> Evaluation:
    """Measure a model on all images of `split`.

    Returns:
        Scalars `cycle_a` and `cycle_b`, the mean distance (values of -1..1) of an image of each domain from what both
        chains make of it. With a scorer the FCN-score of the photos that are made of labels, in percent, a value of a
        whole split: `pixel_accuracy`, `mean_accuracy` (of the classes) and `mean_iou`; and, with names that begin with
        "oracle.", the same of the real photos, which no translation should beat, and with "commonest." that of a
        network which sees the commonest class of the split in every pixel: photos of which nothing is recognised score
        about as much. `mean_iou` selects, without a scorer the sum of the two distances. Samples: `wrong_pixels` and
        `oracle.wrong_pixels`, the share of each image, and `row`.

    Args:
        model: a `tfthesis.models.CycleConsistentGAN`.
        data: where the images are.
        split: of which.
        scorer: from `tfthesis.adversarial.scorer.open_scorer`, or None.
        remark: added to the name of the protocol.
    """
    distances: dict[str, list[np.ndarray]] = {domain: [] for domain in DOMAINS}
    photos = []
    for domain in DOMAINS:
        for given, steps, back in translated(model, data, split, domain):
            distances[domain].append(np.abs(back - given).mean(axis=(1, 2, 3)))
            if domain == "b" and scorer is not None:
                photos.append(np.asarray(pixel_values(steps[-1])))
    scalars = {f"cycle_{domain}": float(np.concatenate(found).mean()) for domain, found in distances.items()}
    if scorer is None:
        protocol = f"mean distance after both chains{remark}"
        return Evaluation(protocol, scalars, -sum(scalars.values()))
    opened = data.opened(split)
    samples: dict[str, np.ndarray] = {"row": np.arange(len(opened.labels))}
    for prefix, images in (("", np.concatenate(photos)), ("oracle.", opened.images[0])):
        matrix, wrong = fcn_confusion(scorer, images, opened.labels, len(data.spec.classes))
        scalars |= {f"{prefix}{name}": value for name, value in segmentation_scores(matrix).items()}
        samples[f"{prefix}wrong_pixels"] = wrong
    # Every matrix has the true pixels of each class in its rows.
    blind = np.zeros_like(matrix)
    blind[:, matrix.sum(axis=1).argmax()] = matrix.sum(axis=1)
    scalars |= {f"commonest.{name}": value for name, value in segmentation_scores(blind).items()}
    protocol = f"FCN-score of label to photo at {data.height} x {data.width}, and distance after both chains{remark}"
    return Evaluation(protocol, scalars, scalars["mean_iou"], samples=samples)


def fcn_confusion(
    scorer: keras.Model, photos: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel counts `[C, C]` of what `scorer` sees in photos, and each photo's share of wrong pixels `[n]`.

    Args:
        scorer: a segmentation network.
        photos: uint8 `[n, H, W, 3]`.
        labels: uint8 `[n, H, W]`, those that the photos should show.
        classes: C.
    """
    matrix, wrong = np.zeros((classes, classes), np.int64), []
    count = max(1, _PIXELS // int(np.prod(labels.shape[1:])))
    for start in range(0, len(photos), count):
        image = photos[start : start + count].astype(np.float32)
        seen = np.asarray(scorer({"image": image}, training=False)["scores"]).argmax(axis=-1)
        for true, predicted in zip(labels[start : start + count], seen, strict=True):
            own = pixel_confusion(true, predicted, classes)
            matrix += own
            wrong.append(1 - np.diag(own).sum() / max(own.sum(), 1))
    return matrix, np.array(wrong)
