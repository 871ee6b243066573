"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that it is whole or absent, whenever the process is killed or the disk is full."""
    # Not by `tempfile`, whose files only their owner may read: these have the permissions of any other file.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
