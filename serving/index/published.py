"""The versions of an index: made from its items, taken back, checked, and waited for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from serving.client import Client, ClientError
from serving.index.assemble import assemble
from serving.index.item_store import ItemStore, ids_digest
from serving.sharded import parse_address
from tfthesis.errors import UserError
from tfthesis.export.manifest import read_manifest, verify_export
from tfthesis.export.publish import HIDDEN, versions

_TAKEN_BACK = ".taken-back-"
_POLL_SECONDS = 0.2


def export_digest(export: Path) -> str:
    """Return what tells an export from every other one.

    Raises:
        UserError: the folder holds no export, or it was changed.
    """
    return read_manifest(export)["sha256"]


def check_export(store: ItemStore) -> Path:
    """Return the export that the items were encoded with.

    Raises:
        UserError: it is gone, or another one is in its place.
    """
    export = Path(store.meta["export"])
    if export_digest(export) != store.meta["export_digest"]:
        raise UserError(
            f"{export}: another export than the one the items of {store.folder} were encoded with; "
            "build a new index for it"
        )
    return export


def rebuild(store: ItemStore) -> Path:
    """Publish the items as the next version of the model, and return its folder.

    Raises:
        UserError: there are no items, the export is gone, or what `assemble` raises; the versions stay as they are.
    """
    export = check_export(store)
    sequence, galleries = store.sequence(), store.galleries()
    if not galleries:
        raise UserError(f"{store.folder}: no items are left; a model needs at least one to search")
    target = Path(store.meta["target"])
    taken = [store.meta.get("highest_version", 0), *versions(target)]
    about = {
        "items": {
            "count": store.count(),
            "ids_sha256": ids_digest(galleries),
            "log_sequence": sequence,
            "dimension": store.meta["dimension"],
            "metric": "inner product",
            "export": {"folder": str(export), "sha256": store.meta["export_digest"]},
        }
    }
    for left in target.glob(f"{HIDDEN}*"):
        # Of a command that was killed; nobody else writes here while this one does.
        shutil.rmtree(left)
    version, start = max(taken) + 1, time.monotonic()
    # Before it appears: a number that was given away is never given again, not even after a kill.
    store.set_meta(highest_version=version)
    published = assemble(
        export,
        galleries,
        target,
        kind=store.meta["kind"],
        min_recall=store.meta["min_recall"],
        metadata=about,
        version=version,
    )
    seconds = round(time.monotonic() - start, 2)
    store.set_meta(published_sequence=sequence, last={"items": about["items"]["count"], "seconds": seconds})
    return published


def memory(count: int, dimension: int, export: Path) -> str:
    """Return what a version of `count` items takes, in words."""
    vectors = count * dimension * 4 / 2**20
    encoders = sum(file.stat().st_size for file in export.rglob("*") if file.is_file()) / 2**20
    return (
        f"{count} items of {dimension} numbers: {vectors:.1f} MiB of vectors beside an export of {encoders:.1f} MiB; "
        "making a version holds the vectors about four times, and a server holds all of it twice while one version "
        "replaces another"
    )


def prune(target: Path, keep: int) -> list[str]:
    """Delete all but the `keep` newest versions, and those that were taken back; returns their names."""
    old = [str(number) for number in versions(target)[:-keep]]
    gone = [*old, *sorted(path.name for path in target.glob(f"{_TAKEN_BACK}*"))]
    for name in gone:
        # First out of sight: a server must not see half of one.
        hidden = target / f"{HIDDEN}{name.strip('.')}"
        (target / name).rename(hidden)
        shutil.rmtree(hidden)
    return gone


def is_behind(store: ItemStore) -> bool:
    """Return whether items changed since the last version was published."""
    return store.sequence() != store.meta.get("published_sequence")


def take_back(target: Path, to: int | None = None) -> int:
    """Hide the highest version, or all above `to`, so that servers return to a lower one; returns its number.

    Raises:
        UserError: there is no lower version, or none of the number `to`.
    """
    present = versions(target)
    if len(present) < 2 and to is None:
        raise UserError(f"{target}: there is no lower version to return to, it has {present}")
    left = present[-2] if to is None else to
    if left not in present:
        raise UserError(f"{target}: there is no version {to}, it has {present}")
    # From the highest down: at every moment the highest one that is left is served.
    for number in reversed(present):
        if number > left:
            (target / str(number)).rename(target / f"{_TAKEN_BACK}{number}")
    return left


def verify(store: ItemStore) -> list[str]:
    """Check items, export and every published version; returns a line on each.

    Raises:
        UserError: something is damaged, or a version was not made from this index.
    """
    store.verify()
    lines = [f"items: {store.count()}, in order"]
    verify_export(check_export(store))
    lines.append(f"export {store.meta['export']}: in order")
    target = Path(store.meta["target"])
    held = None
    for number in versions(target):
        items = verify_export(target / str(number))["metadata"].get("items", {})
        if items.get("export", {}).get("sha256") != store.meta["export_digest"]:
            raise UserError(f"{target / str(number)}: it was not made from this index")
        if items["log_sequence"] == store.sequence() and items["ids_sha256"] != ids_digest(store.galleries()):
            raise UserError(f"{target / str(number)}: it holds other items than the index")
        lines.append(f"version {number}: {items['count']} items, change {items['log_sequence']}, in order")
        held = items["log_sequence"]
    if is_behind(store):
        lines.append("items changed since the last version: python -m serving.index rebuild")
    elif held != store.sequence():
        lines.append("the newest version was taken back: python -m serving.index rebuild --force publishes the items")
    return lines


def wait_until_served(address: str, model: str, version: int, seconds: float, say: Callable[[str], None]) -> None:
    """Return when the server at `address` answers with `version`.

    Raises:
        UserError: the version does not load there, or `seconds` have passed.
    """
    try:
        host, port = parse_address(address)
    except ValueError as error:
        raise UserError(f"--wait: {error}") from error
    end = time.monotonic() + seconds
    state = "no answer"
    with Client(host, port, model=model, timeout=5.0) as client:
        while time.monotonic() < end:
            try:
                found = {entry.version: entry for entry in client.status()}
            except ClientError as error:
                if error.code not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                    raise UserError(f"--wait {address}: {error.message}") from error
                found, state = {}, error.message
            if version in found:
                state = found[version].state
                if state == "AVAILABLE":
                    say(f"version {version} is served at {address}")
                    return
                # A version that was replaced before has ended too, without an error, and comes back.
                if found[version].error:
                    raise UserError(f"version {version} does not load at {address}: {found[version].error}")
            time.sleep(_POLL_SECONDS)
    raise UserError(f"version {version} is not served at {address} after {seconds:g} s: {state}")
