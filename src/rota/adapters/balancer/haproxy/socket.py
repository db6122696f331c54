"""HAProxy's command line over a Unix socket: one line in, text out; used by worker.py and reloads.py."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from rota.core.errors import StepFailed

DEADLINE = 5.0
"""Seconds for one call; HAProxy answers in milliseconds, so a longer silence is a failure."""

_PROMPT = b"\n> "
_LIMIT = 16 * 2**20
_PIECE = 256 * 1024


class NotAnswering(StepFailed):
    """HAProxy is not there, or says nothing."""


async def call(path: Path, line: str, deadline: float = DEADLINE) -> str:
    """Sends one line (commands joined by ``;``, or one with a payload) and returns all that comes back.

    Raises NotAnswering."""
    try:
        async with asyncio.timeout(deadline):
            # A bare socket: asyncio's streams cost several times as much, and the engine looks here at every turn.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                return (await _ask(connection, path, line)).decode(errors="replace")
    except (OSError, TimeoutError) as error:
        raise NotAnswering(f"HAProxy does not answer on {path}: {error or 'no answer in time'}") from error


async def _ask(connection: socket.socket, path: Path, line: str) -> bytes:
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    await loop.sock_connect(connection, str(path))
    await loop.sock_sendall(connection, line.encode() + b"\n")
    connection.shutdown(socket.SHUT_WR)
    pieces = []
    while piece := await loop.sock_recv(connection, _PIECE):
        pieces.append(piece)
    return b"".join(pieces)


class Conversation:
    """A connection that stays open: HAProxy does not end a process that has one. Not for two callers at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> Conversation:
        """Raises NotAnswering."""
        try:
            async with asyncio.timeout(DEADLINE):
                reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT)
        except (OSError, TimeoutError) as error:
            raise NotAnswering(f"HAProxy does not answer on {path}: {error or 'no answer in time'}") from error
        conversation = cls(reader, writer)
        await conversation.ask("prompt")
        return conversation

    async def ask(self, line: str) -> str:
        """Raises NotAnswering when the process has ended."""
        try:
            async with asyncio.timeout(DEADLINE):
                self._writer.write(line.encode() + b"\n")
                answer = await self._reader.readuntil(_PROMPT)
        except (OSError, EOFError, TimeoutError) as error:
            raise NotAnswering("the HAProxy process has ended") from error
        return answer[: -len(_PROMPT)].decode(errors="replace")

    def close(self) -> None:
        self._writer.close()
