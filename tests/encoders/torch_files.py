"""Writes PyTorch archives, honest and hostile, without PyTorch."""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


@dataclasses.dataclass
class Global:
    module: str
    name: str


@dataclasses.dataclass
class Call:
    function: Any
    arguments: tuple


@dataclasses.dataclass
class Persistent:
    pid: Any


@dataclasses.dataclass
class Raw:
    """Pickle operations as they are."""

    operations: bytes


def emit(value: Any) -> bytes:
    """Return the pickle operations that push `value`."""
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return emit(function) + emit(arguments) + b"R"
        case Persistent(pid):
            return emit(pid) + b"Q"
        case Raw(operations):
            return operations
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else pickle.dumps(value, 2)[2:-1]
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
        case dict():
            return b"}(" + b"".join(emit(key) + emit(item) for key, item in value.items()) + b"u"
    raise TypeError(type(value))


def program(value: Any) -> bytes:
    return b"\x80\x02" + emit(value) + b"."


def storage(length: int, *, key: Any = "0", kind: str = "FloatStorage") -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", length))


def tensor(shape, strides, *, offset: int = 0, of: Any = None, length: int = 12) -> Call:
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    hooks = Call(Global("collections", "OrderedDict"), ())
    return Call(rebuild, (of or storage(length), offset, tuple(shape), tuple(strides), False, hooks))


def write_zip(path: Path, state: Any, storages: dict[str, bytes], *, root: str = "archive", compression=0) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", state if isinstance(state, bytes) else program(state))
        for key, data in storages.items():
            archive.writestr(f"{root}/data/{key}", data)
    return path


def write_legacy(path: Path, state: Any, storages: dict[str, tuple[int, bytes]]) -> Path:
    buffer = io.BytesIO()
    for value in (MAGIC, 1001, {"little_endian": True}):
        buffer.write(pickle.dumps(value, 2))
    buffer.write(state if isinstance(state, bytes) else program(state))
    buffer.write(pickle.dumps(list(storages), 2))
    for length, data in storages.values():
        buffer.write(struct.pack("<q", length) + data)
    path.write_bytes(buffer.getvalue())
    return path


def write_state(path: Path, arrays: dict[str, np.ndarray], *, legacy: bool = False) -> Path:
    """Write float32 arrays as a state dict, each in a storage of its own."""
    state, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        array = np.ascontiguousarray(array, np.float32)
        strides = [stride // array.itemsize for stride in array.strides]
        state[name] = tensor(array.shape, strides, of=storage(array.size, key=str(number)))
        storages[str(number)] = array.tobytes()
    if legacy:
        return write_legacy(path, state, {key: (len(data) // 4, data) for key, data in storages.items()})
    return write_zip(path, state, storages)
