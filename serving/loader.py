"""The thread that follows the model folders on disk: loads what is new, drops what is gone."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import grpc

from serving.config import Catalogue, ModelConfig
from serving.errors import ServingError
from serving.servable import Limits, Servable
from serving.store import AVAILABLE, END, LOADING, UNLOADING, Store
from serving.versions import CopyWatch, Look, Snapshot, list_versions, take_snapshot

# Time until the second look at a copy that may still be running, where the folders are looked at only once.
_SETTLE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class StartError(Exception):
    """A model that has to be there when the server starts does not load."""


@dataclasses.dataclass
class _Model:
    """What the loader remembers of a model between two looks at its folder."""

    config: ModelConfig
    copies: CopyWatch = dataclasses.field(default_factory=CopyWatch)
    failed: dict[int, tuple[Snapshot, ServingError]] = dataclasses.field(default_factory=dict)
    settling: bool = False
    complaint: str = ""

    def complain(self, message: str) -> None:
        """Log `message` unless it was the last complaint already; an empty one ends the complaint."""
        if message and message != self.complaint:
            logger.warning("model %s: %s", self.config.name, message)
        self.complaint = message


class Loader:
    """Keeps a `Store` in step with a `Catalogue`, in one thread of its own.

    A new version is loaded and warmed up before the old one is retired. A version that fails is tried again
    when its files change; until then the old one stays.
    """

    def __init__(self, catalogue: Catalogue, store: Store, limits: Limits, poll_seconds: float):
        """Follow `catalogue` every `poll_seconds`; 0 looks once, at the start."""
        self._catalogue = catalogue
        self._store = store
        self._limits = limits
        self._poll_seconds = poll_seconds
        self._models: dict[str, _Model] = {}
        self._ready: bool | StartError = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """End the thread and return whether it ended; it cannot while a model is loading."""
        self._stop.set()
        self._store.idle.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_ready(self) -> bool:
        """Return whether the ports may open: every model has an AVAILABLE version, and there is a model at all.

        Models that were found on disk, rather than named, may also have failed.

        Raises:
            StartError: a model that was named failed, or all that were found did.
        """
        if isinstance(self._ready, StartError):
            raise self._ready
        return self._ready

    def look(self) -> None:
        """Look at the disk once, load and retire what follows from it, and close what nobody uses."""
        try:
            configs = {config.name: config for config in self._catalogue.models()}
        except OSError as error:
            logger.error("the model folders cannot be read: %s", error)
            configs = {name: model.config for name, model in self._models.items()}
        for name in set(self._models) - set(configs):
            self._retire(name, self._store.numbers(name, AVAILABLE))
            del self._models[name]
        for name, config in configs.items():
            self._follow(self._models.setdefault(name, _Model(config)))
        self._close_idle()
        self._ready = self._judge_start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:
                logger.exception("looking for model versions failed")
            if self._poll_seconds:
                self._close_idle_until(time.monotonic() + self._poll_seconds)
            elif any(model.settling for model in self._models.values()):
                self._close_idle_until(time.monotonic() + _SETTLE_SECONDS)
            else:
                return

    def _close_idle_until(self, deadline: float) -> None:
        while not self._stop.is_set() and self._store.idle.wait(max(0.0, deadline - time.monotonic())):
            self._close_idle()

    def _follow(self, model: _Model) -> None:
        """Bring the versions of one model in memory in step with its folder."""
        name, policy = model.config.name, model.config.policy
        try:
            present = list_versions(model.config.base_path)
        except OSError as error:
            model.complain(f"its folder cannot be read, what is loaded stays: {error}")
            return
        model.complain("" if present else f"no version in {model.config.base_path}")
        model.copies.forget(present.values())
        model.failed = {number: failure for number, failure in model.failed.items() if number in present}
        wanted, snapshots = self._choose(model, present)
        for number in sorted(wanted - self._store.numbers(name, AVAILABLE, UNLOADING), reverse=True):
            failure = model.failed.get(number)
            if not self._stop.is_set() and (failure is None or failure[0] != snapshots[number]):
                self._load(model, number, present[number], snapshots[number])
        loaded = self._store.numbers(name, AVAILABLE)
        # Not before one of the wanted versions is there, unless the folder wants none any more.
        if wanted & loaded or not policy.choose(present):
            self._retire(name, loaded - wanted)

    def _choose(self, model: _Model, present: dict[int, Path]) -> tuple[set[int], dict[int, Snapshot]]:
        """Return the versions that are to be served, and snapshots of those that are not loaded yet.

        A version that is still being copied counts as not there, so that the next lower one stays.
        """
        loaded = self._store.numbers(model.config.name, AVAILABLE)
        candidates = set(present)
        snapshots: dict[int, Snapshot] = {}
        model.settling = False
        while True:
            wanted = model.config.policy.choose(candidates)
            unknown = wanted - loaded - set(snapshots)
            if not unknown:
                return wanted, snapshots
            for number in unknown:
                snapshots[number] = take_snapshot(present[number])
                look = model.copies.look(present[number], snapshots[number])
                model.settling |= look is Look.SETTLING
                if look is not Look.WHOLE:
                    candidates.discard(number)

    def _load(self, model: _Model, number: int, path: Path, snapshot: Snapshot) -> None:
        name = model.config.name
        self._store.note(name, number, LOADING)
        try:
            servable = Servable(name, number, path, self._limits)
        except ServingError as error:
            failure = error
        except Exception as error:
            logger.exception("%s version %d", name, number)
            failure = ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        else:
            self._store.add(servable)
            model.failed.pop(number, None)
            return
        logger.error("model %s version %d does not load: %s", name, number, failure.message)
        model.failed[number] = (snapshot, failure)
        self._store.note(name, number, END, failure)

    def _retire(self, name: str, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            logger.info("retiring %s version %d", name, number)
            self._store.retire(name, number)

    def _close_idle(self) -> None:
        for servable in self._store.take_idle():
            servable.close()
            logger.info("closed %s version %d", servable.name, servable.version)

    def _judge_start(self) -> bool | StartError:
        serving = set(self._store.names())
        rest = [model for name, model in self._models.items() if name not in serving]
        broken = [model for model in rest if model.failed]
        undecided = [model for model in rest if not model.failed]
        if broken and (self._catalogue.named or (not serving and not undecided)):
            number, (_, error) = max(broken[0].failed.items())
            return StartError(f"model {broken[0].config.name!r} version {number}: {error.message}")
        if not self._catalogue.named:
            undecided = [model for model in undecided if model.settling]
        return bool(serving) and not undecided
