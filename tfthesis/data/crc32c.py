"""CRC-32C, the checksum of TFRecord files, over many blocks of a record at once."""

from __future__ import annotations

import functools
import itertools

import numpy as np

_REFLECTED = 0x82F63B78
# Blocks are worked on side by side, two bytes at a time: longer ones take more rounds, shorter ones more joining.
_BLOCK = 512
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes) -> int:
    """Return the checksum of `data` (Castagnoli's polynomial, reflected, as in RFC 3720)."""
    head = len(data) % _BLOCK
    state = 0xFFFFFFFF
    table = _byte_table()
    for byte in data[:head]:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    if head < len(data):
        state = _blocks(np.frombuffer(data, np.uint8, offset=head), state)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """Return the checksum as TFRecord files store it: rotated, and a constant added."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _blocks(data: np.ndarray, state: int) -> int:
    """Return the state after whole blocks, uint8 `[n * _BLOCK]`, that begin with `state`."""
    words = data.view("<u2").reshape(-1, _BLOCK // 2).T.astype(np.intp, order="C")
    states = np.zeros(words.shape[1], np.intp)
    states[0] = state
    table = _word_table()
    for word in words:
        states = table[(states ^ word) & 0xFFFF] ^ (states >> 16)
    # The state of a block that others follow is moved past them; zeros in front of a message change nothing.
    for level in itertools.count():
        if len(states) == 1:
            return int(states[0])
        if len(states) % 2:
            states = np.concatenate([[0], states])
        states = _shift(states[0::2], level) ^ states[1::2]


@functools.cache
def _byte_table() -> list[int]:
    return [functools.reduce(lambda s, _: (s >> 1) ^ (_REFLECTED * (s & 1)), range(8), byte) for byte in range(256)]


@functools.cache
def _word_table() -> np.ndarray:
    """Return the state after two bytes, `[65536]`."""
    table, words = np.array(_byte_table(), np.intp), np.arange(65536)
    first = table[words & 0xFF] ^ (words >> 8)
    return table[first & 0xFF] ^ (first >> 8)


def _shift(states: np.ndarray, level: int) -> np.ndarray:
    """Return `states` after `_BLOCK * 2**level` zero bytes."""
    low, high = _shift_tables(level)
    return low[states & 0xFFFF] ^ high[states >> 16]


@functools.cache
def _shift_tables(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_shift` makes of the lower and the upper half of a state, each `[65536]`."""
    bits = 1 << np.arange(32, dtype=np.intp)
    if level:
        moved = _shift(_shift(bits, level - 1), level - 1)
    else:
        moved, table = bits, _word_table()
        for _ in range(_BLOCK // 2):
            moved = table[moved & 0xFFFF] ^ (moved >> 16)
    return _linear(moved[:16]), _linear(moved[16:])


def _linear(images: np.ndarray) -> np.ndarray:
    """Return the exclusive or of the `images` of all bits that are set, for every number of 16 bits."""
    table = np.zeros(1, np.intp)
    for image in images:
        table = np.concatenate([table, table ^ image])
    return table
