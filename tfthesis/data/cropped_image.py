"""A part of an image in a file, cut out when it is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfthesis.errors import UserError
from tfthesis.lazy import tf


@dataclasses.dataclass(frozen=True)
class CroppedImage:
    """A box of the upright picture in a file; a `LazyImage`.

    Attributes:
        path: of the file.
        box: `(left, top, right, bottom)`, in pixels or, with `relative`, in shares of the sides; what lies outside of
            the picture is cut off.
        relative: see `box`.
    """

    path: Path
    box: tuple[float, float, float, float]
    relative: bool = False

    @property
    def name(self) -> str:
        """Name of the file, its size, and the box: all that the picture depends on while the file stays as it is."""
        size = self.path.stat().st_size if self.path.is_file() else "missing"
        unit = "shares" if self.relative else "pixels"
        return f"{self.path.name} of {size} bytes, {unit} {' '.join(f'{edge:g}' for edge in self.box)}"

    def __fspath__(self) -> str:
        """Return the name under which caches know the picture; there is no such file."""
        return self.name.replace("/", "_")

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """Return the part as PNG.

        Raises:
            UserError: the file does not decode, or the box holds no pixel of it.
        """
        from tfthesis.data.images import decode, read_image

        data = read_image(self.path)
        try:
            # On the processor: pictures are decoded there anyway.
            with tf.device("CPU"):
                pixels = decode(tf.constant(data))
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"{self.path}: it does not decode, it is damaged or cut off") from error
        height, width = pixels.shape[:2]
        scale = (width, height, width, height) if self.relative else (1, 1, 1, 1)
        edges = [round(edge * factor) for edge, factor in zip(self.box, scale, strict=True)]
        left, top, right, bottom = max(edges[0], 0), max(edges[1], 0), min(edges[2], width), min(edges[3], height)
        if left >= right or top >= bottom:
            raise UserError(f"{self.name}: the box holds no pixel of the picture of {width} x {height}")
        return tf.io.encode_png(pixels[top:bottom, left:right], compression=1).numpy()
