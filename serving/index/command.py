"""The command line of `python -m serving.index`.

Exit codes: 0 done, 1 it could not be done, 2 wrong arguments. Items are changed before a version is published: where
only the version fails, or the server that is waited for, the changed items stay and `rebuild` publishes them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfthesis.errors import UserError

if TYPE_CHECKING:
    from serving.index.item_store import ItemStore

OK, FAILED = 0, 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.index", description="Make and change what an exported model searches."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = _add(commands, "build", "make an index of items, and its first version")
    build.add_argument("--export", type=Path, required=True, metavar="DIR", help="version folder of an export")
    build.add_argument("--items", type=Path, required=True, metavar="PATH", help="folder of images, or a .jsonl file")
    build.add_argument("--name", required=True, help="of the model to serve")
    build.add_argument("--models", type=Path, default=Path("saved_models"), metavar="DIR", help="(saved_models)")
    build.add_argument("--kind", choices=("exact", "scann"), default="exact", help="of search (exact)")
    build.add_argument("--min-recall", type=_share, default=0.9, metavar="R", help="of scann at ten (.9)")
    build.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="K/N",
        help="take only the items of the Kth of N indexes, 1/N to N/N, for as many servers",
    )
    build.add_argument("--dry-run", action="store_true", help="say what it will take, and do nothing")
    _add_keep(build)
    add = _add(commands, "add", "add items, in place of those with the same ids, and publish a version")
    add.add_argument("--items", type=Path, required=True, metavar="PATH", help="folder of images, or a .jsonl file")
    add.add_argument("--later", action="store_true", help="leave the version to a rebuild")
    _add_keep(add)
    remove = _add(commands, "remove", "remove items, and publish a version")
    remove.add_argument("--id", action="append", required=True, metavar="ID", help="may be repeated")
    remove.add_argument("--later", action="store_true", help="leave the version to a rebuild")
    _add_keep(remove)
    rebuild = _add(commands, "rebuild", "publish a version if items changed since the last one")
    rebuild.add_argument("--force", action="store_true", help="also if none did, as after a rollback")
    rebuild.add_argument("--every", type=float, metavar="SECONDS", help="go on until it is told to end")
    _add_keep(rebuild)
    _add(commands, "verify", "check items, export and versions")
    rollback = _add(commands, "rollback", "hide the highest version, so that servers return to the one before")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="hide all above this one")
    _add_wait(rollback)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command says."""
    # TensorFlow's log repeats what arrives here as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = make_parser().parse_args(argv)
    try:
        _COMMANDS[arguments.command](arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return OK


def _build(arguments: argparse.Namespace) -> None:
    from serving.index.encode import encode_items, seconds_to_encode
    from serving.index.item_store import FILE, ItemStore, changing
    from serving.index.items import of_shard, read_items
    from serving.index.published import export_digest, memory
    from tfthesis.export.manifest import verify_export
    from tfthesis.export.publish import check_model_name, versions

    check_model_name(arguments.name)
    target = (arguments.models / arguments.name).resolve()
    if versions(target):
        raise UserError(f"{target} has versions already; choose another --name")
    manifest = verify_export(arguments.export)
    items = of_shard(read_items(arguments.items), arguments.shard)
    if not items:
        raise UserError(f"--shard {arguments.shard[0]}/{arguments.shard[1]}: none of the items belongs to it")
    dimension = _dimension(arguments.export, manifest)
    print(memory(len(items), dimension, arguments.export))
    if arguments.dry_run:
        print(f"encoding takes about {seconds_to_encode(arguments.export, items):.0f} s here")
        return
    meta = {
        "export": str(arguments.export.resolve()),
        "export_digest": export_digest(arguments.export),
        "dimension": dimension,
        "target": str(target),
        "kind": arguments.kind,
        "min_recall": arguments.min_recall,
        "shard": arguments.shard,
    }
    with changing(arguments.index, make=True):
        if (arguments.index / FILE).exists():
            with ItemStore(arguments.index) as store:
                # A build that was killed left items of which nothing was published; they are made again.
                if versions(Path(store.meta["target"])) or "published_sequence" in store.meta:
                    raise UserError(f"{arguments.index} is an index already; add to it, or choose another --index")
        batches = encode_items(arguments.export, items)
        ItemStore.create(arguments.index, meta, (item for batch in batches for item in batch))
        try:
            with ItemStore(arguments.index) as store:
                folder = _publish(store, arguments)
        except UserError:
            (arguments.index / FILE).unlink()
            raise
    _wait(folder, arguments)


def _change(arguments: argparse.Namespace) -> None:
    from serving.index.encode import encode_items
    from serving.index.item_store import ItemStore, changing
    from serving.index.items import is_of_shard, of_shard, read_items
    from serving.index.published import check_export, is_behind

    with changing(arguments.index), ItemStore(arguments.index) as store:
        shard = store.meta["shard"]
        if arguments.command == "remove":
            ids = [name for name in arguments.id if is_of_shard(name, shard)]
            print(f"removed {store.remove(ids)} items, {store.count()} are left")
        else:
            batches = encode_items(check_export(store), of_shard(read_items(arguments.items), shard))
            print(f"stored {store.upsert(item for batch in batches for item in batch)} items of {store.count()}")
        # On a shard it may be that none of the items was its own.
        if arguments.later or not is_behind(store):
            return
        folder = _publish(store, arguments)
    _wait(folder, arguments)


def _rebuild(arguments: argparse.Namespace) -> None:
    from serving.index.item_store import ItemStore, changing
    from serving.index.published import is_behind

    stop = threading.Event()
    if arguments.every is not None:
        if arguments.every <= 0:
            raise UserError(f"--every: expected more than 0 seconds, got {arguments.every:g}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    while True:
        try:
            folder = None
            with changing(arguments.index), ItemStore(arguments.index) as store:
                if arguments.force or is_behind(store):
                    folder = _publish(store, arguments)
                elif arguments.every is None:
                    print("no item changed since the last version")
            if folder is not None:
                _wait(folder, arguments)
        except UserError as error:
            if arguments.every is None:
                raise
            # What failed this time may be mended the next: another command was at work, the disk was full.
            print(f"error: {error}", file=sys.stderr, flush=True)
        if arguments.every is None or stop.wait(arguments.every):
            return


def _verify(arguments: argparse.Namespace) -> None:
    from serving.index.item_store import ItemStore
    from serving.index.published import verify

    with ItemStore(arguments.index) as store:
        print("\n".join(verify(store)))


def _rollback(arguments: argparse.Namespace) -> None:
    from serving.index.item_store import ItemStore, changing
    from serving.index.published import take_back

    with changing(arguments.index), ItemStore(arguments.index) as store:
        target = Path(store.meta["target"])
        version = take_back(target, arguments.to)
        print(f"the highest version is {version} now; the items stay, and the next version gets a new number")
    _wait(target / str(version), arguments)


def _publish(store: ItemStore, arguments: argparse.Namespace) -> Path:
    from serving.index.published import memory, prune, rebuild

    last = store.meta.get("last")
    if last:
        took = f"the last version took {last['seconds']:.1f} s for {last['items']}"
        print(f"{memory(store.count(), store.meta['dimension'], Path(store.meta['export']))}; {took}")
    folder = rebuild(store)
    print(f"published {folder} with {store.count()} items")
    if arguments.keep:
        for name in prune(folder.parent, arguments.keep):
            print(f"deleted {name}")
    return folder


def _wait(folder: Path, arguments: argparse.Namespace) -> None:
    """Wait for the version where it is asked for; nobody is kept from changing the index meanwhile."""
    from serving.index.published import wait_until_served

    if arguments.wait:
        wait_until_served(arguments.wait, folder.parent.name, int(folder.name), arguments.wait_seconds, print)


def _dimension(export: Path, manifest: dict) -> int:
    widths = {
        signature["outputs"]["embedding"]["shape"][-1]
        for name, signature in manifest["signatures"].items()
        if name in ("encode_image", "encode_text")
    }
    if len(widths) != 1 or None in widths:
        raise UserError(f"{export}: expected encode_image or encode_text with embeddings of one width, got {widths}")
    return widths.pop()


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, got {text!r}")
    return int(number), int(count)


def _add(commands, name: str, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    parser.add_argument("--index", type=Path, required=True, metavar="DIR", help="folder of the index")
    return parser


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return value


def _add_keep(parser: argparse.ArgumentParser) -> None:
    help = "delete all but the N newest versions, and those that were rolled back, after publishing (0: none)"
    parser.add_argument("--keep", type=_count, default=0, metavar="N", help=help)
    _add_wait(parser)


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", metavar="HOST:PORT", help="end when this server answers with the version")
    parser.add_argument("--wait-seconds", type=float, default=120.0, metavar="S", help="at most (120)")


_COMMANDS = {
    "build": _build,
    "add": _change,
    "remove": _change,
    "rebuild": _rebuild,
    "verify": _verify,
    "rollback": _rollback,
}
