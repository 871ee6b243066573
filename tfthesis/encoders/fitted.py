"""Encoders that are fitted to the training captions before they can be opened.

A fit lies in the cache, and a run keeps a copy of it: `keep_fits` makes the copy, `fits_kept_in` lets it be read in
place of the file in the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfthesis.encoders import encoder_class, refuse_unknown
from tfthesis.encoders.cache_folder import default_cache, held_folder
from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.words import utf8
from tfthesis.errors import UserError
from tfthesis.whole_files import write_whole

_log = logging.getLogger(__name__)
_KEPT: ContextVar[Path | None] = ContextVar("folder of kept fits", default=None)


class Fitting:
    """What a fit needs beside the captions; a subclass is a frozen dataclass whose further fields are options.

    Attributes:
        weights: file or name of what the fit starts from, such as word vectors; None takes the encoder's default.
    """

    weights: str | Path | None

    def __init__(self, weights: str | Path | None, **options: Any):
        raise NotImplementedError

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the options."""
        return [field.name for field in dataclasses.fields(cls) if field.name != "weights"]

    def options(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {name: getattr(self, name) for name in self.option_names()}

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the content of `weights` and of the version of the fit."""
        raise NotImplementedError

    def fit(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the arrays, none of objects, that the encoder is opened from.

        Equal input gives equal bits on one machine with one number of threads, which decides the order of sums.
        """
        raise NotImplementedError


class FittedEncoder(Encoder):
    """A text encoder whose weights are a file of what was fitted to the training captions.

    A subclass sets `fitting` and opens what that returns with `read_fitted`.
    """

    modality = "text"
    fitting: ClassVar[type[Fitting]]


def open_fitted(
    name: str,
    texts: Sequence[str],
    weights: str | Path | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    cache: Path | None = None,
) -> Encoder:
    """Return a fitted encoder, fitting it unless the cache holds the same fit.

    Args:
        name: of a `FittedEncoder`.
        texts: the captions of the training split, and of no other.
        weights: what the fit starts from.
        options: of the fit.
        cache: parent of the folder in which the file is kept, under a key of the texts, of the content of `weights`
            and of the options; None takes `default_cache`.

    Raises:
        UserError: an unknown name or option, bad weights or captions, or a cache that cannot be written.
    """
    kind = encoder_class(name)
    if not issubclass(kind, FittedEncoder):
        raise UserError(f"encoder {name!r} needs no fit: open it with open_encoder")
    options = dict(options or {})
    refuse_unknown(name, options, kind.fitting.option_names())
    fitting = kind.fitting(weights, **options)
    path = (cache or default_cache()) / f"{name}-fit-{_key(fitting, texts)[:20]}" / "fitted.npz"
    with held_folder(path.parent):
        if path.is_file() or _kept(path) is not None:
            try:
                return kind(name, path)
            except UserError as error:
                _log.warning("%s; fitting again", error)
        buffer = io.BytesIO()
        np.savez(buffer, **fitting.fit(texts))
        write_whole(path, buffer.getbuffer())
    return kind(name, path)


@contextlib.contextmanager
def fits_kept_in(folder: Path) -> Iterator[None]:
    """Read fits, while the block runs, from the copies that `keep_fits` made in `folder`, where it has them.

    An encoder that is opened from a copy is described as if it had been opened from the file that was copied.
    """
    token = _KEPT.set(folder)
    try:
        yield
    finally:
        _KEPT.reset(token)


def keep_fits(encoders: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Copy the file of every fitted encoder into `folder`, whole or not at all, and remove all else from there.

    Args:
        encoders: descriptions by modality, as `Spec.encoders` has them.
        folder: made if there is something to keep; holds nothing but such copies.

    Raises:
        OSError: the disk is full, or a file is lost.
    """
    kept = set()
    for description in encoders.values():
        if issubclass(encoder_class(description["name"]), FittedEncoder):
            source = Path(description["weights"])
            copy = _copy(folder, source)
            kept.add(copy)
            if not _holds(copy, description):
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(copy, source.read_bytes())
    for file in folder.iterdir() if folder.is_dir() else ():
        if file not in kept:
            file.unlink()


def _copy(folder: Path, path: Path) -> Path:
    # The folder in the cache is named by encoder and key, its file is not.
    return folder / f"{path.parent.name}.npz"


def _kept(path: Path) -> Path | None:
    """Return the copy of the file `path` of the cache, if there is one."""
    folder = _KEPT.get()
    copy = folder and _copy(folder, path)
    return copy if copy and copy.is_file() else None


def _holds(copy: Path, description: Mapping[str, Any]) -> bool:
    if not copy.is_file():
        return False
    try:
        return encoder_class(description["name"])(description["name"], copy).fingerprint == description["fingerprint"]
    except UserError as error:
        _log.warning("%s; copying it again", error)
        return False


def _key(fitting: Fitting, texts: Sequence[str]) -> str:
    parts = [type(fitting).__name__, fitting.source_fingerprint(), fitting.options(), len(texts)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for text in texts:
        digest.update(hashlib.sha256(utf8(text)).digest())
    return digest.hexdigest()


def read_fitted(name: str, weights: str | Path | None, arrays: Sequence[str]) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the path and the named arrays of the file that an encoder was fitted to; see `fits_kept_in`.

    Raises:
        UserError: no or a lost file, or one that is damaged or holds something else.
    """
    if weights is None:
        raise UserError(f"encoder {name!r} is fitted to the training captions first: open it with `open_fitted`")
    path = Path(weights)
    if (copy := _kept(path)) is not None:
        try:
            return path, _read(name, copy, arrays)
        except UserError as error:
            _log.warning("%s; taking %s", error, path)
    if not path.is_file():
        raise UserError(
            f"encoder {name!r}: no file {path}, which was fitted to the training captions. The run directory keeps a "
            "copy, from which `python -m training.export` opens it. The training command that made it fits it again: "
            "to equal bits on one machine with one number of threads, elsewhere up to rounding."
        )
    return path, _read(name, path, arrays)


def _read(name: str, path: Path, arrays: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {array: file[array] for array in arrays}
    except KeyError as error:
        raise UserError(f"encoder {name!r}: {path} is not its file: expected the arrays {arrays}: {error}") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"encoder {name!r}: {path} is damaged or not an .npz file: {error}") from error
