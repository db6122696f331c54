"""Finds the keeper of a data directory, or starts one that outlives whoever started it; used by client."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rota.core.errors import StepFailed

_LOOK_AGAIN = 0.01
_LONGEST_LINE = 64 * 2**20  # the reply to watch holds all children
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class KeeperLost(StepFailed):
    """There is no keeper at the moment; nothing can be started or stopped until there is one."""


async def ensure_keeper(data_dir: Path, launch: Sequence[str] | None = None, patience: float = 10.0) -> Connection:
    """A connection to a keeper that answers; started when none does. Raises KeeperLost after ``patience`` seconds, or
    at once when the new one says why it cannot run."""
    socket = data_dir / "keeper.sock"
    try:
        return await _answering(socket, patience)
    except (OSError, TimeoutError):
        pid = _spawned(data_dir, launch or [sys.executable, "-m", "rota", "keeper", "--data-dir", str(data_dir)])
    try:
        async with asyncio.timeout(patience):
            return await _first_answer(socket, pid, patience)
    except TimeoutError:
        raise KeeperLost(_failure(data_dir, f"does not answer within {patience:g} s")) from None
    except ChildProcessError as ended:
        raise KeeperLost(_failure(data_dir, str(ended))) from None


async def _answering(socket: Path, patience: float) -> Connection:
    reader, writer = await asyncio.open_unix_connection(socket, limit=_LONGEST_LINE)
    try:
        writer.write(b'{"id": 0, "op": "ping"}\n')
        async with asyncio.timeout(patience):
            if not await reader.readline():
                raise ConnectionResetError("closed without an answer")
    except (OSError, TimeoutError):
        writer.close()
        raise
    return reader, writer


async def _first_answer(socket: Path, pid: int, patience: float) -> Connection:
    """Asks again and again; one that has ended may have found another one that runs already."""
    while True:
        ended = _end_of(pid)
        with suppress(OSError):
            return await _answering(socket, patience)
        if ended:
            raise ChildProcessError(ended)
        await asyncio.sleep(_LOOK_AGAIN)


def _spawned(data_dir: Path, argv: Sequence[str]) -> int:
    try:
        return _spawn(data_dir, argv)
    except OSError as error:
        raise KeeperLost(f"the keeper of {data_dir} cannot be started by {argv[0]}: {error.strerror}") from error


def _spawn(data_dir: Path, argv: Sequence[str]) -> int:
    """In a session of its own, with none of our descriptors, its stderr in a file. Not by subprocess or asyncio: their
    objects end the process, or complain, when they are dropped while it runs."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = str(data_dir / "keeper.log")
    return os.posix_spawn(
        argv[0],
        list(argv),
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
    )


def _end_of(pid: int) -> str:
    """How the process has ended, reaping it; empty while it runs."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "ended"
    return f"ended at once with {os.waitstatus_to_exitcode(status)}" if reaped else ""


def _failure(data_dir: Path, what: str) -> str:
    with suppress(OSError, IndexError):
        last = (data_dir / "keeper.log").read_text(errors="replace").splitlines()[-1]
        return f"the keeper of {data_dir} {what}: {last.strip()} (its log: {data_dir / 'keeper.log'})"
    return f"the keeper of {data_dir} {what}"
