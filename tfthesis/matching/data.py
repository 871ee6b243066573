"""Opening an image-text dataset with the encoders that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfthesis.data.image_text import open_image_text
from tfthesis.data.paired import PairedData
from tfthesis.encoders import open_encoder
from tfthesis.encoders.encoder import Encoder
from tfthesis.method import UserError

#: In place of an encoder's name: the features that the dataset brings along.
PRECOMPUTED = "precomputed"


def open_pairs(
    name: str,
    directory: Path | None,
    *,
    image_encoder: tuple[str, str],
    text_encoder: tuple[str, str],
    labels: str,
    max_words: int,
    options: Mapping[str, Any],
) -> PairedData:
    """Open an image-text dataset as pairs of features.

    Args:
        name, directory: of the dataset; see `tfthesis.data.image_text.open_image_text`.
        image_encoder, text_encoder: an encoder's name and its weights, empty for its default ones; or
            `precomputed` for features that the dataset brings along.
        labels, max_words: see `tfthesis.data.paired.PairedData`.
        options: of the dataset's reader.

    Raises:
        UserError: anything named is unknown or missing.
    """
    encoders = [_open(*image_encoder, "image"), _open(*text_encoder, "text")]
    return PairedData(open_image_text(name, directory, **options), *encoders, labels=labels, max_words=max_words)


def _open(name: str, weights: str, modality: str) -> Encoder | None:
    if name == PRECOMPUTED:
        return None
    encoder = open_encoder(name, weights or None)
    if encoder.modality != modality:
        raise UserError(f"{modality}_encoder: {name!r} encodes {encoder.modality}s, not {modality}s")
    return encoder
