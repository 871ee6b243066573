"""The HTTP server of the REST API.

Always plain HTTP, as TensorFlow Serving's is; the answers are JSON, those of failed requests too.
"""

from __future__ import annotations

import dataclasses
import http.server
import logging
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from serving.errors import ServingError, exhausted, invalid
from serving.rest.calls import RestApi
from serving.rest.numbers import dumps

# Time until a client that sends nothing, or only part of a request, loses its connection.
_IDLE_SECONDS = 30.0
_PREFIX = "/v1/"
_Code = grpc.StatusCode
_HTTP = {
    _Code.INVALID_ARGUMENT: 400,
    _Code.FAILED_PRECONDITION: 400,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNAUTHENTICATED: 401,
    _Code.PERMISSION_DENIED: 403,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.ABORTED: 409,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.CANCELLED: 499,
    _Code.UNIMPLEMENTED: 501,
    _Code.UNAVAILABLE: 503,
    _Code.DEADLINE_EXCEEDED: 504,
}

#: Content type of a page and a function that returns its text.
Page = tuple[str, Callable[[], str]]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RestOptions:
    """How the REST port is run.

    Attributes:
        threads: requests that are worked on at once; every connection has a thread.
        seconds: that a model gets for a request.
        max_bytes: of one request body.
        cors: let web pages of other origins ask.
        pages: other paths that GET answers.
    """

    threads: int = 32
    seconds: float = 30.0
    max_bytes: int = 128 * 1024 * 1024
    cors: bool = False
    pages: Mapping[str, Page] = dataclasses.field(default_factory=dict)


class RestServer:
    """Listens on a port of its own."""

    def __init__(self, api: RestApi, host: str, port: int, options: RestOptions):
        """Bind the port, 0 for a free one; `start` answers.

        Raises:
            OSError: the port cannot be had.
        """
        handler = type("_Handler", (_Handler,), {"api": api, "options": options})
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = type("_Server", (_Server,), {"address_family": family})
        self._server = server((host.strip("[]"), port), handler)
        self._server.slots = threading.Semaphore(options.threads)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="rest", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Take no new connections, wait for the running requests; returns whether they ended in time."""
        self._server.is_stopping = True
        if self._thread.ident is not None:
            self._server.shutdown()
        self._server.server_close()
        return self._server.wait_until_idle(timeout)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # A port that somebody else has must not be shared with him.
    allow_reuse_port = False
    slots: threading.Semaphore
    is_stopping = False

    def __init__(self, *arguments: Any):
        self._changed = threading.Condition()
        self._running = 0
        super().__init__(*arguments)

    def work(self, answer: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
        """Call `answer` when it is its turn, counted as running."""
        with self._changed:
            self._running += 1
        try:
            with self.slots:
                return answer()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the running requests to end; returns whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection ended with: a client that went away is not worth a traceback."""
        logger.debug("connection of %s", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Answers are one write; waiting for more to send would only delay them.
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = _IDLE_SECONDS
    server: _Server
    api: RestApi
    options: RestOptions

    def do_GET(self) -> None:
        """Answer a status or metadata request, or a page."""
        page = self.options.pages.get(self._path())
        if page is not None:
            self._write(200, page[0], page[1]())
            return
        self._answer(lambda: self.api.get(self._path()))

    def do_POST(self) -> None:
        """Answer a prediction."""
        try:
            body = self._body()
        except ServingError as error:
            # What is left of the body would be read as the next request.
            self.close_connection = True
            self._send(_HTTP[error.code], {"error": error.message})
            return
        self._answer(lambda: self.api.post(self._path(), body, self.options.seconds))

    def do_OPTIONS(self) -> None:
        """Answer what a browser asks before it lets a page of another origin ask."""
        if self.options.cors:
            self._send(200, {})
        else:
            self._send(400, {"error": f"Malformed request: OPTIONS {self.path}"})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the log for what operators act on."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP request, or has a method that nobody has, as JSON too."""
        self.close_connection = True
        self._send(400 if code == 501 else code, {"error": f"Malformed request: {message or code}"})

    def _path(self) -> str:
        return urllib.parse.urlsplit(self.path).path

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise ServingError(_Code.UNIMPLEMENTED, "Transfer-Encoding is not supported, send a Content-Length")
        length = self.headers.get("Content-Length") or "0"
        if not length.isascii() or not length.isdigit():
            raise invalid(f"Content-Length: expected a number of bytes, got {length[:40]!r}")
        if int(length) > self.options.max_bytes:
            raise exhausted(f"the request has {length[:40]} bytes, allowed are {self.options.max_bytes}")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise invalid(f"the body ended after {len(body)} of {length} bytes")
        return body

    def _answer(self, call: Callable[[], Any]) -> None:
        if not self._path().startswith(_PREFIX):
            self._send(404, {"error": "Not Found"})
            return
        if self.server.is_stopping:
            self.close_connection = True
            self._send(_HTTP[_Code.UNAVAILABLE], {"error": "the server is ending"})
            return
        self._send(*self.server.work(lambda: _status_of(call)))

    def _send(self, status: int, value: Any) -> None:
        self._write(status, "application/json", dumps(value))

    def _write(self, status: int, content_type: str, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if self.options.cors:
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def _status_of(call: Callable[[], Any]) -> tuple[int, Any]:
    try:
        return 200, call()
    except ServingError as error:
        return _HTTP.get(error.code, 500), {"error": error.message}
    except Exception as error:
        logger.exception("a request failed")
        return 500, {"error": f"internal error: {type(error).__name__}"}
