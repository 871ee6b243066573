"""Weights of a network that is trained once and kept in a cache."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfthesis.encoders.cache_folder import held_folder
from tfthesis.whole_files import write_whole

_log = logging.getLogger(__name__)


def load_or_train(network: keras.Model, path: Path, train: Callable[[], None], what: str) -> None:
    """Set the weights of `network` from a file, or call `train` and write them, whole or not at all.

    One process trains while others that want the same file wait. A damaged file is named and made again.

    Args:
        network: whose weights they are.
        path: an `.npz` file; its folder is made.
        train: changes the weights of `network`.
        what: names the training in the log.

    Raises:
        UserError: the folder cannot be written.
    """
    with held_folder(path.parent):
        if path.is_file() and _load(network, path):
            return
        _log.info("training %s; it is kept in %s", what, path)
        train()
        buffer = io.BytesIO()
        np.savez(buffer, **{f"{n:05d}": np.asarray(weight) for n, weight in enumerate(network.weights)})
        write_whole(path, buffer.getbuffer())


def _load(network: keras.Model, path: Path) -> bool:
    """Set the weights of a network from a file; returns whether it was whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            network.set_weights([file[name] for name in sorted(file.files)])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s); training again", path, error)
        return False
    return True
