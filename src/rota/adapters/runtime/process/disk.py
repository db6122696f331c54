"""What the process runtime asks of its file system beyond Python's own: a tree flushed, and one removed that an app has
made."""

from __future__ import annotations

import ctypes
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def flush(directory: Path) -> None:
    """All that was written to the directory's file system is on the disk (syncfs(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), f"cannot flush {directory}")
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Nothing is there any more, and nothing else is touched by way of a link. Raises OSError.

    However deep it goes: ``shutil.rmtree`` calls itself for each level, and a thousand of them, which any app can make,
    would have it break off for ever. Directories are moved to the top, one level after the other, and emptied there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    top = os.open(path, _DIRECTORY)
    try:
        while names := os.listdir(top):
            for name in names:
                _empty(name, top)
    finally:
        os.close(top)
    path.rmdir()


def _empty(name: str, top: int) -> None:
    """Takes an entry of the top away; what is a directory in it becomes one of the top."""
    if not _is_directory(name, top):
        os.unlink(name, dir_fd=top)
        return
    _open_up(name, top)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for below in os.listdir(directory):
            if _is_directory(below, directory):
                _open_up(below, directory)
                os.rename(below, secrets.token_hex(8), src_dir_fd=directory, dst_dir_fd=top)
            else:
                os.unlink(below, dir_fd=directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _open_up(name: str, parent: int) -> None:
    """For an owner that is not root: some tools leave directories that not even they may write to."""
    if os.geteuid() != 0:
        with suppress(OSError):
            os.chmod(name, 0o700, dir_fd=parent)
