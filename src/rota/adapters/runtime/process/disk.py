"""The few things the process runtime asks of files beyond Python's own: a tree flushed, a text's last lines."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

LONGEST_LINE = 64 * 1024
_PIECE = 64 * 1024
_MOST_READ = 16 * 2**20


def flush(directory: Path) -> None:
    """All that was written to the directory's file system is on the disk (syncfs(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), f"cannot flush {directory}")
    finally:
        os.close(descriptor)


def written_tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a text, read from its end, at most 16 MiB of it; empty when there is no such file."""
    return tail(path, lines)[0]


def tail(path: Path, lines: int) -> tuple[tuple[str, ...], int]:
    """The last lines and the offset at which they end; a last line that is not complete yet is left out unless it is
    all there is to come (that is the caller's to know), so it is given as well and the offset is the file's end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return (), 0
    try:
        end = offset = os.fstat(descriptor).st_size
        content = b""
        while offset > 0 and content.count(b"\n") <= lines and end - offset < _MOST_READ:
            piece = min(_PIECE, offset)
            offset -= piece
            content = os.pread(descriptor, piece, offset) + content
    finally:
        os.close(descriptor)
    found = content.split(b"\n")
    if found and not found[-1]:
        found.pop()
    if offset > 0:
        found = found[1:]  # its beginning was not read
    return tuple(shown(line) for line in (found[-lines:] if lines else [])), end


def shown(line: bytes) -> str:
    """A line as text, cut at 64 KiB."""
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
