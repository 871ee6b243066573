"""Encoders that are fitted to the training captions before they can be opened."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfthesis.encoders import encoder_class, refuse_unknown
from tfthesis.encoders.cache_folder import default_cache, held_folder
from tfthesis.encoders.encoder import Encoder
from tfthesis.encoders.feature_shards import write_whole
from tfthesis.encoders.words import utf8
from tfthesis.errors import UserError

_log = logging.getLogger(__name__)


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
        if path.is_file():
            try:
                return kind(name, path)
            except UserError as error:
                _log.warning("%s; fitting again", error)
        buffer = io.BytesIO()
        np.savez(buffer, **fitting.fit(texts))
        write_whole(path, buffer.getbuffer())
    return kind(name, path)


def _key(fitting: Fitting, texts: Sequence[str]) -> str:
    parts = [type(fitting).__name__, fitting.source_fingerprint(), fitting.options(), len(texts)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for text in texts:
        digest.update(hashlib.sha256(utf8(text)).digest())
    return digest.hexdigest()


def read_fitted(name: str, weights: str | Path | None, arrays: Sequence[str]) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the path and the named arrays of the file that an encoder was fitted to.

    Raises:
        UserError: no or a lost file, or one that is damaged or holds something else.
    """
    if weights is None:
        raise UserError(f"encoder {name!r} is fitted to the training captions first: open it with `open_fitted`")
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"encoder {name!r}: no file {path}, which was fitted to the training captions. The training command that "
            "made it makes the same again."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {array: file[array] for array in arrays}
    except KeyError as error:
        raise UserError(f"encoder {name!r}: {path} is not its file: expected the arrays {arrays}: {error}") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"encoder {name!r}: {path} is damaged or not an .npz file: {error}") from error
    return path, found
