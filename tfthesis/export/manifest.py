"""`manifest.json`: what an export holds, and whether it still holds it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tfthesis.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _render(values: Mapping[str, Any]) -> str:
    """Return the one text of a manifest, which ends in the digest of the rest."""
    body = json.dumps({name: value for name, value in values.items() if name != "sha256"}, sort_keys=True, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-2]},\n "sha256": "{digest}"\n}}\n'


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write `manifest.json` with `values` (JSON) and the size and SHA-256 of every file in `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths
    }
    (folder / MANIFEST).write_text(_render({**values, "format": FORMAT, "files": files}), encoding="utf-8")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Return the manifest of the export in folder `path`, without a look at the other files.

    Raises:
        UserError: there is none, or it was changed after it was written.
    """
    file = Path(path) / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected the version folder of an export") from None
    except ValueError as error:
        raise UserError(f"{file}: damaged, it is not JSON ({error}); export again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or text != _render(values):
        raise UserError(f"{file}: damaged or of another format, it is not as it was written; export again")
    return values


def verify_export(path: str | Path) -> dict[str, Any]:
    """Return the manifest of the export in folder `path` after comparing every file with it.

    Files that the manifest does not name, such as a server's batching parameters, are left alone.

    Raises:
        UserError: a file is missing, or its size or content differs from the manifest.
    """
    values = read_manifest(path)
    for name, expected in values["files"].items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{path}: the manifest names a file outside the export: {name!r}")
        file = Path(path) / name
        if not file.is_file():
            raise UserError(f"{path}: {name} is missing; export or copy again")
        found = {"bytes": os.path.getsize(file), "sha256": _sha256(file)}
        if found != expected:
            raise UserError(f"{path}: {name} is damaged: expected {expected}, found {found}; export or copy again")
    return values
