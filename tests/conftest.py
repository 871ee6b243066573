"""What every test shares: quiet CPU-only TensorFlow, real data, slow checks, and a count of what was skipped."""

from __future__ import annotations

import collections
import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

DATA_VARIABLE = "TFTHESIS_DATA"
LOGICAL_CPUS = 4
SLOW = pytest.StashKey[int]()

# Set before any test module imports TensorFlow, and inherited by the processes that tests start.
os.environ.update(
    CUDA_VISIBLE_DEVICES="-1",
    KERAS_BACKEND="tensorflow",
    MPLBACKEND="Agg",
    TF_CPP_MIN_LOG_LEVEL="3",
)
os.environ.pop("TF_CONFIG", None)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=30)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")
    # Here, since pytest reads the options of this conftest.py alone before it looks for tests.
    group = parser.getgroup("blackbox", "the server that tests/blackbox asks")
    group.addoption("--server-command", help="starts it, given flags of tensorflow_model_server (serving.server)")
    group.addoption("--server-address", metavar="HOST:GRPC_PORT:REST_PORT", help="it runs already, see --server-models")
    group.addoption("--server-models", metavar="DIR", help="what tests/blackbox/models.py wrote and it serves")


def pytest_configure(config: pytest.Config) -> None:
    """Keep feature caches of the tests away from the user's own."""
    folder = tempfile.TemporaryDirectory(prefix="tfthesis-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["TFTHESIS_CACHE"] = folder.name


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests unless asked for; split the CPU while TensorFlow still allows it.

    Where several processes share the tests, those of a file stay together: they share what it prepares.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
    if not config.getoption("--run-slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.stash[SLOW] = len(slow)
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    if any("logical_devices" in getattr(item, "fixturenames", ()) for item in items):
        _split_cpu()


def _split_cpu() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * LOGICAL_CPUS)


@pytest.fixture(scope="session")
def logical_devices() -> list[str]:
    """Names of four logical CPUs, for strategies with several replicas."""
    import tensorflow as tf

    return [f"CPU:{i}" for i in range(len(tf.config.list_logical_devices("CPU")))]


@pytest.fixture(scope="session")
def real_data(pytestconfig: pytest.Config) -> Path:
    """Folder of real datasets, named by TFTHESIS_DATA; without the variable the test is skipped."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} is not set: no real data")
    folder = (pytestconfig.invocation_params.dir / value).resolve()
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={value}: no such folder ({folder})")
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that shares the tests out how many were left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["slow"] = session.config.stash.get(SLOW, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the number of tests that a process left out; each of them saw the same ones."""
    node.config.stash[SLOW] = getattr(node, "workeroutput", {}).get("slow", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many tests did not run, and why."""
    reasons = collections.Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    reasons["slow, run with --run-slow"] = config.stash.get(SLOW, 0)
    terminalreporter.write_line(f"skipped: {sum(reasons.values())}")
    for reason, count in sorted(reasons.items()):
        if count:
            terminalreporter.write_line(f"  {count} x {reason}")
