"""Images that lie side by side in one file."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import PIL.Image
import tensorflow as tf

from tfthesis.data.image_text import image_identity
from tfthesis.data.images import decode, read_image
from tfthesis.errors import UserError

SIDES = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Half:
    """The left or the right half of an image file, a `tfthesis.data.images.LazyImage`.

    Attributes:
        path: of the file.
        side: which half.
    """

    path: Path
    side: str

    @property
    def name(self) -> str:
        """A text that changes with the file and the half."""
        return f"{self.side} half of {' '.join(map(str, image_identity(self.path)))}"

    def __str__(self) -> str:
        return f"{self.path} ({self.side} half)"

    def pixels(self) -> np.ndarray:
        """Return the half, uint8 `[H, W / 2, 3]`.

        Raises:
            UserError: the file cannot be read or does not decode, or its width is odd.
        """
        data = read_image(self.path)
        try:
            whole = decode(tf.constant(data)).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"{self.path}: it does not decode, it is damaged or cut off") from error
        width = whole.shape[1]
        if width % 2:
            raise UserError(f"{self.path}: expected two images of one width side by side, got {width} columns")
        return whole[:, : width // 2] if self.side == SIDES[0] else whole[:, width // 2 :]

    def read_bytes(self) -> bytes:
        """Return the half as PNG."""
        buffer = io.BytesIO()
        PIL.Image.fromarray(self.pixels()).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
