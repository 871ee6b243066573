"""Finds methods: the files of `tfthesis/methods` by name, and any other file by its path."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tfthesis.errors import UserError, closest
from tfthesis.method import Method


def method_names() -> list[str]:
    """Return the names of the methods that ship with the library: the files of `tfthesis/methods`."""
    import tfthesis.methods

    return sorted(module.name for module in pkgutil.iter_modules(tfthesis.methods.__path__))


def load_method(name: str) -> Method:
    """Return a method by name, or from a Python file given by its path.

    Raises:
        UserError: no such method or file, the file does not import, or it has no `METHOD`.
    """
    if name.endswith(".py"):
        module = _import_file(Path(name))
    elif name in method_names():
        try:
            module = importlib.import_module(f"tfthesis.methods.{name}")
        except Exception as error:
            raise UserError(f"method {name!r} does not import: {type(error).__name__}: {error}") from error
    else:
        raise closest(name, method_names(), "method")
    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise UserError(f"{name}: expected a module-level METHOD of type tfthesis.method.Method, got {method!r}")
    return method


def _import_file(path: Path):
    if not path.is_file():
        raise UserError(f"no method file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(path.stem, None)
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module


def all_methods() -> Iterator[tuple[str, Method | UserError]]:
    """Yield every shipped method by name; a broken file yields its error instead of raising it."""
    for name in method_names():
        try:
            yield name, load_method(name)
        except UserError as error:
            yield name, error
