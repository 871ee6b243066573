"""The server as an object: load the models, open the port, answer, drain."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc

from serving.api import Api
from serving.batching import Batching
from serving.config import Catalogue
from serving.demo.pages import Demo
from serving.health import health_handler
from serving.image_inputs import ImageLimits
from serving.loader import Loader, Retries
from serving.metrics import CONTENT_TYPE, Metrics
from serving.reload import ConfigFileWatch, Reloader
from serving.rest.app import Request, Response
from serving.rest.calls import RestApi
from serving.rest.http import RestOptions, RestServer
from serving.servable import Limits
from serving.service import handlers
from serving.store import Store
from tfthesis.errors import UserError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
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
        credentials: of an encrypted port; without them it is plain.
        socket_path: a Unix socket to listen on as well, always plain.
        channel_arguments: options of the gRPC server by name.
        health: answer grpc.health.v1, by whether every configured model has an AVAILABLE version.
        allowed_base_paths: folders below which a reloaded configuration may name models.
        label_unavailable: new version labels may name versions that are not AVAILABLE.
        config_file: to read again every `config_poll_seconds`, unless that is 0.
        retries: of versions that do not load.
        batching: how requests are merged; None runs each alone.
        model_batching: versions say so themselves, in a file of their folder.
        rest_port: of the REST API, which is always plain; None for no REST, 0 picks a free one.
        rest: how that port is run; its limit of bytes follows from the rest here, and the metrics are one more page.
        metrics_path: of the Prometheus page on the REST port; None for none.
        demo_indexes: folders of indexes whose pictures the search page on the REST port shows; None for no page.
        parallelism: threads of TensorFlow within and between operations; 0 for one a processor.
        tags: of the graphs to load.
        check_method_names: Classify and Regress answer only signatures that say they are theirs.
        warm_up_rounds: how often the warm-up records of a version are replayed before it is AVAILABLE; 0 never.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    poll_seconds: float = 1.0
    threads: int = 32
    max_request_bytes: int = 128 * 1024 * 1024
    images: ImageLimits = dataclasses.field(default_factory=ImageLimits)
    as_content: bool = False
    grace_seconds: float = 30.0
    credentials: grpc.ServerCredentials | None = None
    socket_path: str = ""
    channel_arguments: Mapping[str, int | str] = dataclasses.field(default_factory=dict)
    health: bool = False
    allowed_base_paths: Sequence[Path] = ()
    label_unavailable: bool = False
    config_file: Path | None = None
    config_poll_seconds: float = 0.0
    retries: Retries = dataclasses.field(default_factory=Retries)
    batching: Batching | None = None
    model_batching: bool = False
    rest_port: int | None = None
    rest: RestOptions = dataclasses.field(default_factory=RestOptions)
    metrics_path: str | None = None
    demo_indexes: Sequence[Path] | None = None
    parallelism: tuple[int, int] = (0, 0)
    tags: tuple[str, ...] = ("serve",)
    check_method_names: bool = False
    warm_up_rounds: int = 1


class EmbeddedServer:
    """Answers the TensorFlow Serving API for a `Catalogue` of models.

    Attributes:
        port: of gRPC; 0 before `start`.
        rest_port: of the REST API; 0 before `start` or without one.
    """

    def __init__(self, catalogue: Catalogue, options: Options):
        """Make the server; `start` loads and answers.

        Raises:
            UserError: a folder of `demo_indexes` has no index.
        """
        self._options = options
        self._store = Store()
        limits = Limits(
            options.max_request_bytes,
            options.images,
            options.warm_up_rounds,
            options.batching,
            options.model_batching,
            options.parallelism,
            options.tags,
            options.check_method_names,
        )
        self._catalogue = catalogue
        self._metrics = Metrics(self._store.names)
        self._loader = Loader(catalogue, self._store, limits, options.poll_seconds, options.retries, self._metrics)
        self._reloader = Reloader(
            self._loader,
            self._store,
            allowed_base_paths=options.allowed_base_paths,
            label_unavailable=options.label_unavailable,
        )
        self._watch: ConfigFileWatch | None = None
        if options.config_file is not None and options.config_poll_seconds:
            self._watch = ConfigFileWatch(options.config_file, options.config_poll_seconds, self._reloader)
        self._api = Api(self._store, self._reloader, self._metrics, as_content=options.as_content)
        self._demo = Demo(self._store.names, options.demo_indexes) if options.demo_indexes is not None else None
        self._grpc = self._make_grpc()
        self._rest: RestServer | None = None
        self.port = self.rest_port = 0

    def start(self, stop: threading.Event) -> bool:
        """Load the models, then open the port; returns False if `stop` was set before that.

        Raises:
            PortError: somebody else has the port, or the host is not an address of this machine.
            serving.loader.StartError: a model does not load.
            UserError: a label names a version that cannot be available yet.
        """
        _check_address(self._options.host, self._options.port)
        if self._options.rest_port is not None:
            _check_address(self._options.host, self._options.rest_port)
        self._set_labels()
        self._loader.start()
        while not self._loader.is_ready():
            if stop.wait(_START_CHECK_SECONDS):
                return False
        self.port = self._open(_join(self._options.host, self._options.port), self._options.credentials)
        if self._options.socket_path:
            self._open(f"unix:{self._options.socket_path}", None)
        self._grpc.start()
        self._start_rest()
        if self._watch is not None:
            self._watch.start()
        logger.info("listening on %s", _join(self._options.host, self.port))
        return True

    def stop(self) -> bool:
        """Refuse new requests and wait for the running ones; returns whether every thread has ended."""
        deadline = time.monotonic() + self._options.grace_seconds + _CANCEL_SECONDS
        if self._watch is not None:
            self._watch.stop()
        self._reloader.stop()
        if self._rest is not None:
            self._rest.begin_stop(deadline - time.monotonic())
        ended = self._grpc.stop(self._options.grace_seconds)
        drained = ended.wait(deadline - time.monotonic())
        if self._rest is not None:
            drained = self._rest.stop(max(0.0, deadline - time.monotonic())) and drained
        # gRPC forgets a request that its client gave up, while its thread may still be in the model.
        drained = self._store.wait_until_unused(deadline - time.monotonic()) and drained
        return self._loader.stop(max(_CANCEL_SECONDS, deadline - time.monotonic())) and drained

    def _make_grpc(self) -> grpc.Server:
        executor = concurrent.futures.ThreadPoolExecutor(self._options.threads, thread_name_prefix="request")
        options = {
            "grpc.max_receive_message_length": self._options.max_request_bytes,
            "grpc.max_send_message_length": -1,
            # Otherwise a second server on the same port would start, and share its requests at random.
            "grpc.so_reuseport": 0,
            **self._options.channel_arguments,
        }
        answers = handlers(self._api, self._store, self._metrics)
        if self._options.health:
            answers.append(health_handler(self._loader.is_serving))
        return grpc.server(executor, handlers=answers, options=list(options.items()))

    def _start_rest(self) -> None:
        options = self._options
        if options.rest_port is None:
            return
        pages, hosts = dict(options.rest.pages), options.rest.hosts
        if self._demo is not None:
            pages.update(self._demo.pages())
            # The page shows pictures to whoever asks; on a machine's own address only that machine may.
            hosts = hosts or (_LOOPBACK if options.host in _LOOPBACK else ())
        if options.metrics_path:
            pages[options.metrics_path] = self._metrics_page
        try:
            self._rest = RestServer(
                RestApi(self._api, self._metrics, options.max_request_bytes),
                options.host,
                options.rest_port,
                dataclasses.replace(options.rest, max_bytes=options.max_request_bytes, pages=pages, hosts=hosts),
            )
        except OSError as error:
            raise PortError(f"cannot listen on {_join(options.host, options.rest_port)}: {error}") from error
        self._rest.start()
        self.rest_port = self._rest.port
        logger.info("REST on %s", _join(options.host, self.rest_port))

    def _metrics_page(self, request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.page().encode())

    def _open(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._grpc.add_insecure_port(address)
            return self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise PortError(f"cannot listen on {address}: {error}") from error

    def _set_labels(self) -> None:
        """Give the labels of the first configuration, when nothing is loaded yet."""
        for config in self._catalogue.models():
            if config.labels and not self._options.label_unavailable:
                raise UserError(
                    f"model {config.name!r}: version_labels name versions that are not loaded yet when the server "
                    "starts; start it with --allow_version_labels_for_unavailable_models"
                )
            self._store.set_labels(config.name, config.labels, allow_unavailable=True)


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
