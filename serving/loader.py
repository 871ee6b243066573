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
from serving.metrics import Metrics
from serving.servable import Limits, Servable
from serving.store import AVAILABLE, END, LOADING, UNLOADING, Store
from serving.versions import CopyWatch, Look, Snapshot, list_versions, take_snapshot

# Time until the second look at a copy that may still be running, where the folders are looked at only once.
_SETTLE_SECONDS = 1.0
_NEVER = float("inf")

logger = logging.getLogger(__name__)


class StartError(Exception):
    """A model that has to be there when the server starts does not load."""


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often and after how many `seconds` a version that failed is tried again, though its files are the same."""

    count: int = 0
    seconds: float = 60.0


@dataclasses.dataclass
class _Failure:
    """A version that did not load: with which files, why, how often it was tried, when it is tried next."""

    snapshot: Snapshot
    error: ServingError
    attempts: int = 1
    again: float = _NEVER


@dataclasses.dataclass
class _Model:
    """What the loader remembers of a model between two looks at its folder."""

    config: ModelConfig
    copies: CopyWatch = dataclasses.field(default_factory=CopyWatch)
    failures: dict[int, _Failure] = dataclasses.field(default_factory=dict)
    settling: bool = False
    complaint: str = ""

    def final_error(self) -> tuple[int, ServingError] | None:
        """Return the highest version that failed and is not tried again by itself, and why."""
        ended = [(number, failure.error) for number, failure in self.failures.items() if failure.again == _NEVER]
        return max(ended, key=lambda failure: failure[0], default=None)

    def complain(self, message: str) -> None:
        """Log `message` unless it was the last complaint already; an empty one ends the complaint."""
        if message and message != self.complaint:
            logger.warning("model %s: %s", self.config.name, message)
        self.complaint = message


class Loader:
    """Keeps a `Store` in step with a `Catalogue`, in one thread of its own.

    A new version is loaded and warmed up before the old one is retired. A version that fails is tried again
    when its files change, and as often as `Retries` say; until then the old one stays.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        limits: Limits,
        poll_seconds: float,
        retries: Retries = Retries(),
        metrics: Metrics | None = None,
    ):
        """Follow `catalogue` every `poll_seconds`; 0 looks once, at the start, and when it is replaced.

        What the models do is noted in `metrics`.
        """
        self._metrics = metrics
        self._catalogue = catalogue
        self._retries = retries
        self._replaced = threading.Event()
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

    def replace(self, catalogue: Catalogue) -> set[str]:
        """Follow another catalogue from now on; return which of its models were not in the last one."""
        before = {config.name for config in self._catalogue.models()}
        self._catalogue = catalogue
        new = {config.name for config in catalogue.models()} - before
        self._replaced.set()
        self._store.idle.set()
        return new

    def failure(self, name: str) -> ServingError | None:
        """Return why the highest version of a model that was given up did not load; None if none was."""
        model = self._models.get(name)
        failed = model.final_error() if model else None
        return failed[1] if failed else None

    def is_ready(self) -> bool:
        """Return whether the ports may open: every model has an AVAILABLE version, and there is a model at all.

        Models that were found on disk, rather than named, may also have failed.

        Raises:
            StartError: a model that was named failed, or all that were found did.
        """
        if isinstance(self._ready, StartError):
            raise self._ready
        return self._ready

    def is_serving(self) -> bool:
        """Return whether every model of the catalogue has an AVAILABLE version, and there is a model at all."""
        serving = set(self._store.names())
        return bool(serving) and all(config.name in serving for config in self._catalogue.models())

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
            model = self._models.setdefault(name, _Model(config))
            model.config = config
            self._follow(model)
        self._close_idle()
        self._ready = self._judge_start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._replaced.clear()
            try:
                self.look()
            except Exception:
                logger.exception("looking for model versions failed")
            self._close_idle_until(self._next_look())

    def _next_look(self) -> float:
        now = time.monotonic()
        times = [failure.again for model in self._models.values() for failure in model.failures.values()]
        if self._poll_seconds:
            times.append(now + self._poll_seconds)
        elif any(model.settling for model in self._models.values()):
            times.append(now + _SETTLE_SECONDS)
        return min(times, default=_NEVER)

    def _close_idle_until(self, deadline: float) -> None:
        while not self._stop.is_set() and not self._replaced.is_set():
            left = deadline - time.monotonic()
            if not self._store.idle.wait(min(max(0.0, left), threading.TIMEOUT_MAX)):
                return
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
        model.failures = {number: failure for number, failure in model.failures.items() if number in present}
        wanted, snapshots = self._choose(model, present)
        for number in sorted(wanted - self._store.numbers(name, AVAILABLE, UNLOADING), reverse=True):
            failure = model.failures.get(number)
            is_due = failure is None or failure.snapshot != snapshots[number] or failure.again <= time.monotonic()
            if is_due and not self._stop.is_set():
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
            servable = Servable(name, number, path, self._limits, self._metrics)
        except ServingError as error:
            failure = error
        except Exception as error:
            logger.exception("%s version %d", name, number)
            failure = ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        else:
            self._store.add(servable)
            model.failures.pop(number, None)
            return
        logger.error("model %s version %d does not load: %s", name, number, failure.message)
        before = model.failures.get(number)
        attempts = before.attempts + 1 if before and before.snapshot == snapshot else 1
        is_final = attempts > self._retries.count
        again = _NEVER if is_final else time.monotonic() + self._retries.seconds
        model.failures[number] = _Failure(snapshot, failure, attempts, again)
        if is_final:
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
        errors = [error for error in (model.final_error() for model in rest) if error]
        undecided = [model for model in rest if not model.final_error()]
        if errors and (self._catalogue.named or (not serving and not undecided)):
            broken = next(model for model in rest if model.final_error())
            number, error = errors[0]
            return StartError(f"model {broken.config.name!r} version {number}: {error.message}")
        if not self._catalogue.named:
            undecided = [model for model in undecided if model.settling]
        return bool(serving) and not undecided
