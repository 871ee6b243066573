"""Limits on encoded images in requests, checked before any decoder sees them, and which image a decoder refused.

A stock TensorFlow Serving has no such check: there a forged header costs memory, and a bad image fails its
whole batch inside the graph, which does not say which of its rows it was.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import tensorflow as tf

from serving.errors import exhausted, invalid
from tfthesis.data.image_header import MAX_BYTES, MAX_FRAMES, MAX_PIXELS, check_header
from tfthesis.data.images import decode
from tfthesis.errors import UserError, operation_message

#: Inputs of this name, or whose names end in "_" and it, are encoded images in every export of this project, if they
#: are strings.
ALIAS = "image"


@dataclasses.dataclass(frozen=True)
class ImageLimits:
    """The largest image that is decoded; `max_pixels` counts all frames of a GIF."""

    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES


def are_images(alias: str) -> bool:
    """Return whether strings of the input `alias` are encoded images."""
    return alias == ALIAS or alias.endswith(f"_{ALIAS}")


def check_images(alias: str, rows: np.ndarray, limits: ImageLimits) -> None:
    """Check the header of every image in `rows`, an object array of `bytes`.

    Raises:
        ServingError: RESOURCE_EXHAUSTED for an image above the limits, INVALID_ARGUMENT for bytes that are
            no image; the message names the input and the row.
    """
    for number, data in enumerate(rows.ravel().tolist()):
        try:
            check_header(data, limits.max_bytes, limits.max_pixels, limits.max_frames)
        except UserError as error:
            message = f"input {alias!r}, row {number}: {error}"
            raise (exhausted if _is_image(data) else invalid)(message) from error


def check_decodes(alias: str, rows: np.ndarray) -> None:
    """Decode every image in `rows`, one at a time, to find which of them failed a request.

    Not asked beforehand: it would do the model's work twice, and only files that were cut off behind their
    header, or damaged there, pass `check_images` and fail here.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input and the row.
    """
    for number, data in enumerate(rows.ravel().tolist()):
        try:
            with tf.device("CPU"):
                decode(tf.constant(data))
        except tf.errors.InvalidArgumentError as error:
            reason = f"it does not decode, it is damaged or cut off ({operation_message(error.message)})"
            raise invalid(f"input {alias!r}, row {number}: image: {reason}") from error


def _is_image(data: bytes) -> bool:
    """Return whether only the limits speak against `data`."""
    try:
        check_header(data, sys.maxsize, sys.maxsize, sys.maxsize)
    except UserError:
        return False
    return True
