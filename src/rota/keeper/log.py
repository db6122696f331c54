"""A child's log file, rotated by copy and truncate: its writers need not know; called by the children."""

import os
from contextlib import suppress
from pathlib import Path

DEFAULT_LIMIT = 10 * 1024 * 1024
_PIECE = 1024 * 1024
_MOST_COPIED = 4


def rotate(path: Path, limit: int) -> bool:
    """Move a log of more than `limit` bytes to `.1`, the former `.1` to `.2`; returns whether it was time.

    Writers have it open for appending and go on at 0. HAProxy goes on where it was, for it turns appending off: the
    hole that this leaves before its next line takes no room, counts for nothing and is not copied. What is written
    between the last piece copied and the cut is lost. Of a log that ran away only the last `4 * limit` bytes are kept:
    no copy may delay the loop. Raises OSError with the log as it was, when there is no room for the copy.
    """
    try:
        log = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(log).st_size
        begin = _first_written(log) if size > limit else 0
        if size - begin <= limit:
            return False
        copy = path.with_name(path.name + ".new")
        try:
            _copy(log, copy, max(begin, size - _MOST_COPIED * limit), 2 * _MOST_COPIED * limit)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        with suppress(FileNotFoundError):
            path.with_name(path.name + ".1").replace(path.with_name(path.name + ".2"))
        # A name is moved in no time: the gap between the last byte read and the cut stays small.
        os.ftruncate(log, 0)
        copy.replace(path.with_name(path.name + ".1"))
        return True
    finally:
        os.close(log)


def _first_written(log: int) -> int:
    try:
        return os.lseek(log, 0, os.SEEK_DATA)
    except OSError:  # all of it is a hole
        return os.fstat(log).st_size


def _copy(log: int, copy: Path, offset: int, most: int) -> None:
    with open(copy, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as target:
        while most > 0 and (piece := os.pread(log, _PIECE, offset)):
            target.write(piece)
            offset += len(piece)
            most -= len(piece)
