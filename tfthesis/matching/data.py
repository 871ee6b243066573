"""Opening an image-text dataset with the encoders that a recipe names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfthesis.data.caption_labels import read_words
from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.encoders import open_encoder
from tfthesis.encoders.encoder import Encoder
from tfthesis.errors import UserError
from tfthesis.matching.recipe import PairRecipe

#: In place of an encoder's name: the features that the dataset brings along.
PRECOMPUTED = "precomputed"


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
) -> PairedData:
    """Open an image-text dataset as pairs of features.

    Args:
        name, directory: of the dataset; see `tfthesis.data.image_text.open_image_text`.
        image_encoder, text_encoder: an encoder's name and its weights, empty for its default ones; or
            `precomputed` for features that the dataset brings along.
        labels, max_words: see `tfthesis.data.paired.PairedData`.
        word_list: file with a word a line for `caption_words`; empty takes the most frequent words.
        options: of the dataset's reader.

    Raises:
        UserError: anything named is unknown or missing.
    """
    if image_encoder[0] == PRECOMPUTED and image_encoder[1]:
        raise UserError(
            f"image_weights: precomputed features take no weights, got {image_encoder[1]!r}; leave it empty"
        )
    if word_list and labels != "caption_words":
        raise UserError(f"word_list: labels {labels!r} take no dictionary, got {word_list!r}; leave it empty")
    encoders = [_open(*image_encoder, "image"), _open(*text_encoder, "text")]
    words = read_words(Path(word_list)) if word_list else None
    dataset = open_image_text(name, directory, **options)
    return PairedData(dataset, *encoders, labels=labels, max_words=max_words, words=words)


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
        **options,
    )


def reader_options(assignments: Sequence[str]) -> dict[str, Any]:
    """Return `name=value` strings as keyword arguments; a value is JSON where it can be, else a string.

    Raises:
        UserError: an item has no `=`.
    """
    options = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"reader: expected items such as split=official, got {assignment!r}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def _open(name: str, weights: str, modality: str) -> Encoder | None:
    if name == PRECOMPUTED:
        return None
    encoder = open_encoder(name, weights or None)
    if encoder.modality != modality:
        raise UserError(f"{modality}_encoder: {name!r} encodes {encoder.modality}s, not {modality}s")
    return encoder
