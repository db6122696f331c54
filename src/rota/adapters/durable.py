"""A small file that is whole or not there, whatever happens to the machine; used by the adapters that keep one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, text: str, *, sync: bool = True) -> None:
    """Temporary file (mode 0600), fsync, rename, fsync of the directory. Raises OSError, the old file being whole.
    Without ``sync`` it outlives this process, not the machine, and waits for no disk."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """What was created, renamed or removed in the directory is on the disk when it returns. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
