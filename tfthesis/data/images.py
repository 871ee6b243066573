"""The one way from image bytes to pixels, for training and serving alike.

Everything here is graph code, so that a notebook, a training run and a SavedModel see the same pixels.
One result for each kind of file:

| file | result |
|---|---|
| JPEG, grey or colour | RGB; grey is repeated three times |
| JPEG, CMYK or YCCK | RGB, inverted where the Adobe marker says so |
| JPEG with an EXIF orientation | turned upright |
| PNG, grey, palette, 1 to 8 bits | RGB |
| PNG, 16 bits | RGB of the high bytes |
| PNG with alpha, palette transparency included | laid over white |
| GIF | RGB of the first frame; transparent pixels are black |
| BMP, 24 or 32 bits | RGB; the fourth byte is ignored |
| anything else: empty, cut off, WebP, TIFF, BMP of 8 bits or fewer | an error |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from tfthesis.assertions import after
from tfthesis.data.byte_search import byte_at, first, first_bytes
from tfthesis.data.image_header import MAX_BYTES, MAX_FRAMES, MAX_PIXELS, PNG_SIGNATURE, check_header
from tfthesis.data.orientation import exif_orientation, upright
from tfthesis.errors import UserError, closest

__all__ = [
    "MODES",
    "DamagedImageError",
    "ImageSource",
    "LazyImage",
    "LazyImages",
    "StoredImage",
    "check_header",
    "check_source",
    "decode",
    "decode_and_resize",
    "decode_batch",
    "read_image",
    "resize",
    "robust_map",
    "upright_size",
]

# Part of every image encoder's fingerprint: raise it when the same bytes give other pixels.
DECODER_VERSION = 1
MODES = ("crop", "stretch", "shorter")
# With mode "shorter" the longer side of the result is at most so many times the shorter one; the middle
# of a more extreme picture is kept. It bounds the memory that one image can ask for.
MAX_ASPECT = 4
# As much of a file is read for its header; most headers are shorter.
_HEAD = 4096


class DamagedImageError(UserError):
    """An image whose bytes are not those that were stored; training leaves it out and lists it."""


class LazyImage(Protocol):
    """An image that is made when it is read; its name says all that it depends on."""

    name: str

    def read_bytes(self) -> bytes:
        """Return the bytes of an image file."""


@runtime_checkable
class StoredImage(LazyImage, Protocol):
    """A lazy image whose first bytes can be read alone; `size` counts them all."""

    size: int

    def read_head(self, count: int) -> bytes:
        """Return the first `count` bytes of the image file, or all of a smaller one."""


ImageSource = Path | bytes | LazyImage


class LazyImages(Protocol):
    """Many images that are objects only while they are asked for."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, row: int) -> ImageSource:
        """Return one of them; an `IndexError` ends an iteration."""

    def take(self, rows: np.ndarray) -> LazyImages:
        """Return the images of `rows`, in their order."""


def read_image(
    source: ImageSource | str,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = MAX_FRAMES,
) -> bytes:
    """Return the bytes of an image after `check_header`; `source` is bytes, a path, or has `read_bytes()`.

    Raises:
        UserError: the file is missing, unreadable, or refused by its header; the message names it.
        DamagedImageError: it is not what was stored, where its source can tell.
    """
    name = "" if isinstance(source, bytes) else f"{source}: "
    try:
        path = Path(source) if isinstance(source, str) else source
        data = path if isinstance(path, bytes) else path.read_bytes()
        check_header(data, max_bytes, max_pixels, max_frames)
    except OSError as error:
        raise UserError(f"{name}{error.strerror or error}") from error
    except UserError as error:
        raise type(error)(f"{name}{error}") from error
    return data


def check_source(source: ImageSource) -> None:
    """Raise what `read_image` would say of the header of `source`, from its first bytes where they suffice."""
    try:
        sound = _sound_head(source)
    except (OSError, UserError):
        # The header may be longer than the first bytes; the whole file decides, and words the error.
        sound = False
    if not sound:
        read_image(source)


def _sound_head(source: ImageSource) -> bool:
    """Return whether the first bytes tell that the header is good; raises where they say it is not, or end in it."""
    if isinstance(source, Path):
        with open(source, "rb") as file:
            head, size = file.read(_HEAD), file.seek(0, 2)
    elif isinstance(source, StoredImage):
        head, size = source.read_head(_HEAD), source.size
    else:
        return False
    # The frames of a GIF count together and lie anywhere in it.
    if size > MAX_BYTES or head.startswith(b"GIF8"):
        return False
    check_header(head)
    return True


def upright_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of the image that `decode` makes of a file, from its header and its EXIF orientation.

    Raises:
        UserError: the header is refused; see `check_header`.
    """
    width, height = check_header(data)
    turned = data.startswith(b"\xff\xd8\xff") and int(exif_orientation(tf.constant(data))) >= 5
    return (width, height) if turned else (height, width)


def decode(data: tf.Tensor) -> tf.Tensor:
    """Return the pixels uint8 `[h, w, 3]` of one image file (scalar string), as the table above says.

    Raises:
        tf.errors.InvalidArgumentError: when run on bytes that are no such image.
    """
    is_png = tf.equal(tf.strings.substr(data, 0, 8), PNG_SIGNATURE)
    is_jpeg = tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff")
    image = tf.case(
        [
            (is_png, lambda: _decode_png(data)),
            (is_jpeg, lambda: upright(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"), data)),
        ],
        default=lambda: _decode_gif_or_bmp(data),
    )
    image.set_shape([None, None, 3])
    return image


def _decode_png(data: tf.Tensor) -> tf.Tensor:
    # Colour types 4 and 6 carry alpha, and 3 (palette) does with a tRNS chunk. All others are decoded to three
    # channels: asked for four, the decoder gives pixels of fewer than 8 bits a wrong alpha.
    colour_type = byte_at(data, 25)
    head = first_bytes(data, 65536)
    transparent_palette = (colour_type == 3) & (first(head, b"tRNS") < first(head, b"IDAT"))
    has_alpha = (colour_type == 4) | (colour_type == 6) | transparent_palette
    return tf.cond(has_alpha, lambda: _over_white(data), lambda: tf.io.decode_png(data, channels=3))


def _over_white(data: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
    alpha = image[..., 3:] / 255.0
    return tf.cast(tf.round(image[..., :3] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def _decode_gif_or_bmp(data: tf.Tensor) -> tf.Tensor:
    is_gif = tf.equal(tf.strings.substr(data, 0, 4), b"GIF8")
    # A BMP of 8 bits is a palette image, whose indices the decoder would return as grey values.
    is_bmp = tf.equal(tf.strings.substr(data, 0, 2), b"BM") & tf.reduce_any(tf.equal(byte_at(data, 28), [24, 32]))
    message = "expected JPEG, PNG, GIF, or BMP of 24 or 32 bits; the file begins with"
    known = tf.debugging.Assert(is_gif | is_bmp, [message, tf.strings.substr(data, 0, 4)])
    with after(known):
        return tf.io.decode_image(tf.identity(data), channels=3, expand_animations=False)


def resize(image: tf.Tensor, height: int, width: int, *, mode: str = "crop", crop_fraction: float = 0.875) -> tf.Tensor:
    """Return `image` `[h, w, 3]` as float32 0..255, `[height, width, 3]` (unknown sides for "shorter").

    Triangle filter, widened when shrinking (the antialiased bilinear of `tf.image.resize`).

    Args:
        mode: "crop" scales so that the shorter side is `height / crop_fraction` and keeps the middle;
            "stretch" changes the aspect ratio; "shorter" scales the shorter side to `height` (equal to
            `width`) and keeps the aspect ratio, up to `MAX_ASPECT`.
        crop_fraction: share of the scaled shorter side that "crop" keeps.

    Raises:
        UserError: an unknown mode, or unequal sides with "shorter".
    """
    if mode not in MODES:
        raise closest(mode, MODES, "resize mode")
    if mode == "shorter" and height != width:
        raise UserError(f"resize mode 'shorter': expected height equal to width, got {height} and {width}")
    source = tf.cast(tf.shape(image)[:2], tf.float32)
    target = tf.constant([height, width], tf.float32)
    if mode == "stretch":
        scaled, size = target, target
    elif mode == "crop":
        scaled, size = tf.round(source * tf.reduce_max(target / crop_fraction / source)), target
    else:
        scaled = tf.maximum(tf.round(source * height / tf.reduce_min(source)), 1.0)
        size = tf.minimum(scaled, MAX_ASPECT * float(height))
    # Scaling and cropping are one operation, so that no large picture is made only to be cut.
    result = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=tf.cast(size, tf.int32),
        scale=scaled / source,
        # Whole pixels: half of one would blur the picture.
        translation=-tf.floor((scaled - size) / 2.0),
        kernel_type="triangle",
        antialias=True,
    )[0]
    sides = [None, None] if mode == "shorter" else [height, width]
    result.set_shape([*sides, 3])
    return result


def decode_and_resize(
    data: tf.Tensor, height: int, width: int, *, mode: str = "crop", crop_fraction: float = 0.875
) -> tf.Tensor:
    """Return one image file (scalar string) as float32 `[height, width, 3]` in 0..255; see `decode`, `resize`."""
    return resize(decode(data), height, width, mode=mode, crop_fraction=crop_fraction)


def robust_map(
    function: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, shape: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return `function` of each image file, float32 `[B, *shape]`, and whether it worked, bool `[B]`.

    A bad image gives a row of zeros and False; the others of its batch are not touched. `function` maps a
    scalar string to float32 `shape`. Works in a SavedModel, and on an empty batch.
    """
    count = tf.shape(images, out_type=tf.int64)[0]
    rows = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), images))
        .map(lambda i, data: (i, function(data)), num_parallel_calls=4, deterministic=True)
        .ignore_errors()
        # One row more than there are images: a batch without a single good image is not empty.
        .concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(shape))))
        .batch(count + 1)
    )
    index, values = rows.get_single_element()
    full = tf.scatter_nd(index[:, None], values, tf.concat([[count + 1], tf.constant(shape, tf.int64)], 0))[:count]
    good = tf.scatter_nd(index[:, None], tf.ones_like(index), [count + 1])[:count] > 0
    full.set_shape([None, *shape])
    good.set_shape([None])
    return full, good


def decode_batch(
    images: tf.Tensor, height: int, width: int, *, mode: str = "crop", crop_fraction: float = 0.875
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return image files (string `[B]`) as float32 `[B, height, width, 3]`, and bool `[B]`, False for bad ones.

    Raises:
        UserError: mode "shorter", whose results differ in size; use `robust_map`.
    """
    if mode == "shorter":
        raise UserError("decode_batch: mode 'shorter' gives images of different sizes; use robust_map")
    return robust_map(
        lambda data: decode_and_resize(data, height, width, mode=mode, crop_fraction=crop_fraction),
        images,
        [height, width, 3],
    )
