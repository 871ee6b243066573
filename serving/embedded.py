"""The server as an object: load the models, open the port, answer, drain."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import socket
import threading
import time

import grpc

from serving.api import Api
from serving.config import Catalogue
from serving.image_inputs import ImageLimits
from serving.loader import Loader
from serving.servable import Limits
from serving.service import handlers
from serving.store import Store

_START_CHECK_SECONDS = 0.05
# Time for requests to notice that the grace period is over.
_CANCEL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class PortError(Exception):
    """The address cannot be listened on."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a server runs.

    Attributes:
        host: address to listen on; anything but a loopback address opens the models to the network.
        port: 0 picks a free one.
        poll_seconds: time between two looks at the model folders; 0 looks once.
        threads: requests that are worked on at the same time.
        max_request_bytes: size of one request message, and of each tensor in it once unpacked.
        images: limits of encoded images.
        as_content: send tensors as raw bytes instead of typed values.
        grace_seconds: time that running requests get to end when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    poll_seconds: float = 1.0
    threads: int = 32
    max_request_bytes: int = 128 * 1024 * 1024
    images: ImageLimits = dataclasses.field(default_factory=ImageLimits)
    as_content: bool = False
    grace_seconds: float = 30.0


class EmbeddedServer:
    """Answers the TensorFlow Serving API for a `Catalogue` of models.

    Attributes:
        port: that it listens on; 0 before `start`.
    """

    def __init__(self, catalogue: Catalogue, options: Options):
        self._options = options
        self._store = Store()
        limits = Limits(options.max_request_bytes, options.images)
        self._loader = Loader(catalogue, self._store, limits, options.poll_seconds)
        self._grpc = self._make_grpc()
        self.port = 0

    def start(self, stop: threading.Event) -> bool:
        """Load the models, then open the port; returns False if `stop` was set before that.

        Raises:
            PortError: somebody else has the port, or the host is not an address of this machine.
            serving.loader.StartError: a model does not load.
        """
        _check_address(self._options.host, self._options.port)
        self._loader.start()
        while not self._loader.is_ready():
            if stop.wait(_START_CHECK_SECONDS):
                return False
        address = _join(self._options.host, self._options.port)
        try:
            self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise PortError(f"cannot listen on {address}: {error}") from error
        self._grpc.start()
        logger.info("listening on %s", _join(self._options.host, self.port))
        return True

    def stop(self) -> bool:
        """Refuse new requests and wait for the running ones; returns whether every thread has ended."""
        deadline = time.monotonic() + self._options.grace_seconds + _CANCEL_SECONDS
        ended = self._grpc.stop(self._options.grace_seconds)
        drained = ended.wait(deadline - time.monotonic())
        # gRPC forgets a request that its client gave up, while its thread may still be in the model.
        drained = self._store.wait_until_unused(deadline - time.monotonic()) and drained
        return self._loader.stop(max(_CANCEL_SECONDS, deadline - time.monotonic())) and drained

    def _make_grpc(self) -> grpc.Server:
        executor = concurrent.futures.ThreadPoolExecutor(self._options.threads, thread_name_prefix="request")
        options = [
            ("grpc.max_receive_message_length", self._options.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            # Otherwise a second server on the same port would start, and share its requests at random.
            ("grpc.so_reuseport", 0),
        ]
        api = Api(self._store, as_content=self._options.as_content)
        return grpc.server(executor, handlers=handlers(api, self._store), options=options)


def _check_address(host: str, port: int) -> None:
    """Find out before loading, which may take minutes, whether the port can be had afterwards."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with contextlib.closing(socket.socket(family, kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortError(f"cannot listen on {_join(host, port)}: {error.strerror or error}") from error


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
