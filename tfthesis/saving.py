"""Saved models, read back wherever they were made."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfthesis.lazy import keras

_PACKAGE = __name__.partition(".")[0]


def load_model(path: str | Path) -> keras.Model:
    """Return the model of a `.keras` file, not compiled, read in safe mode.

    Keras finds a custom class only once its module is imported; those of this library that the file names are.

    Raises:
        ValueError: damaged or no `.keras` file, or a class of it is neither Keras's nor this library's.
        OSError: it is missing or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path}: damaged, or no .keras file: {error}") from error
    for name in sorted(set(_modules(config))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"{path}: saved by another version: there is no module {name}") from error
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _modules(config: Any) -> Iterator[str]:
    """Yield the modules of this library that a saved configuration names."""
    if isinstance(config, dict):
        name = config.get("module")
        if isinstance(name, str) and name.startswith(f"{_PACKAGE}."):
            yield name
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _modules(part)
