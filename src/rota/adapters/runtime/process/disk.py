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
    """The last lines of a text, an unfinished one among them; empty when there is no such file."""
    content, _ = _end_of(path, lines)
    found = content.split(b"\n")
    if not found[-1]:
        found.pop()
    return tuple(shown(line) for line in found[-lines:]) if lines else ()


def finished_tail(path: Path, lines: int) -> tuple[tuple[str, ...], int]:
    """The last finished lines, and the offset behind them, from where a reader goes on."""
    content, end = _end_of(path, lines + 1)
    *found, unfinished = content.split(b"\n")
    return tuple(shown(line) for line in found[-lines:]) if lines else (), end - len(unfinished)


def _end_of(path: Path, lines: int) -> tuple[bytes, int]:
    """The file's end from the beginning of a line on, at most 16 MiB of it, and its size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b"", 0
    try:
        size = offset = os.fstat(descriptor).st_size
        pieces: list[bytes] = []
        ends = 0
        while offset > 0 and ends <= lines and size - offset < _MOST_READ:
            length = min(_PIECE, offset)
            offset -= length
            pieces.append(os.pread(descriptor, length, offset))
            ends += pieces[-1].count(b"\n")
    finally:
        os.close(descriptor)
    content = b"".join(reversed(pieces))
    # The first line's own beginning was not read, unless it is all there is.
    return (content.partition(b"\n")[2] if offset > 0 and ends else content), size


def shown(line: bytes) -> str:
    """A line as text, cut at 64 KiB."""
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
