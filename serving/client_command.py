"""The command line of `python -m serving.client`.

Exit codes: 0 answered, 1 the server refused, 2 wrong arguments, 3 no server answers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from serving.client import Client, ClientError, Hit, Label
from serving.sharded import ShardedClient

OK, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description="Search with a served model, or ask what it is."
    )
    add = parser.add_argument
    add("--text", action="append", default=[], metavar="TEXT", help="find the images of this text; may be repeated")
    add(
        "--image",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="find the texts of this image; may be repeated",
    )
    add("--classify", action="store_true", help="name the classes of --image, --text, or the pair of them, instead")
    add("--status", action="store_true", help="print the state of the model's versions")
    add("--metadata", action="store_true", help="print the model's signatures")
    add("--model", metavar="NAME", help="model to ask; may be left out where the server has only one")
    add("--top", type=int, default=5, metavar="K", help="answers a question (5)")
    add("--host", default="127.0.0.1", help="(127.0.0.1)")
    add("--port", type=int, default=8500, help="(8500)")
    add(
        "--shard",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="instead of --host and --port: a server of each shard of an index, for --text and --image; repeated",
    )
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="of one question (30)")
    add("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for a server that is starting")
    add("--json", action="store_true", help="print JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, print the answers, return the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = make_parser()
    arguments = parser.parse_args(argv)
    asked = bool(arguments.text or arguments.image)
    if asked + arguments.status + arguments.metadata != 1:
        parser.error("expected a question (--text, --image), or --status, or --metadata")
    if arguments.classify and not asked:
        parser.error("--classify needs --image, --text, or both")
    if arguments.classify and arguments.image and arguments.text and len(arguments.image) != len(arguments.text):
        parser.error("--classify takes as many --image as --text, in pairs")
    if arguments.top < 1:
        parser.error(f"--top: expected at least 1, got {arguments.top}")
    if arguments.shard and (arguments.classify or not asked):
        parser.error("--shard is for searches, --text or --image without --classify")
    try:
        with _connect(arguments, parser) as client:
            _ask(client, arguments)
    except OSError as error:
        print(f"error: --image {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    except ClientError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return UNREACHABLE if error.code is grpc.StatusCode.UNAVAILABLE else REFUSED
    return OK


def _connect(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Client | ShardedClient:
    how = {"model": arguments.model, "timeout": arguments.timeout, "wait": arguments.wait}
    if not arguments.shard:
        return Client(arguments.host, arguments.port, **how)
    try:
        return ShardedClient(arguments.shard, **how)
    except ValueError as error:
        parser.error(f"--shard: {error}")


def _ask(client: Client | ShardedClient, arguments: argparse.Namespace) -> None:
    if arguments.status:
        _show(arguments, [state._asdict() for state in client.status()], _status_lines)
    elif arguments.metadata:
        _show(arguments, client.metadata(), _metadata_lines)
    elif arguments.classify:
        labels = client.classify(images=arguments.image, texts=arguments.text, top=arguments.top)
        given = [names for names in (arguments.image, arguments.text) if names]
        queries = [" + ".join(map(str, query)) for query in zip(*given, strict=False)]
        _show(arguments, _answers(queries, labels), _answer_lines)
    else:
        answers = []
        if arguments.text:
            answers += _answers(arguments.text, client.search_by_text(arguments.text, top=arguments.top))
        if arguments.image:
            found = client.search_by_image(arguments.image, top=arguments.top)
            answers += _answers([str(image) for image in arguments.image], found)
        _show(arguments, answers, _answer_lines)


def _answers(queries: Sequence[str], found: Sequence[Sequence[Hit | Label]]) -> list[dict[str, Any]]:
    return [
        {"query": query, "answers": [answer._asdict() for answer in answers]}
        for query, answers in zip(queries, found, strict=True)
    ]


def _show(arguments: argparse.Namespace, value: Any, lines: Callable[[Any], Iterator[str]]) -> None:
    if arguments.json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(value)))


def _answer_lines(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for answer in answers:
        yield answer["query"]
        for rank, item in enumerate(answer["answers"], 1):
            if "id" in item:
                yield f"  {rank}. {item['score']:7.4f}  {item['id']}  {item['payload']}".rstrip()
            else:
                mark = "  (predicted)" if item["predicted"] else ""
                yield f"  {rank}. {item['probability']:7.4f}  {item['name']}{mark}"


def _status_lines(states: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for state in states:
        yield f"version {state['version']}: {state['state']} {state['error']}".rstrip()


def _metadata_lines(signatures: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[str]:
    for name, sides in signatures.items():
        yield name
        for side, tensors in sides.items():
            yield from (f"  {side[:-1]:6}  {alias}: {described}" for alias, described in tensors.items())
