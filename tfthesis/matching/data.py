"""Opening an image-text dataset with the encoders that a recipe names."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfthesis.data.caption_labels import read_words
from tfthesis.data.image_text import open_image_text
from tfthesis.data.options import reader_options
from tfthesis.data.paired import PairedData
from tfthesis.encoders import encoder_class, open_encoder
from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.fitted import FittedEncoder, open_fitted
from tfthesis.errors import UserError
from tfthesis.matching.recipe import PairRecipe

#: In place of an encoder's name: the features that the dataset brings along.
PRECOMPUTED = "precomputed"
_NONE: Mapping[str, Any] = types.MappingProxyType({})


def open_pairs(
    name: str,
    directory: Path | None,
    *,
    image_encoder: tuple[str, str],
    text_encoder: tuple[str, str],
    labels: str = "none",
    max_words: int = 256,
    word_list: str = "",
    options: Mapping[str, Any],
    text_options: Mapping[str, Any] = _NONE,
) -> PairedData:
    """Open an image-text dataset as pairs of features.

    A text encoder that is fitted first is fitted to the captions of the training split, once, and kept in the cache.

    Args:
        name, directory: of the dataset; see `tfthesis.data.image_text.open_image_text`.
        image_encoder, text_encoder: an encoder's name and its weights, empty for its default ones; or
            `precomputed` for features that the dataset brings along.
        labels, max_words: see `tfthesis.data.paired.PairedData`.
        word_list: file with a word a line for `caption_words`; empty takes the most frequent words.
        options: of the dataset's reader.
        text_options: of the text encoder, or of its fit.

    Raises:
        UserError: anything named is unknown or missing.
    """
    if image_encoder[0] == PRECOMPUTED and image_encoder[1]:
        raise UserError(
            f"image_weights: precomputed features take no weights, got {image_encoder[1]!r}; leave it empty"
        )
    if word_list and labels != "caption_words":
        raise UserError(f"word_list: labels {labels!r} take no dictionary, got {word_list!r}; leave it empty")
    if text_encoder[0] == PRECOMPUTED and text_options:
        raise UserError(f"text_options: precomputed features take none, got {', '.join(text_options)}")
    image = _open(*image_encoder, "image")
    fitted = _is_fitted(text_encoder[0])
    text = None if fitted else _open(*text_encoder, "text", text_options)
    words = read_words(Path(word_list)) if word_list else None
    dataset = open_image_text(name, directory, **options)
    if fitted:
        captions = [caption for item in dataset.items("train") for caption in item.captions]
        text = open_fitted(text_encoder[0], captions, text_encoder[1] or None, options=text_options)
    return PairedData(dataset, image, text, labels=labels, max_words=max_words, words=words)


def open_for(
    recipe: PairRecipe, name: str, directory: Path | None, *, drawn: Mapping[str, Any], **options: Any
) -> PairedData:
    """Open the dataset `name` with the reader's options and the encoders of a recipe.

    Args:
        recipe: with fields `image_encoder` and `text_encoder` beside those of every image-text recipe.
        name, directory: of the dataset.
        drawn: how scenes are rendered: options of that reader that are recipe fields.
        options: further arguments of `open_pairs`, such as `labels`.

    Raises:
        UserError: as `open_pairs`, or an option of the reader is a recipe field.
    """
    read = reader_options(recipe.reader)
    if name == "scenes":
        if twice := sorted(read.keys() & drawn):
            raise UserError(f"recipe field 'reader': {twice[0]!r} of scenes is the recipe field 'scene_{twice[0]}'")
        read |= drawn
    elif recipe.text_encoder == PRECOMPUTED and recipe.text_weights:
        read |= {"text": recipe.text_weights}
    return open_pairs(
        name,
        directory,
        image_encoder=(recipe.image_encoder, recipe.image_weights),
        text_encoder=(recipe.text_encoder, recipe.text_weights),
        options=read,
        text_options=reader_options(recipe.text_options, "text_options"),
        **options,
    )


def _is_fitted(name: str) -> bool:
    return name != PRECOMPUTED and issubclass(encoder_class(name), FittedEncoder)


def _open(name: str, weights: str, modality: str, options: Mapping[str, Any] = _NONE) -> Encoder | None:
    if name == PRECOMPUTED:
        return None
    found = encoder_class(name).modality
    if found != modality:
        raise UserError(f"{modality}_encoder: {name!r} encodes {found}s, not {modality}s")
    return open_encoder(name, weights or None, **options)
