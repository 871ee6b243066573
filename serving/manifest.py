"""What the manifest of an export tells a server: whether the copy is whole, and what it was made with."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from tfthesis.export.manifest import MANIFEST, read_manifest


def has_manifest(path: Path) -> bool:
    """Return whether the version folder `path` is an export of this project."""
    return (path / MANIFEST).is_file()


def missing_files(path: Path) -> list[str]:
    """Return the files that the export in `path` does not have in the size that its manifest says.

    Raises:
        tfthesis.errors.UserError: the manifest is not as it was written.
    """
    sizes = {name: entry["bytes"] for name, entry in read_manifest(path)["files"].items()}
    return [name for name, size in sizes.items() if _size(path / name) != size]


def other_versions(path: Path) -> list[str]:
    """Return the packages whose minor version here is not the one that the export in `path` was made with."""
    differences = []
    for package, then in read_manifest(path).get("versions", {}).items():
        now = _installed(package)
        if then and now and then.split(".")[:2] != now.split(".")[:2]:
            differences.append(f"{package} {then}, here {now}")
    return differences


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return -1
