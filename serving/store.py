"""The models in memory: which versions there are, who is using them, when they come and go."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from serving.errors import ServingError, invalid, not_found
from serving.servable import Servable

LOADING = ModelVersionStatus.LOADING
AVAILABLE = ModelVersionStatus.AVAILABLE
UNLOADING = ModelVersionStatus.UNLOADING
END = ModelVersionStatus.END
# So many ended versions of a model stay listed.
_ENDED_KEPT = 100


@dataclasses.dataclass
class _Version:
    """State of one version; `servable` is there while it is AVAILABLE or UNLOADING."""

    number: int
    state: int
    error: ServingError | None = None
    servable: Servable | None = None
    users: int = 0


class Store:
    """Versions by model and number, shared by the request threads and the loader.

    The lock is only ever held to look something up or note it down; nothing loads or closes under it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._models: dict[str, dict[int, _Version]] = {}
        self._latest: dict[str, int] = {}
        self._labels: dict[str, dict[str, int]] = {}
        #: Set when a version that nobody uses any more waits to be closed.
        self.idle = threading.Event()

    @contextlib.contextmanager
    def lease(self, name: str, number: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """Keep a version in memory for the length of a request: the highest one unless `number` or `label` is given.

        Raises:
            ServingError: NOT_FOUND, it is not AVAILABLE; INVALID_ARGUMENT, no version has the label.
        """
        with self._lock:
            if label is not None:
                number = self._labels.get(name, {}).get(label)
                if number is None:
                    raise invalid(f"Unrecognized servable version label: {label}")
            wanted = self._latest.get(name) if number is None else number
            version = self._models.get(name, {}).get(wanted)
            if version is None or version.state != AVAILABLE:
                what = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise not_found(f"Servable not found for request: {what}")
            version.users += 1
        try:
            yield version.servable
        finally:
            with self._lock:
                version.users -= 1
                self._changed.notify_all()
                if version.state == UNLOADING and not version.users:
                    self.idle.set()

    def statuses(self, name: str, number: int | None = None) -> list[tuple[int, int, ServingError | None]]:
        """Return (number, state, error) of each version of a model, newest first, or of one version.

        Raises:
            ServingError: NOT_FOUND, there never was such a model or version.
        """
        with self._lock:
            versions = self._models.get(name)
            if not versions:
                raise not_found(f"Could not find any versions of model {name}")
            if number is not None and number not in versions:
                raise not_found(f"Could not find version {number} of model {name}")
            chosen = sorted(versions, reverse=True) if number is None else [number]
            return [(version, versions[version].state, versions[version].error) for version in chosen]

    def names(self) -> list[str]:
        """Return the names of the models with an AVAILABLE version."""
        with self._lock:
            return sorted(self._latest)

    def numbers(self, name: str, *states: int) -> set[int]:
        """Return the versions of a model that are in one of `states`."""
        with self._lock:
            return {number for number, version in self._models.get(name, {}).items() if version.state in states}

    def wait_until_unused(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the running requests to end; returns whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_use(), timeout)

    def wait_for_change(self, timeout: float) -> None:
        """Wait until a version changes its state, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def set_labels(self, name: str, labels: Mapping[str, int], *, allow_unavailable: bool) -> None:
        """Give versions of a model names for requests, in place of those they had.

        Args:
            allow_unavailable: a label that is new may name a version that is not AVAILABLE. One that moves never may.

        Raises:
            ServingError: FAILED_PRECONDITION, a version is not AVAILABLE; the labels stay as they were.
        """
        with self._lock:
            versions, before = self._models.get(name, {}), self._labels.get(name, {})
            for label, number in labels.items():
                is_there = number in versions and versions[number].state == AVAILABLE
                is_new = label not in before
                if not is_there and before.get(label) != number and not (allow_unavailable and is_new):
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label {label!r} to version {number} of model {name}, "
                        "which is not currently available for inference",
                    )
            self._labels[name] = dict(labels)

    def note(self, name: str, number: int, state: int, error: ServingError | None = None) -> None:
        """Write down the state of a version that is not in memory."""
        with self._lock:
            versions = self._models.setdefault(name, {})
            versions[number] = _Version(number, state, error)
            ended = sorted(other for other, version in versions.items() if version.state == END)
            for old in ended[:-_ENDED_KEPT]:
                del versions[old]
            self._changed.notify_all()

    def add(self, servable: Servable) -> None:
        """Make a loaded version AVAILABLE."""
        with self._lock:
            version = _Version(servable.version, AVAILABLE, servable=servable)
            self._models.setdefault(servable.name, {})[servable.version] = version
            self._find_latest(servable.name)
            self._changed.notify_all()

    def retire(self, name: str, number: int) -> None:
        """Take a version out of service; it stays in memory until its running requests have ended."""
        with self._lock:
            version = self._models[name][number]
            version.state = UNLOADING
            self._find_latest(name)
            if not version.users:
                self.idle.set()

    def take_idle(self) -> list[Servable]:
        """Return the retired versions that nobody uses any more, for closing; their state becomes END."""
        with self._lock:
            self.idle.clear()
            versions = [version for model in self._models.values() for version in model.values()]
            idle = [version for version in versions if version.state == UNLOADING and not version.users]
            servables = [version.servable for version in idle]
            for version in idle:
                version.state, version.servable = END, None
            return servables

    def _in_use(self) -> bool:
        return any(version.users for model in self._models.values() for version in model.values())

    def _find_latest(self, name: str) -> None:
        available = [number for number, version in self._models[name].items() if version.state == AVAILABLE]
        if available:
            self._latest[name] = max(available)
        else:
            self._latest.pop(name, None)
