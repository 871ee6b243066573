"""Reader of published PyTorch weights into numpy arrays, without PyTorch and without trusting the file.

A torch file holds a pickle, and a pickle is a program. This is the only unpickler of the library. It can name nothing
but `OrderedDict`, the function that rebuilds a tensor and the storage types, all replaced by inert stand-ins, so that a
hostile file can do no more than fail with a `UserError`. Nothing is extracted to disk, no name inside the archive is
used as a path, and the numbers held in memory are at most those in the file. The time grows with the length of the
pickle and not with its square: no operation copies or hashes what another could hand it again at little cost.

Both layouts are read: the zip archive (PyTorch 1.6 and later) and the older sequence of pickles.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfthesis.errors import UserError

MAX_FILE_BYTES = 4 << 30
MAX_PICKLE_BYTES = 16 << 20
MAX_AXES = 32
# Of more than 32 bits. Old optimizers used them as keys; any number of them could have one hash.
MAX_LONG_INTEGERS = 10_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


class _Storage(NamedTuple):
    """Where the numbers of a tensor lie in the file."""

    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StorageType(NamedTuple):
    """Stand-in for a class such as `torch.FloatStorage`; it cannot be called."""

    dtype: str


class _RebuildTensor:
    """Stand-in for `torch._utils._rebuild_tensor_v2`; without a `__dict__`, so that a pickle cannot alter it."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None) -> _Tensor:
        counts = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(count) is int and count >= 0 for count in counts):
            raise pickle.UnpicklingError("a tensor needs a storage and non-negative integers")
        if len(shape) != len(strides) or len(shape) > MAX_AXES:
            raise pickle.UnpicklingError(f"a tensor with {len(shape)} axes and {len(strides)} strides")
        size = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if size > storage.length or (size and last >= storage.length):
            raise pickle.UnpicklingError(f"a tensor of {size} numbers does not fit its storage of {storage.length}")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _StateDict(OrderedDict):
    """What `OrderedDict` makes, without the attributes (`_metadata`) that PyTorch gives a state dict."""

    def __setstate__(self, state: Any) -> None:
        """Leave them out: to copy them again and again from one dict would take quadratic time."""


class _MakeStateDict:
    """Stand-in for `OrderedDict`; without a `__dict__`, so that a pickle cannot alter it."""

    __slots__ = ()

    def __call__(self, pairs: Any = None) -> _StateDict:
        """Return an ordered dict, empty or, as Python 2 wrote them, of a list of pairs.

        The list is emptied, so that a pickle that hands it over again and again has each pair copied once.
        """
        if pairs is None:
            return _StateDict()
        if type(pairs) is not list or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            raise pickle.UnpicklingError("an ordered dict of something other than a list of pairs")
        if not all(type(key) is str for key, _ in pairs):
            raise pickle.UnpicklingError("an ordered dict with a key that is no text")
        made = _StateDict(pairs)
        pairs.clear()
        return made


ALLOWED_GLOBALS = {
    ("collections", "OrderedDict"): _MakeStateDict(),
    # Before PyTorch 0.4 it took the first four arguments only.
    **{("torch._utils", name): _RebuildTensor() for name in ("_rebuild_tensor", "_rebuild_tensor_v2")},
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()},
}
# What PyTorch writes for a dict of tensors. INST, OBJ, NEWOBJ and the extension registry are not needed. BUILD gives a
# state dict its attributes, which are left out; no object that a pickle can reach here has any to set. Python 2 wrote
# its strings as BINSTRING and SHORT_BINSTRING.
ALLOWED_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
}
# What may be the key of a dict. The hash of a nested tuple takes time, and the stack of the process, without bound.
KEYS = {"BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"}


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'[:80]!r}, which is not part of a tensor")
        return ALLOWED_GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype=dtype), str(key), str(), int(length), *rest) if (
                re.fullmatch("[0-9]{1,20}", key) and length >= 0 and rest in ([], [None])
            ):
                return _Storage(key, dtype, length)
        raise pickle.UnpicklingError("a reference that does not describe a storage")


def read_torch_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors of a saved `state_dict` by name, as read-only arrays.

    Raises:
        UserError: no such file, or it is anything but a plain archive of dense tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights: no file {path}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"weights {path}: {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            tensors, storages = read(file)
        return {name: _array(tensor, storages[tensor.storage]) for name, tensor in tensors.items()}
    except Exception as error:  # a damaged or hostile pickle fails in arbitrary ways; all of them mean this
        message = f"weights {path}: not a plain PyTorch archive of tensors: {type(error).__name__}: {error}"
        raise UserError(message) from error


def _unpickle(data: bytes) -> tuple[Any, int]:
    """Return the first object pickled in `data`, and where its pickle ends."""
    stream = io.BytesIO(data)
    _check_operations(stream)
    return _TensorUnpickler(io.BytesIO(data[: stream.tell()])).load(), stream.tell()


def _check_operations(stream: BinaryIO) -> None:
    """Read a pickle up to its end without running it; what lies on its stack is known by the operation that put it.

    Raises:
        pickle.UnpicklingError: it uses an operation that tensors do not need, or one that would exhaust memory or time.
    """
    stack, memo, long_integers = [], {}, 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        name = operation.name
        if name not in ALLOWED_OPCODES:
            raise pickle.UnpicklingError(f"it uses the pickle operation {name}")
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            slot = len(memo) if name == "MEMOIZE" else argument
            # The unpickler allocates as many slots as the largest number it is told.
            if slot > count + 255:
                raise pickle.UnpicklingError(f"it numbers an object {slot} after {count} operations")
            memo[slot] = stack[-1]
            continue
        if name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
            continue
        long_integers += name == "LONG1"
        taken = _taken(stack, operation)
        keys = {"SETITEM": taken[1:2], "SETITEMS": taken[2::2]}.get(name, [])
        if long_integers > MAX_LONG_INTEGERS or not KEYS.issuperset(keys):
            raise pickle.UnpicklingError("it has keys that are neither texts nor numbers, or too many long numbers")
        stack += [name] * len(operation.stack_after)


def _taken(stack: list[str], operation: pickletools.OpcodeInfo) -> list[str]:
    """Take from the stack what an operation takes, and return it, lowest first."""
    wanted, taken = list(operation.stack_before), []
    if pickletools.markobject in wanted:
        while not taken or taken[-1] != "MARK":
            taken.append(stack.pop())
        wanted = wanted[: wanted.index(pickletools.markobject)]
    taken += [stack.pop() for _ in wanted]
    return taken[::-1]


def _read_zip(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[_Storage, np.ndarray]]:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        roots = [name.removesuffix("/data.pkl") for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise ValueError(f"expected one data.pkl, got {len(roots)}")

        def read(name: str, limit: int) -> bytes:
            record = records[f"{roots[0]}/{name}"]
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > limit:
                raise ValueError(f"{name}: compressed, or its {record.file_size} bytes are over the limit of {limit}")
            return archive.read(record)

        if f"{roots[0]}/byteorder" in records and read("byteorder", 16) != b"little":
            raise ValueError("not little-endian")
        state, _ = _unpickle(read("data.pkl", MAX_PICKLE_BYTES))
        tensors = _tensors(state)
        wanted = {tensor.storage for tensor in tensors.values()}
        left = file.seek(0, io.SEEK_END)
        if sum(map(_size, wanted)) > left:
            raise ValueError(f"its storages are larger than the {left} bytes of the file")
        return tensors, {storage: _numbers(read(f"data/{storage.key}", _size(storage)), storage) for storage in wanted}


def _read_legacy(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[_Storage, np.ndarray]]:
    def read_object() -> Any:
        start = file.tell()
        value, length = _unpickle(file.read(MAX_PICKLE_BYTES))
        file.seek(start + length)
        return value

    if (read_object(), read_object()) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("neither a zip archive nor PyTorch's older format")
    if read_object()["little_endian"] is not True:
        raise ValueError("not little-endian")
    tensors = _tensors(read_object())
    wanted = {tensor.storage for tensor in tensors.values()}
    by_key = {storage.key: storage for storage in wanted}
    if len(by_key) < len(wanted):
        raise ValueError("two tensors give one storage different lengths or types")
    storages = {}
    for key in read_object():
        if not isinstance(key, str):
            raise ValueError(f"the key of a storage: expected text, got {type(key).__name__}")
        storage = by_key[key]
        length = int.from_bytes(file.read(8), "little")
        here, end = file.tell(), file.seek(0, io.SEEK_END)
        file.seek(here)
        if length != storage.length or _size(storage) > end - here:
            raise ValueError(f"storage {key}: expected {storage.length} numbers, got {length} in {end - here} bytes")
        storages[storage] = _numbers(file.read(_size(storage)), storage)
    return tensors, storages


def _size(storage: _Storage) -> int:
    return storage.length * np.dtype(storage.dtype).itemsize


def _numbers(data: bytes, storage: _Storage) -> np.ndarray:
    if len(data) != _size(storage):
        raise ValueError(f"storage {storage.key}: expected {_size(storage)} bytes, got {len(data)}")
    return np.frombuffer(data, storage.dtype, storage.length)


def _tensors(state: Any) -> dict[str, _Tensor]:
    """Return the state dict's tensors; training checkpoints keep theirs under "state_dict"."""
    if not isinstance(state, dict):
        raise ValueError(f"expected a dict of tensors, got {type(state).__name__}")
    # dict.items reads the entries themselves, whatever attributes the pickle gave its dict.
    entries = dict(dict.items(state))
    inner = entries.get("state_dict")
    if isinstance(inner, dict):
        entries = dict(dict.items(inner))
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"entry {name if isinstance(name, str) else type(name).__name__!r:.80}: not a tensor")
    return entries


def _array(tensor: _Tensor, data: np.ndarray) -> np.ndarray:
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides, writeable=False)
