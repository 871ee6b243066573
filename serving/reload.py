"""Other models while the server runs: HandleReloadConfigRequest, and a configuration file that is read again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.config import Catalogue, ModelConfig, configs_of, read_config_file
from serving.errors import ServingError, invalid
from serving.loader import Loader
from serving.store import AVAILABLE, Store
from tfthesis.errors import UserError

# The server's end is noticed so soon by a request that waits for a model.
_CHECK_SECONDS = 0.2

logger = logging.getLogger(__name__)


class Reloader:
    """Puts another configuration in force."""

    def __init__(
        self,
        loader: Loader,
        store: Store,
        *,
        allowed_base_paths: Sequence[Path] = (),
        label_unavailable: bool = False,
    ):
        """Act on `loader` and `store`.

        Args:
            allowed_base_paths: folders below which a new configuration may name models. Whoever reaches the
                port may send one, and a SavedModel is a program.
            label_unavailable: new labels may name versions that are not AVAILABLE.
        """
        self._loader = loader
        self._store = store
        self._allowed = [path.resolve() for path in allowed_base_paths]
        self._label_unavailable = label_unavailable
        # One configuration at a time; a second one waits.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # New models that no configuration has waited for to the end.
        self._awaited: set[str] = set()

    def apply(
        self,
        message: model_server_config_pb2.ModelServerConfig,
        timeout: float | None = None,
        *,
        is_trusted: bool = False,
    ) -> None:
        """Serve exactly the models of `message`; return when each new one has an AVAILABLE version.

        Models that it leaves out are unloaded. It waits at most `timeout` seconds; a model whose folder stays
        empty is waited for without end otherwise. One that was waited for in vain is still new the next time.

        Args:
            message: the configuration.
            timeout: in seconds.
            is_trusted: it may name models in any folder.

        Raises:
            ServingError: INVALID_ARGUMENT, PERMISSION_DENIED: the configuration cannot be used and the old one
                stays. FAILED_PRECONDITION for a label, the error of a load, DEADLINE_EXCEEDED, UNAVAILABLE when
                the server ends: the new one is in force.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            configs = configs_of(message, "ReloadConfigRequest")
        except UserError as error:
            raise invalid(str(error)) from error
        if not is_trusted:
            self._check_base_paths(configs)
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "another configuration is being loaded")
        try:
            self._awaited |= self._loader.replace(Catalogue(lambda: configs, named=True))
            self._awaited &= {config.name for config in configs}
            for name in sorted(self._awaited):
                self._await_available(name, deadline)
                self._awaited.discard(name)
            for config in configs:
                self._store.set_labels(config.name, config.labels, allow_unavailable=self._label_unavailable)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End the waiting of `apply`."""
        self._stop.set()

    def _check_base_paths(self, configs: Sequence[ModelConfig]) -> None:
        for config in configs:
            base_path = config.base_path.resolve()
            if not any(base_path.is_relative_to(allowed) for allowed in self._allowed):
                raise ServingError(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"model {config.name!r}: base_path {config.base_path} lies outside the folders that the server "
                    "was started with; --allowed_base_path allows others",
                )

    def _await_available(self, name: str, deadline: float | None) -> None:
        while not self._store.numbers(name, AVAILABLE):
            failure = self._loader.failure(name)
            if failure is not None:
                raise failure
            if self._stop.is_set():
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is ending")
            if deadline is not None and time.monotonic() > deadline:
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, f"model {name!r} has no available version yet")
            self._store.wait_for_change(_CHECK_SECONDS)


class ConfigFileWatch:
    """Reads a configuration file again every few seconds and applies it when it changed."""

    def __init__(self, path: Path, seconds: float, reloader: Reloader):
        """Look at `path` every `seconds` once started."""
        self._path = path
        self._seconds = seconds
        self._reloader = reloader
        self._last = read_config_file(path)
        self._is_open = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config file", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end."""
        self._stop.set()

    def _run(self) -> None:
        complaint = ""
        while not self._stop.wait(self._seconds):
            try:
                self._look()
                complaint = ""
            except (UserError, ServingError) as error:
                # A file that stays broken is complained of once.
                if str(error) != complaint:
                    logger.error("the models stay as they are: %s", error)
                complaint = str(error)

    def _look(self) -> None:
        message = read_config_file(self._path)
        if message == self._last and not self._is_open:
            return
        # What fails, or has no version yet, is tried again.
        self._last, self._is_open = message, True
        # Whoever can write the file can also start the server.
        self._reloader.apply(message, self._seconds, is_trusted=True)
        self._is_open = False
        logger.info("%s was read again", self._path)
