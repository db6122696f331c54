"""What the process runtime asks of its file system beyond Python's own: a tree flushed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def flush(directory: Path) -> None:
    """All that was written to the directory's file system is on the disk (syncfs(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), f"cannot flush {directory}")
    finally:
        os.close(descriptor)
