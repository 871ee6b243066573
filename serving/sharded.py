"""Search in an index that is spread over several servers.

Each server has the model of one shard (`python -m serving.index build --shard 1/2`), all under the same name. Every
server is asked at the same time, and the best of what they find is the answer of one server that had all items: a
shard returns its best items, and an item that is among the best of all is among the best of its shard. Where several
items have one score, which of them come may differ; and an approximate index of a shard misses other items than one of
all items would.

>>> with ShardedClient(["10.0.0.1:8500", "10.0.0.2:8500"], model="photos") as client:
...     client.search_by_text(["a red cube"])
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from serving.client import Client, ClientError, Hit

#: Items that the searches of this project's exports return.
RESULTS = 20

logger = logging.getLogger(__name__)


class ShardedClient:
    """Connections to the servers of all shards; usable in a `with` block, which closes them."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        model: str | None = None,
        timeout: float = 30.0,
        wait: float = 0.0,
        may_fail: int = 0,
        results: int = RESULTS,
    ):
        """Connect on the first question.

        Args:
            addresses: HOST:PORT of each shard's server.
            model: as of `Client`.
            timeout: of one question, in seconds.
            wait: seconds to wait for servers that are still starting.
            may_fail: so many shards may fail a question, which then is answered without their items, and logged.
            results: that the served search returns; more of the merged ones would not be those of one index, since
                a shard has items behind its last one that nobody has seen.

        Raises:
            ValueError: there are no addresses, one is there twice or is not HOST:PORT, or all shards may fail.
        """
        if not addresses or len(set(addresses)) < len(addresses):
            raise ValueError(f"addresses: expected different HOST:PORT, at least one, got {list(addresses)}")
        if not 0 <= may_fail < len(addresses):
            raise ValueError(f"may_fail: expected 0 to {len(addresses) - 1} of {len(addresses)} shards, got {may_fail}")
        self._may_fail = may_fail
        self._results = results
        self._clients = [
            Client(*parse_address(address), model=model, timeout=timeout, wait=wait) for address in addresses
        ]
        self._pool = concurrent.futures.ThreadPoolExecutor(len(addresses), thread_name_prefix="shard")

    def __enter__(self) -> ShardedClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()

    def search_by_text(
        self, texts: Sequence[str], *, model: str | None = None, top: int | None = None
    ) -> list[list[Hit]]:
        """Return the nearest images of each text, best first, `top` at most.

        Raises:
            ClientError: more than `may_fail` shards failed; the message names their servers.
        """
        return self._merge(lambda client: client.search_by_text(texts, model=model), top)

    def search_by_image(
        self, images: Sequence[bytes | Path], *, model: str | None = None, top: int | None = None
    ) -> list[list[Hit]]:
        """Return the nearest texts of each image, given as encoded bytes or files, best first, `top` at most.

        Raises:
            ClientError: more than `may_fail` shards failed; the message names their servers.
            OSError: a file cannot be read.
        """
        data = [image if isinstance(image, bytes) else Path(image).read_bytes() for image in images]
        return self._merge(lambda client: client.search_by_image(data, model=model), top)

    def _merge(self, ask: Callable[[Client], list[list[Hit]]], top: int | None) -> list[list[Hit]]:
        answers = self._ask_all(ask)
        count = self._results if top is None else min(top, self._results)
        return [_best([answer[query] for answer in answers], count) for query in range(len(answers[0]))]

    def _ask_all(self, ask: Callable[[Client], list[list[Hit]]]) -> list[list[list[Hit]]]:
        futures = [self._pool.submit(ask, client) for client in self._clients]
        answers, failures, lacking = [], [], []
        for client, future in zip(self._clients, futures, strict=True):
            try:
                answers.append(future.result())
            except ClientError as error:
                (lacking if _lacks_search(error) else failures).append((client.address, error))
        if not answers:
            # Then it is no shard without items of that kind, but a search that there is not.
            failures += lacking
        if len(failures) > self._may_fail:
            named = "; ".join(f"shard {address}: {error.message}" for address, error in failures)
            raise ClientError(failures[0][1].code, named)
        for address, error in failures:
            logger.warning("answered without shard %s: %s", address, error.message)
        return answers


def _lacks_search(error: ClientError) -> bool:
    """Return whether a server has no such search, as that of a shard in which no item of the modality lies."""
    return error.code is grpc.StatusCode.FAILED_PRECONDITION and "signature" in error.message


def _best(found: Sequence[Sequence[Hit]], count: int) -> list[Hit]:
    """Return the `count` best of the lists of several shards."""
    return sorted((hit for hits in found for hit in hits), key=lambda hit: (-hit.score, hit.id))[:count]


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT.

    Raises:
        ValueError: it is something else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"expected HOST:PORT, got {address!r}")
    return host, int(port)
