"""The toy method, loaded from its file: the folder is no package."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

TOY = Path(__file__).with_name("toy.py")
ROOT = TOY.parents[2]


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy.py."""
    spec = importlib.util.spec_from_file_location("toy", TOY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def start_toy() -> Callable[..., subprocess.Popen]:
    """Starts a Python file that uses the toy, or toy.py itself with options, in a process of its own."""

    def start(argument: str, *, file: Path = TOY, **environment: str) -> subprocess.Popen:
        paths = os.pathsep.join([str(ROOT), str(TOY.parent)])
        return subprocess.Popen(
            [sys.executable, file, argument],
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def agree() -> Callable[[Any, Any], bool]:
    """A function that says whether two models agree bit for bit, counters and statistics included."""

    def same(model: Any, other: Any) -> bool:
        pairs = zip(model.variables, other.variables, strict=True)
        return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)

    return same
