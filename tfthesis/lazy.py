"""Names that import their module on first use.

Listing the methods must answer at once, and importing TensorFlow takes seconds. A method file therefore
names `keras`, `tf` and the packages of this library from here; nothing heavy is loaded until a function
of the method runs.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module that is imported when an attribute of it is first read."""

    def __init__(self, name: str):
        super().__init__(name)
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = importlib.import_module(self.__name__)
        return getattr(self._module, attribute)


keras = LazyModule("keras")
tf = LazyModule("tensorflow")


def snake_case(name: str) -> str:
    """Return the file name of a class: `L2Normalization` -> `l2_normalization`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def exporting(package: str, path: list[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose files each hold one public class.

    `layers.LayerFusion` imports `layers/layer_fusion.py`; no list is kept by hand, so a new file is
    found without an edit to the package.
    """

    def files() -> list[str]:
        return [module.name for module in pkgutil.iter_modules(path)]

    def get(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        file = snake_case(name)
        if file not in files():
            raise AttributeError(f"module {package!r} has no attribute {name!r}: no file {file}.py")
        module = importlib.import_module(f"{package}.{file}")
        return module if name == file else getattr(module, name)

    return get, files
