"""The HTTP server of the REST port: Waitress, which reads requests whole before one of its threads works on them.

Always plain HTTP, as TensorFlow Serving's is. A slow client costs a connection but no thread, and a body of more
than half a MiB waits in a temporary file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Collection, Mapping

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import RequestEntityTooLarge

from serving.rest.app import ARRIVED, Page, RestApp, error_response, status_line
from serving.rest.calls import RestApi

# Time until a client that sends nothing loses its connection.
_IDLE_SECONDS = 30
# Time that a client may take for one request, so that one which sends a byte now and then does not stay for ever.
_RECEIVE_SECONDS = 600.0
_LOOP_SECONDS = 1.0
# While it drains, the loop has to notice soon that a thread has ended.
_DRAIN_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class RestOptions:
    """How the REST port is run.

    Attributes:
        threads: requests that are worked on at once.
        seconds: from the arrival of a request to its answer, the wait for a thread included.
        max_bytes: of one request body.
        connections: that are open at once; further ones wait to be accepted.
        cors: let web pages of other origins ask.
        hosts: names that a request may give the server, as `RestApp` has them; empty allows any.
        pages: what other paths than the API's answer; one that ends in a star answers all that begin so.
    """

    threads: int = 32
    seconds: float = 30.0
    max_bytes: int = 128 * 1024 * 1024
    connections: int = 500
    cors: bool = False
    hosts: Collection[str] = ()
    pages: Mapping[str, Page] = dataclasses.field(default_factory=dict)


class RestServer:
    """Listens on a port of its own."""

    def __init__(self, api: RestApi, host: str, port: int, options: RestOptions):
        """Bind the port, 0 for a free one; `start` answers.

        Raises:
            OSError: the port cannot be had.
        """
        self._app = RestApp(api, options.pages, seconds=options.seconds, cors=options.cors, hosts=options.hosts)
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        adjustments = Adjustments(
            threads=options.threads,
            connection_limit=options.connections,
            # Waitress refuses what has as many bytes as its limit.
            max_request_body_size=options.max_bytes + 1,
            channel_timeout=_IDLE_SECONDS,
            cleanup_interval=_IDLE_SECONDS // 3,
            asyncore_use_poll=True,
            ident=None,
            # Nothing here looks at them.
            clear_untrusted_proxy_headers=False,
        )
        self._server = _Server(self._app, adj=adjustments, sockinfo=(family, kind, protocol, address))
        self.port = int(self._server.effective_port)
        self._deadline: float | None = None
        self._drained = False
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def begin_stop(self, timeout: float) -> None:
        """Take no new connections, refuse what comes on open ones, and end when what has come is answered.

        After `timeout` seconds it ends in any case; `stop` waits for it.
        """
        self._app.is_stopping = True
        self._deadline = time.monotonic() + timeout
        if self._thread.ident is None:
            self._server.close()
            self._drained = True
        else:
            # The loop may notice by itself, end, and have closed the trigger before it is pulled.
            with contextlib.suppress(OSError):
                self._server.pull_trigger()

    def stop(self, timeout: float) -> bool:
        """Begin to stop, if that was not done, and wait; returns whether all requests that had come were answered."""
        if self._deadline is None:
            self.begin_stop(timeout)
        if self._thread.ident is not None:
            self._thread.join(timeout + _LOOP_SECONDS)
        return self._drained

    def _run(self) -> None:
        # Waitress is not safe to be closed from another thread, so the end is part of this one's loop too.
        while self._deadline is None:
            self._poll(_LOOP_SECONDS)
        wasyncore.dispatcher.close(self._server)
        while self._server.is_busy() and time.monotonic() < self._deadline:
            self._poll(_DRAIN_SECONDS)
        self._drained = not self._server.is_busy()
        self._server.task_dispatcher.shutdown(timeout=_LOOP_SECONDS)
        wasyncore.close_all(self._server._map)

    def _poll(self, seconds: float) -> None:
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._server._map, count=1)


class _Nothing:
    """A buffer that keeps nothing."""

    def append(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def __len__(self) -> int:
        return 0


class _Parser(HTTPRequestParser):
    """One request as it comes in; `begun` and `arrived` tell when its first and last byte came."""

    def __init__(self, adjustments: Adjustments):
        super().__init__(adjustments)
        self.begun = self.arrived = time.monotonic()

    def received(self, data: bytes) -> int:
        count = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            self._discard()
        self.arrived = time.monotonic()
        return count

    def _discard(self) -> None:
        """Read what is left of a body that is too large without keeping it.

        A client that is still sending would not see the answer; only one that asked before it sends gets it at once.
        """
        self.body_rcv.buf = _Nothing()
        if not self.expect_continue:
            self.completed = self.body_rcv.completed or self.body_rcv.error is not None
        self.expect_continue = False

    def parse_header(self, header_plus: bytes) -> None:
        # A URL or a number that the standard library cannot read would end the connection without an answer.
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)) from error


class _Task(WSGITask):
    """A request that is worked on in a thread."""

    def get_environment(self) -> dict:
        return {**super().get_environment(), ARRIVED: self.request.arrived}

    def execute(self) -> None:
        if self.channel.server.application.is_stopping:
            self.set_close_on_finish()
        super().execute()


class _ErrorTask(ErrorTask):
    """What is no request, or too large, answered as JSON; the connection ends, since what follows cannot be told."""

    def execute(self) -> None:
        status, message = self.request.error.code, str(self.request.error.body)
        if status == 400:
            message = f"Malformed request: {message}"
        elif status == 413:
            # RESOURCE_EXHAUSTED, as over gRPC.
            limit = self.channel.adj.max_request_body_size - 1
            sent = self.request.content_length or f"more than {limit}"
            status, message = 429, f"the request has {sent} bytes, allowed are {limit}"
        response = error_response(status, message)
        self.status = status_line(status)
        self.response_headers.append(("Content-Type", response.content_type))
        self.set_close_on_finish()
        self.content_length = len(response.body)
        self.write(response.body)


class _Channel(HTTPChannel):
    """One connection."""

    task_class = _Task
    error_task_class = _ErrorTask
    parser_class = _Parser


class _Server(TcpWSGIServer):
    channel_class = _Channel

    def is_busy(self) -> bool:
        """Return whether a request that has come whole is not answered down to its last byte."""
        return any(channel.requests or channel.total_outbufs_len for channel in self.active_channels.values())

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        late = time.monotonic() - _RECEIVE_SECONDS
        for channel in self.active_channels.values():
            if channel.request is not None and channel.request.begun < late:
                channel.will_close = True
