"""What an image file says of itself before anything is decoded.

A few bytes can claim a picture of many gigabytes. Readers and servers therefore look at the header first
and refuse what no decoder should be asked to open. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from tfthesis.errors import UserError

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_FRAMES = 256

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG: SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}


def check_header(
    data: bytes, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS, max_frames: int = MAX_FRAMES
) -> tuple[int, int]:
    """Return (width, height) in stored pixels of a JPEG, PNG, GIF or BMP file, read from its header alone.

    The frames of a GIF count together, because its decoder unpacks them all.

    Raises:
        UserError: the file is empty, of another kind, cut inside its header, or above a limit.
    """
    if not data:
        raise UserError("image: expected JPEG, PNG, GIF or BMP bytes, got an empty file")
    if len(data) > max_bytes:
        raise UserError(f"image: expected at most {max_bytes} bytes, got {len(data)}; scale it down")
    try:
        width, height, frames = _read(data, max_frames)
    except (struct.error, IndexError) as error:
        raise UserError("image: the file ends inside its header; it is probably cut off") from error
    pixels = width * height + sum(w * h for w, h in frames)
    if width < 1 or height < 1:
        raise UserError(f"image: expected at least 1 x 1 pixels, got {width} x {height}")
    if len(frames) > max_frames:
        raise UserError(f"image: expected at most {max_frames} frames, got more")
    if pixels > max_pixels:
        raise UserError(
            f"image: expected at most {max_pixels} pixels, got {pixels} ({width} x {height}); scale it down"
        )
    return width, height


def _read(data: bytes, max_frames: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Return width, height, and the sizes of the frames of a GIF (none for the others)."""
    if data.startswith(b"\xff\xd8\xff"):
        return (*_jpeg_size(data), [])
    if data.startswith(PNG_SIGNATURE):
        return (*struct.unpack(">II", data[16:24]), [])
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif_size(data, max_frames)
    if data.startswith(b"BM"):
        return (*_bmp_size(data), [])
    raise UserError(f"image: expected JPEG, PNG, GIF or BMP, got a file that begins with {data[:8]!r}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes before a marker
            position += 1
        if data[position] != 0xFF or data[position + 1] in (0xD9, 0xDA):
            raise UserError("image: a JPEG without a frame header; it is damaged")
        marker = data[position + 1]
        if marker in _JPEG_BARE:
            position += 2
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]


def _bmp_size(data: bytes) -> tuple[int, int]:
    width, height, _, bits = struct.unpack("<iiHH", data[18:30])
    if bits not in (24, 32):
        raise UserError(f"image: expected a BMP of 24 or 32 bits a pixel, got {bits}; store it as PNG")
    return width, abs(height)


def _gif_size(data: bytes, max_frames: int) -> tuple[int, int, list[tuple[int, int]]]:
    frames = list(itertools.islice(_gif_frames(data), max_frames + 1))
    if not frames:
        raise UserError("image: a GIF without a frame; it is probably cut off")
    return (*struct.unpack("<HH", data[6:10]), frames)


def _gif_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of each frame; a frame may be larger than the picture, and its decoder would unpack it."""
    position = 13 + _colour_table(data[10])
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x2C:
            yield struct.unpack("<HH", data[position + 5 : position + 9])
            position = _skip_blocks(data, position + 11 + _colour_table(data[position + 9]))
        elif data[position] == 0x21:
            position = _skip_blocks(data, position + 2)
        else:
            raise UserError(f"image: an unknown GIF block {data[position]:#x}; the file is damaged")


def _colour_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += data[position] + 1
    return position + 1
