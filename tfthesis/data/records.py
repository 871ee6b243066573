"""Images inside TFRecord files, found by their place so that they can be read in any order.

A record is its length (8 bytes), the checksum of the length (4), the payload, and the checksum of the payload (4). The
payload is a `tf.train.Example`, which is walked field by field: the pixels, most of its bytes, are stepped over.
"""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.crc32c import masked_crc32c
from tfthesis.data.images import DamagedImageError
from tfthesis.errors import UserError

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_BLOCK = 4096
# Wire types of protocol buffers, and the fields of tf.train.Feature.
_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
BYTES, INTEGERS = 1, 3

#: What is known of an image in a record: which file, where the payload begins and how long it is, its stored checksum,
#: where the image begins and how long it is. 40 bytes.
PLACE = np.dtype(
    [("file", "i4"), ("crc", "u4"), ("start", "i8"), ("length", "i8"), ("image", "i8"), ("size", "i8")], align=True
)


class MalformedExampleError(Exception):
    """A payload that is no `tf.train.Example`, or not the one that was expected."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordImage:
    """An image in a record, a `LazyImage`; see `PLACE` for the numbers."""

    path: Path
    crc: int
    start: int
    length: int
    image: int
    size: int

    @property
    def name(self) -> str:
        """File, place and checksum: another record has another name."""
        return f"{self.path.name}:{self.start}:{self.length}:{self.crc:08x}"

    def __str__(self) -> str:
        return f"{self.path}, record at byte {self.start - _HEADER.size}"

    def read_bytes(self) -> bytes:
        """Return the bytes of the image.

        Raises:
            DamagedImageError: the file ends inside the record, or its checksum does not fit.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            payload = file.read(self.length)
        if len(payload) < self.length:
            raise DamagedImageError(f"the file ends inside it; expected {self.length} bytes, got {len(payload)}")
        if masked_crc32c(payload) != self.crc:
            raise DamagedImageError("its checksum does not fit, it is damaged")
        first = self.image - self.start
        return payload[first : first + self.size]

    def read_head(self, count: int) -> bytes:
        """Return the first `count` bytes of the image, or all of a smaller one, whatever the checksum."""
        with open(self.path, "rb") as file:
            file.seek(self.image)
            return file.read(min(count, self.size))


class RecordImages(Sequence):
    """Images in records; `LazyImages` that cost 40 bytes each.

    Args:
        paths: of the files.
        places: `[N]` of `PLACE`, whose `file` is a place in `paths`.
    """

    def __init__(self, paths: Sequence[Path], places: np.ndarray):
        self.paths, self.places = paths, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> RecordImage:
        file, *rest = self.places[row].item()
        return RecordImage(self.paths[file], *rest)

    def take(self, rows: np.ndarray) -> RecordImages:
        """Return the images of `rows`, in their order."""
        return RecordImages(self.paths, self.places[rows])


class _Window:
    """The bytes of a file around the place that is being read."""

    def __init__(self, descriptor: int):
        self.descriptor, self.base, self.block = descriptor, 0, b""

    def read(self, position: int, count: int) -> bytes:
        """Return `count` bytes from `position` on, fewer at the end of the file."""
        first = position - self.base
        if first < 0 or first + count > len(self.block):
            self.base, self.block = position, os.pread(self.descriptor, max(count, _BLOCK), position)
            first = 0
        return self.block[first : first + count]

    def varint(self, position: int) -> tuple[int, int]:
        """Return a number of the variable-length encoding, and where it ends."""
        value = shift = 0
        for byte in self.read(position, 10):
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                return value, position
        raise MalformedExampleError("no tf.train.Example: a number does not end")


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """The first value of a feature: its kind (`BYTES`, `INTEGERS`) and, from `start` on, its `size` bytes."""

    kind: int
    start: int
    size: int


class Record:
    """One record of a file that is being walked: where its payload lies, and what is in it on demand."""

    def __init__(self, window: _Window, start: int, length: int):
        self._window, self.start, self.length = window, start, length

    @property
    def crc(self) -> int:
        """The stored checksum of the payload, which is not compared here.

        It lies beside the next record, so that reading it last saves a jump in the file.
        """
        (value,) = _FOOTER.unpack(self._window.read(self.start + self.length, _FOOTER.size))
        return value

    def features(self, wanted: Collection[bytes]) -> tuple[dict[bytes, Value], list[bytes]]:
        """Return the `wanted` features that hold a value, by key, and the keys of all features.

        Raises:
            MalformedExampleError: the payload is no Example.
        """
        found, keys = {}, []
        for entry, stop in self._sized(self.start, self.start + self.length):
            for first, end in self._sized(entry, stop):
                parts = {number: (a, b) for number, wire, a, b in self._fields(first, end) if wire == _SIZED}
                if 1 not in parts or 2 not in parts:
                    raise MalformedExampleError("no tf.train.Example: a feature lacks its key or its value")
                key = self._window.read(parts[1][0], parts[1][1] - parts[1][0])
                keys.append(key)
                if key in wanted and (value := self._value(*parts[2])) is not None:
                    found[key] = value
        return found, keys

    def bytes_of(self, value: Value) -> bytes:
        """Return a value of the kind `BYTES`."""
        return self._window.read(value.start, value.size)

    def integer_of(self, value: Value) -> int:
        """Return a value of the kind `INTEGERS`."""
        number, _ = self._window.varint(value.start)
        return number - (1 << 64) if number >> 63 else number

    def _value(self, start: int, end: int) -> Value | None:
        for kind, wire, first, stop in self._fields(start, end):
            if wire == _SIZED:
                for number, _, a, b in self._fields(first, stop):
                    if number == 1 and (b > a or kind == BYTES):
                        return Value(kind, a, b - a)
        return None

    def _sized(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where each part of the field 1 begins and ends."""
        for number, wire, first, stop in self._fields(start, end):
            if number == 1 and wire == _SIZED:
                yield first, stop

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, wire type, begin and end of each field of a message."""
        window = self._window
        while position < end:
            tag, position = window.varint(position)
            wire = tag & 7
            if wire == _SIZED:
                size, position = window.varint(position)
                stop = position + size
            elif wire == _VARINT:
                stop = window.varint(position)[1]
            elif wire in (_FIXED32, _FIXED64):
                stop = position + (8 if wire == _FIXED64 else 4)
            else:
                raise MalformedExampleError(f"no tf.train.Example: an unknown wire type {wire}")
            if stop > end:
                raise MalformedExampleError("no tf.train.Example: a field is longer than what it is part of")
            yield tag >> 3, wire, position, stop
            position = stop


def walk(path: Path) -> Iterator[Record]:
    """Yield the records of a file in order; payloads are read as far as the features asked for.

    A record may be asked for its features until the next one is taken.

    Raises:
        UserError: the file cannot be opened, is compressed, ends inside a record, or a length does not fit its
            checksum, behind which no record can be found.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _walk(path, file)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def _walk(path: Path, file: io.RawIOBase) -> Iterator[Record]:
    end, position, window = file.seek(0, 2), 0, _Window(file.fileno())
    while position < end:
        header = window.read(position, _HEADER.size)
        start = position + _HEADER.size
        if len(header) == _HEADER.size:
            length, crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != crc:
                hint = "it is compressed, unpack it" if header.startswith(b"\x1f\x8b") else "it is damaged"
                raise UserError(f"{path}: no TFRecord at byte {position}: {hint}")
            position = start + length + _FOOTER.size
        if len(header) < _HEADER.size or position > end:
            begin = start - _HEADER.size
            raise UserError(f"{path}: it ends inside the record that begins at byte {begin}; it is cut off")
        yield Record(window, start, length)
