"""The REST port as a WSGI application: which path is answered by what, and errors as JSON."""

from __future__ import annotations

import dataclasses
import http
import logging
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import grpc

from serving.errors import ServingError
from serving.rest.calls import RestApi
from serving.rest.numbers import dumps

JSON = "application/json"
#: Key of the WSGI environment: `time.monotonic()` when the last byte of the request had come.
ARRIVED = "serving.arrived"
_PREFIX = "/v1/"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
}
# What a client that gave up gets in TensorFlow Serving; the standard library has no name for it.
_CLOSED_REQUEST = 499
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
    _Code.CANCELLED: _CLOSED_REQUEST,
    _Code.UNIMPLEMENTED: 501,
    _Code.UNAVAILABLE: 503,
    _Code.DEADLINE_EXCEEDED: 504,
}

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client sent: `path` as it was written, not decoded, and `query` behind its question mark."""

    method: str
    path: str
    query: str
    body: bytes


class Response(NamedTuple):
    """An answer."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


#: Answers the requests of a path that is not the API's; a `ServingError` becomes its JSON.
Page = Callable[[Request], Response]


class RestApp:
    """A WSGI application; `is_stopping` makes it refuse what comes.

    The path of a page is either whole or, with a star at its end, the beginning of many.
    """

    def __init__(
        self,
        api: RestApi,
        pages: Mapping[str, Page],
        *,
        seconds: float,
        cors: bool = False,
        hosts: Collection[str] = (),
    ):
        """Answer from `api` and `pages`.

        Args:
            seconds: from the arrival of a request to its answer.
            cors: let web pages of other origins ask.
            hosts: names that a request may give the server; empty allows any. A page of another site whose name is
                made to lead here gives its own.
        """
        self._hosts = frozenset(hosts)
        self._api = api
        self._pages = dict(pages)
        self._seconds = seconds
        self._cors = cors
        self.is_stopping = False

    def __call__(self, environ: Mapping[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Answer one request, as PEP 3333 has it."""
        body = environ["wsgi.input"].read()
        request = Request(environ["REQUEST_METHOD"], _path(environ["REQUEST_URI"]), environ["QUERY_STRING"], body)
        if self._hosts and _host(environ.get("HTTP_HOST", "")) not in self._hosts:
            response = error_response(403, f"this server is asked as one of {sorted(self._hosts)} only")
        else:
            response = self._answer(request, environ[ARRIVED] + self._seconds)
        body = b"" if request.method == "HEAD" else response.body
        headers = {"Content-Type": response.content_type, "Content-Length": str(len(body)), **response.headers}
        start_response(status_line(response.status), list({**headers, **(_CORS if self._cors else {})}.items()))
        return [body]

    def _answer(self, request: Request, deadline: float) -> Response:
        if self.is_stopping:
            return error_response(503, "the server is ending")
        try:
            page = self._page(request.path)
            if page is not None:
                return page(request)
            if not request.path.startswith(_PREFIX):
                return error_response(404, "Not Found")
            return self._call(request, deadline)
        except ServingError as error:
            return error_response(_HTTP.get(error.code, 500), error.message)
        except Exception as error:
            logger.exception("a request failed")
            return error_response(500, f"internal error: {type(error).__name__}")

    def _page(self, path: str) -> Page | None:
        if path in self._pages:
            return self._pages[path]
        fitting = [start for start in self._pages if start.endswith("*") and path.startswith(start[:-1])]
        return self._pages[max(fitting, key=len)] if fitting else None

    def _call(self, request: Request, deadline: float) -> Response:
        if request.method == "GET":
            return json_response(200, self._api.get(request.path))
        if request.method == "POST":
            left = deadline - time.monotonic()
            if left <= 0:
                raise ServingError(_Code.DEADLINE_EXCEEDED, "the deadline passed before the request was started")
            return json_response(200, self._api.post(request.path, request.body, left))
        if request.method == "OPTIONS" and self._cors:
            return json_response(200, {})
        return error_response(400, f"Malformed request: {request.method} {request.path}")


def _path(uri: str) -> str:
    try:
        return urllib.parse.urlsplit(uri).path
    except ValueError:
        # Something such as //[x: no path of ours either.
        return uri


def _host(header: str) -> str:
    """Return the name in a Host header, without its port."""
    return header.lower().partition("]")[0] + "]" if header.startswith("[") else header.lower().partition(":")[0]


def json_response(status: int, value: Any) -> Response:
    """Return `value` as JSON."""
    return Response(status, JSON, dumps(value).encode("utf-8", "replace"))


def error_response(status: int, message: str) -> Response:
    """Return the JSON that every failed request is answered with."""
    return json_response(status, {"error": message})


def status_line(status: int) -> str:
    """Return a status with its name, as HTTP's first line has it."""
    return f"{status} {'Client Closed Request' if status == _CLOSED_REQUEST else http.HTTPStatus(status).phrase}"
