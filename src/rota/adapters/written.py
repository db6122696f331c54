"""What others write into files, read from the end or followed as it grows: the logs of process replicas and the
balancer's access log."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_LINE = 64 * 1024
_PIECE = 64 * 1024
_FOLLOWED_PIECE = 256 * 1024
_MOST_READ = 16 * 2**20


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
        begin = _first_written(descriptor, size)
        pieces: list[bytes] = []
        ends = 0
        while offset > begin and ends <= lines and size - offset < _MOST_READ:
            length = min(_PIECE, offset - begin)
            offset -= length
            pieces.append(os.pread(descriptor, length, offset))
            ends += pieces[-1].count(b"\n")
    finally:
        os.close(descriptor)
    content = b"".join(reversed(pieces))
    # The first line's own beginning was not read, unless it is all there is.
    return (content.partition(b"\n")[2] if offset > begin and ends else content), size


def _first_written(descriptor: int, size: int) -> int:
    """Where the file's hole ends: a writer that does not append leaves one where its log was cut (keeper.log)."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError:  # nothing but a hole, or nothing
        return size


def shown(line: bytes) -> str:
    """A line as text, cut at 64 KiB."""
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")


class Follower:
    """A place in a file that grows, and is cut to nothing when it is rotated (copied and truncated)."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._begun = b""
        self._cutting = False

    def next_lines(self) -> list[str]:
        """The complete lines of the next piece; empty when there is nothing more at the moment."""
        while piece := self._next_piece():
            *lines, rest = (self._begun + piece).split(b"\n")
            if lines and self._cutting:
                lines, self._cutting = lines[1:], False  # the end of a line that was given already
            self._begun = rest
            if len(rest) > LONGEST_LINE:
                if not self._cutting:
                    lines.append(rest)
                self._begun, self._cutting = b"", True
            if lines:
                return [shown(line) for line in lines]
        return []

    def rest(self) -> str:
        """A last line that was never ended."""
        return "" if self._cutting else shown(self._begun)

    def _next_piece(self) -> bytes:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b""
        try:
            if os.fstat(descriptor).st_size < self._offset:
                self._offset, self._begun, self._cutting = 0, b"", False
            if not self._offset:
                self._offset = _first_written(descriptor, 0)
            piece = os.pread(descriptor, _FOLLOWED_PIECE, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(piece)
        return piece
