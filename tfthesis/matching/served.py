"""Served functions of image-text models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfthesis.matching.embedding import MODALITIES, branch, embed, has_branch
from tfthesis.matching.scores import Measure
from tfthesis.method import Gallery, Served, Signature, Spec
from tfthesis.retrieval.adaptive import CANDIDATES, adaptive_search, rescored_search

#: Neighbours returned by a served search; a client cuts the list where it likes.
RESULTS = 20
#: Labels returned by `classify`.
LABELS = 5

_OTHER = {"image": "text", "text": "image"}


def matching_galleries(model: keras.Model, arrays: Any, measure: Measure | None = None) -> dict[str, Gallery]:
    """Return the images and the captions of a split as searchable items, where the model embeds them.

    Of joined embeddings only the parts that `measure` compares are kept; None keeps all.
    """
    parts = measure.parts if measure else None
    if not all(has_branch(model, modality) for modality in MODALITIES):
        return {}
    first = {int(image): caption for caption, image in reversed(list(enumerate(arrays.owner)))}
    described = [arrays.captions[first[i]] if i in first else "" for i in range(len(arrays.image_ids))]
    return {
        "image": Gallery(list(arrays.image_ids), embed(model, "image", arrays.image, parts), described),
        "text": Gallery(list(arrays.text_ids), embed(model, "text", arrays.text, parts), list(arrays.captions)),
    }


def matching_signatures(
    model: keras.Model,
    spec: Spec,
    index: Mapping[str, Any],
    encoders: Mapping[str, Any],
    measure: Measure | None = None,
) -> Served:
    """Return the served functions of an image-text model.

    `encode_image` and `encode_text` take encoded images and UTF-8 strings, and exist where the modality
    has an encoder; `encode_image_features` and `encode_text_features` take the encoders' outputs.
    `search_by_text` answers with images, `search_by_image` with captions, both `RESULTS` at most, best
    first; with `_features` they take features. With an adaptive `measure` an exact index weighs each query's
    scores by all items and an approximate one averages them; `search_by_text_top_100_rescored` and its like
    fuse the scores of the 100 best averages adaptively, whichever the index. `classify` takes what the
    classifier sees and answers with the `LABELS` surest classes, their probabilities, and which of them the
    inference rule of section 7.3 predicts: the surest one, or, where an example may have several labels,
    those above one half.
    """
    raw = {name: _raw_input(name, encoders[name]) for name in MODALITIES if name in encoders}
    features = {name: _feature_input(name, spec.inputs[name][0]) for name in MODALITIES}
    signatures: dict[str, Signature] = {}
    for modality in MODALITIES:
        if not has_branch(model, modality):
            continue
        part = branch(model, modality, measure.parts if measure else None)
        searches = _searches(part, index.get(_OTHER[modality]), measure)
        for source, suffix in ((raw.get(modality), ""), (features[modality], "_features")):
            if source is None:
                continue
            signatures[f"encode_{modality}{suffix}"] = source.signature(
                lambda rows, part=part: {"embedding": part(rows, training=False)},
                f"embedding of {source.help}",
            )
            for name, (search, how) in searches.items():
                signatures[f"search_by_{modality}{suffix}{name}"] = source.signature(
                    search, f"nearest {_OTHER[modality]}s of {source.help}{how}"
                )
    if "logits" in model.output and all(name in raw for name in model.input):
        signatures["classify"] = _classify(model, spec, raw)
    elif "logits" in model.output:
        signatures["classify"] = _classify(model, spec, features)
    trackables = [model, *index.values(), *(t for encoder in encoders.values() for t in encoder.trackables())]
    return Served(signatures, trackables)


def _searches(
    part: keras.Model, index: Any | None, measure: Measure | None
) -> dict[str, tuple[Callable[[tf.Tensor], dict[str, tf.Tensor]], str]]:
    """Return the searches of features over `index`: what their names end in -> function, and how it compares."""
    if index is None:
        return {}

    def plain(rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return index.search(part(rows, training=False), RESULTS)

    if measure is None or not measure.adaptive:
        return {"": (plain, "")}
    # The layer that joins the parts is the branch's last.
    widths = part.layers[-1].widths

    def fused(search: Callable[..., dict[str, tf.Tensor]]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        return lambda rows: search(index, part(rows, training=False), widths, RESULTS)

    how = f", the {CANDIDATES} best average scores fused adaptively among themselves"
    searches = {f"_top_{CANDIDATES}_rescored": (fused(rescored_search), how)}
    if index.kind == "exact":
        return {"": (fused(adaptive_search), ", scores fused adaptively (Liu 2018, Eq 6.11)"), **searches}
    return {"": (plain, ", average score"), **searches}


@dataclasses.dataclass(frozen=True)
class _Input:
    """An input of served functions, and how it becomes features `[B, F]`."""

    name: str
    spec: tf.TensorSpec
    example: np.ndarray
    help: str
    features: Callable[[tf.Tensor], tf.Tensor]

    def signature(self, function: Callable[[tf.Tensor], dict[str, tf.Tensor]], help: str) -> Signature:
        """Return `function` of the features as a served function of this input."""

        def served(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return function(self.features(inputs[self.name]))

        return Signature(served, {self.name: self.spec}, {self.name: self.example}, help)


def _raw_input(modality: str, encoder: Callable[[tf.Tensor], tf.Tensor]) -> _Input:
    grey = tf.io.encode_jpeg(np.full((32, 32, 3), 128, np.uint8)).numpy()
    example, help = {
        "image": (grey, "encoded images (JPEG, PNG, BMP, GIF)"),
        "text": (b"a large red circle", "UTF-8 texts"),
    }[modality]
    return _Input(modality, tf.TensorSpec([None], tf.string, name=modality), np.array([example], object), help, encoder)


def _feature_input(modality: str, width: int) -> _Input:
    spec = tf.TensorSpec([None, width], tf.float32, name=modality)
    example = np.linspace(0, 1, width, dtype=np.float32)[None]
    return _Input(modality, spec, example, f"{modality} features as the encoder computes them", tf.identity)


def _classify(model: keras.Model, spec: Spec, sources: Mapping[str, _Input]) -> Signature:
    used = [sources[name] for name in model.input]
    classes = tf.constant(list(spec.classes))
    count = min(LABELS, len(spec.classes))

    def classify(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model({source.name: source.features(inputs[source.name]) for source in used}, training=False)["logits"]
        probability = tf.sigmoid(logits) if spec.multi_label else tf.nn.softmax(logits)
        best = tf.math.top_k(probability, count)
        first = tf.broadcast_to(tf.range(count) == 0, tf.shape(best.values))
        predicted = best.values > 0.5 if spec.multi_label else first
        return {"labels": tf.gather(classes, best.indices), "probabilities": best.values, "predicted": predicted}

    return Signature(
        classify,
        {source.name: source.spec for source in used},
        {source.name: source.example for source in used},
        f"the {count} surest classes of {' with '.join(source.help for source in used)}",
    )
