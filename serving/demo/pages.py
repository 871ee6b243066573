"""The search page: its files, the models to choose from, and small pictures of indexed items.

The page itself asks the REST API like any other client; what a model can do it reads from the model's signatures.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc

from serving.errors import ServingError, invalid, not_found
from serving.index.item_store import ItemStore
from serving.rest.app import Page, Request, Response, json_response
from tfthesis.errors import UserError

START = "/demo/"
_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
# Nothing but the page's own files: a script that got into a caption would still not run.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Demo:
    """Answers the paths below `START`."""

    def __init__(self, names: Callable[[], Sequence[str]], indexes: Sequence[Path]):
        """Show the models that `names` returns.

        Args:
            indexes: folders of `python -m serving.index`; the model that one publishes shows its items' pictures.

        Raises:
            UserError: a folder has no index, or two are of one model.
        """
        self._names = names
        self._indexes: dict[str, Path] = {}
        for folder in indexes:
            with ItemStore(folder) as store:
                model = Path(store.meta["target"]).name
            if model in self._indexes:
                raise UserError(f"--demo_index: {self._indexes[model]} and {folder} are both of the model {model!r}")
            self._indexes[model] = Path(folder)
        # Read once: no name that a client sends ever becomes a path.
        self._files = {file.name: (_TYPES[file.suffix], file.read_bytes()) for file in sorted(_STATIC.iterdir())}

    def pages(self) -> Mapping[str, Page]:
        """Return what answers which path."""
        return {"/": lambda request: Response(302, "text/plain", b"", {"Location": START}), f"{START}*": self._answer}

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise invalid(f"Malformed request: {request.method} {request.path}")
        response = self._get(request.path.removeprefix(START))
        return response._replace(headers={**response.headers, **_HEADERS})

    def _get(self, path: str) -> Response:
        parts = [urllib.parse.unquote(part) for part in path.split("/")]
        if parts == ["models"]:
            models = [{"name": name, "pictures": name in self._indexes} for name in self._names()]
            return json_response(200, {"models": models})
        if len(parts) == 3 and parts[0] == "pictures":
            return Response(200, "image/jpeg", self._picture(parts[1], parts[2]))
        name = path or "index.html"
        if name not in self._files:
            raise not_found("Not Found")
        return Response(200, *self._files[name])

    def _picture(self, model: str, item: str) -> bytes:
        if model not in self._indexes:
            raise not_found(f"model {model!r} has no index with pictures here")
        try:
            with ItemStore(self._indexes[model]) as store:
                picture = store.thumbnail(item)
        except UserError as error:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        if picture is None:
            raise not_found(f"no picture of {item!r}")
        return picture
