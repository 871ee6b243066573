"""Image-text pairs as features: what matching methods train and are measured on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfthesis.data.caption_labels import WordList, build_word_list, caption_labels, given_word_list
from tfthesis.data.image_text import ImageTextDataset, ImageTextItem
from tfthesis.data.images import read_image
from tfthesis.errors import UserError, closest
from tfthesis.method import Spec

if TYPE_CHECKING:
    from tfthesis.encoders.encoder import Encoder

LABELS = ("given", "caption_words", "none")
MODALITIES = ("image", "text")


@dataclasses.dataclass(frozen=True)
class PairArrays:
    """One split as arrays; images and captions that could not be used are left out.

    Attributes:
        image: `[N, Dv]` float32.
        text: `[M, Dt]` float32, the captions of image 0, then of image 1, and so on.
        owner: `[M]` int64, the row of each caption's image.
        label: `[M, C]` float32 0/1 (multi-label), `[M]` int64 (single label), or None.
        image_ids, text_ids: names; a caption is its image's name, "#" and its number.
        captions: `M` sentences.
    """

    image: np.ndarray
    text: np.ndarray
    owner: np.ndarray
    label: np.ndarray | None
    image_ids: list[str]
    text_ids: list[str]
    captions: list[str]


class PairedData:
    """A dataset whose rows are captions, each with its image; implements `tfthesis.method.Data`.

    Features come from the encoders (computed once, then cached) or, where an encoder is None, from the files that
    the dataset brought along. A split is opened when it is first asked for. There is no augmentation: batches depend
    on the rows alone.

    Args:
        dataset: what was read.
        image_encoder, text_encoder: `tfthesis.encoders` encoders, or None.
        labels: "given" (the dataset's), "caption_words" (see `caption_labels`), or "none".
        max_words: length of the dictionary for "caption_words".
        words: a dictionary of one's own for "caption_words"; the training captions must have its words. None makes
            one of the words that most training images mention.
        cache: folder for features; None takes the default one.
        progress: called with (done, in all) while features are computed.

    Raises:
        UserError: no features for a modality, unequal widths, or labels that the dataset lacks.
    """

    def __init__(
        self,
        dataset: ImageTextDataset,
        image_encoder: Encoder | None = None,
        text_encoder: Encoder | None = None,
        *,
        labels: str = "given",
        max_words: int = 256,
        words: Sequence[str] | None = None,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ):
        if labels not in LABELS:
            raise closest(labels, LABELS, "labels")
        if labels == "given" and not dataset.classes:
            raise UserError(f"{dataset.name} has no labels: use labels 'caption_words' or 'none'")
        self.dataset, self.labels, self.cache, self.progress = dataset, labels, cache, progress
        self.encoders = {"image": image_encoder, "text": text_encoder}
        self.words = self._words(max_words, words) if labels == "caption_words" else None
        self._opened: dict[str, _Split] = {}
        self.spec = Spec(
            inputs={modality: (self._width(modality),) for modality in MODALITIES},
            classes=self._classes(),
            multi_label=labels == "caption_words" or (labels == "given" and dataset.multi_label),
            encoders={name: encoder.describe() for name, encoder in self.encoders.items() if encoder is not None},
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint(), "counts": dataset.counts()},
        )

    def _words(self, max_words: int, words: Sequence[str] | None) -> WordList:
        training = self.dataset.items("train")
        if words is None:
            return build_word_list(training, max_words)
        held_out = {split: items for split, items in self.dataset.splits.items() if split != "train"}
        return given_word_list(words, training, held_out)

    def _classes(self) -> tuple[str, ...]:
        if self.words is not None:
            return self.words.words
        return self.dataset.classes if self.labels == "given" else ()

    def _width(self, modality: str) -> int:
        if self.encoders[modality] is not None:
            return self.encoders[modality].dimension
        arrays = (self.dataset.features or {}).get(modality)
        if not arrays:
            raise UserError(f"{self.dataset.name} brings no {modality} features: give a {modality} encoder")
        widths = {split: array.shape[1] for split, array in arrays.items()}
        if len(set(widths.values())) > 1:
            raise UserError(f"{self.dataset.name}: the widths of the {modality} features differ: {widths}")
        return next(iter(widths.values()))

    def _split(self, split: str) -> _Split:
        if split not in self._opened:
            self._opened[split] = _open(self, split)
        return self._opened[split]

    def size(self, split: str) -> int:
        """Return the number of usable captions of `split`; computes its features if need be."""
        return len(self._split(split).arrays.owner)

    def arrays(self, split: str) -> PairArrays:
        """Return a whole split; raises `UserError` for an unknown one."""
        return self._split(split).arrays

    def image_bytes(self, split: str, index: int) -> bytes | None:
        """Return the file of image `index` (a row of `arrays(split).image`), or None where only features are known."""
        image = self._split(split).items[index].image
        return None if image is None else read_image(image)

    def item_ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Return the caption ids of `rows`, such as "train/17#3"."""
        ids = self._split(split).arrays.text_ids
        return [ids[row] for row in np.asarray(rows).tolist()]

    def batches(self, split: str, rows: Sequence[np.ndarray], key: tuple[int, int]) -> tf.data.Dataset:
        """Return one element for each array of caption rows, in order, empty arrays too.

        Inputs: "image" `[b, Dv]`, "text" `[b, Dt]`. Targets: "image_id" int64 `[b]` (equal for captions of one
        image), "row" int64 `[b]`, and "label" `[b, C]` float32 or `[b]` int64 where there are labels. `key` is not
        used: nothing is random here.
        """
        arrays = self.arrays(split)
        indices = [np.asarray(row, np.int64) for row in rows]
        columns = {"image": arrays.image, "text": arrays.text, "label": arrays.label}
        kinds = {name: tf.as_dtype(array.dtype) for name, array in columns.items() if array is not None}

        def gather(number: np.int64) -> list[np.ndarray]:
            batch = indices[number]
            owner = arrays.owner[batch]
            picked = {"image": owner, "text": batch, "label": batch}
            return [batch, owner, *(np.ascontiguousarray(columns[name][picked[name]]) for name in kinds)]

        def element(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch, owner, *values = tf.numpy_function(gather, [number], [tf.int64, tf.int64, *kinds.values()])
            found = {"row": batch, "image_id": owner, **dict(zip(kinds, values, strict=True))}
            for name, value in found.items():
                value.set_shape([None, *(columns[name].shape[1:] if name in kinds else ())])
            inputs = {name: found.pop(name) for name in MODALITIES}
            return inputs, found

        return tf.data.Dataset.range(len(indices)).map(element, num_parallel_calls=2, deterministic=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, sources, labels and skipped items; nothing is computed for it."""
        features = {name: encoder.name if encoder else "precomputed" for name, encoder in self.encoders.items()}
        skipped = [*self.dataset.skipped, *(line for opened in self._opened.values() for line in opened.skipped)]
        return {
            "name": self.dataset.name,
            "fingerprint": self.spec.dataset["fingerprint"],
            "source": self.dataset.source,
            "counts": self.dataset.counts(),
            "usable": {split: len(opened.arrays.owner) for split, opened in self._opened.items()},
            "features": features,
            "labels": {"from": self.labels, "classes": len(self.spec.classes), "multi_label": self.spec.multi_label},
            "skipped": {"count": len(skipped), "items": skipped},
        }


@dataclasses.dataclass(frozen=True)
class _Split:
    """An opened split: usable items in the order of `arrays.image`, and a line for each that was left out."""

    items: list[ImageTextItem]
    arrays: PairArrays
    skipped: list[str]


def _open(data: PairedData, split: str) -> _Split:
    """Compute or load the features of a split and leave out what cannot be used."""
    items = data.dataset.items(split)
    captions = [caption for item in items for caption in item.captions]
    owner = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
    image, image_ok, bad_images = _features(data, split, "image", [item.image for item in items])
    text, text_ok, bad_texts = _features(data, split, "text", captions)
    label = _labels(data, items)

    kept_text = text_ok & image_ok[owner]
    # An image without a usable caption is no pair.
    kept_image = image_ok & np.isin(np.arange(len(items)), owner[kept_text])
    new_row = np.cumsum(kept_image) - 1
    numbers = np.concatenate([np.arange(len(item.captions)) for item in items]) if items else owner
    kept_items = [item for item, kept in zip(items, kept_image, strict=True) if kept]
    rows = np.flatnonzero(kept_text)
    if not len(rows):
        raise UserError(f"{data.dataset.name}: split {split!r} has no usable pair; see the skipped items")
    arrays = PairArrays(
        image=image[kept_image[image_ok]],
        text=text[kept_text[text_ok]],
        owner=new_row[owner[rows]],
        label=None if label is None else label[rows],
        image_ids=[item.id for item in kept_items],
        text_ids=[f"{items[owner[row]].id}#{numbers[row]}" for row in rows],
        captions=[captions[row] for row in rows],
    )
    skipped = [f"{split}: image {items[i].id}: {reason}" for i, reason in bad_images]
    skipped += [f"{split}: caption {items[owner[i]].id}#{numbers[i]}: {reason}" for i, reason in bad_texts]
    return _Split(kept_items, arrays, skipped)


def _features(
    data: PairedData, split: str, modality: str, raw: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Return the features of the good items, which items are good, and why the others are not."""
    encoder = data.encoders[modality]
    if encoder is None:
        rows = data.dataset.features[modality].get(split)
        if rows is None:
            raise UserError(f"{data.dataset.name} brings no {modality} features for split {split!r}")
        rows = np.asarray(rows, np.float32)
        good = np.isfinite(rows).all(axis=1)
        return rows[good], good, [(i, "its feature is not finite") for i in np.flatnonzero(~good).tolist()]
    if any(item is None for item in raw):
        raise UserError(f"{data.dataset.name} has no image files: encoder {encoder.name!r} cannot be used")
    from tfthesis.encoders.feature_cache import cached_features

    fingerprint = data.dataset.modality_fingerprint(modality, split)
    found = cached_features(encoder, raw, dataset=fingerprint, cache=data.cache, progress=data.progress)
    return found.rows, found.ok, found.bad


def _labels(data: PairedData, items: Sequence[ImageTextItem]) -> np.ndarray | None:
    """Return the label of each caption of `items`."""
    if data.labels == "none":
        return None
    if data.words is not None:
        return caption_labels(items, data.words.words)
    column = {name: index for index, name in enumerate(data.dataset.classes)}
    repeats = [len(item.captions) for item in items]
    if not data.dataset.multi_label:
        return np.repeat(np.array([column[item.labels[0]] for item in items], np.int64), repeats)
    rows = np.zeros((len(items), len(column)), np.float32)
    for row, item in zip(rows, items, strict=True):
        row[[column[name] for name in item.labels]] = 1
    return np.repeat(rows, repeats, axis=0)
