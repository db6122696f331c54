"""Control: the Unix socket by which the daemon has the table read again, and knows that it is in force."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Self

from .answers import Answers
from .table import Table, Unreadable

_LONGEST_LINE = 1024


class Control:
    """``async with``: the socket is bound, then the table is read, in this order. ``listening`` is told to the daemon:
    questions are answered."""

    def __init__(self, path: Path, table: Path, answers: Answers) -> None:
        self._path = path
        self._table = table
        self._answers = answers
        self._server: asyncio.Server | None = None
        self.listening = False

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._speak, str(self._path), limit=_LONGEST_LINE)
        self.load()
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._server is not None  # noqa: S101 - between enter and exit
        self._server.close()
        self._path.unlink(missing_ok=True)

    def load(self) -> str:
        """Reads the table again and returns why it could not, if so; the one before stays in force then."""
        try:
            self._answers.use(Table.read(self._table))
        except Unreadable as error:
            sys.stderr.write(f"rota nameserver: {error}\n")
            return str(error)
        return ""

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readline()).strip() == b"load":
                error = self.load()
                told = {"error": error} if error else {"version": self._answers.version, "listening": self.listening}
                writer.write(json.dumps(told).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # the daemon has gone, or wrote what is no line
            pass
        finally:
            writer.close()
